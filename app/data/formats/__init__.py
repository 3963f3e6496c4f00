"""Raw row -> conversation.

detection                   name the format of rows, and say why
columns, turn_markers       names of columns, and marks in text, that tell formats apart
hub_layouts, message_lists  rows and lists of messages as public datasets spell them
conversions                 from a row of each format to a conversation
conversation                turns and tool calls
mappings                    column mappings under names
"""
