"""From a file of rows to the very tokens a model is trained on.

    reading -> formats -> chat_template -> dataset

    reading          file -> raw rows
    formats          raw row -> conversation
    chat_template    conversation -> tokens and loss mask
    dataset          options, audit, packing, and the Arrow files that training reads
    messages         what the process below is asked and answers
    worker, client   the same work in a process with limits on time and memory, and how to talk to it

Importing this package imports nothing heavy: the page and the command line may do so.
"""
