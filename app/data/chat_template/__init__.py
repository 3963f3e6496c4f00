"""Conversation -> text -> tokens and loss mask, through the model's own chat template.

templates                the model's own chat template, or a plain one for models without
tokenizer                the fast tokenizer of a model folder, without torch
message_style            how messages are handed to a template
layout, layout_finder    where the turns lie in what a template writes
text_probe               which texts a template writes as they stand
tokens                   which tokens stand for which characters
render                   all of it together, with the proof of the mask
cpu_limit                templates are foreign code: an end for those that never end
"""
