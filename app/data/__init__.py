"""From a file of rows to the very tokens a model is trained on.

    sources -> readers -> formats -> conversation -> render (tokens + loss mask) -> audit -> build

    limits         caps that keep a hostile or broken file from costing memory or time
    sources        files, folders, archives and pasted text as streams of bytes
    encodings      the text encoding of a stream, and its lines with their numbers
    rows           a row and a problem, both with their line
    json_rows, table_rows, prose_rows, arrow_rows    one reader per kind of file
    readers        choose the reader and number the rows
    formats        name the format of a row and say why
    shapes, turn_lists      rows and lists of turns as public data sets spell them
    columns, marked_text    names of columns, and marks in text, that tell formats apart
    conversation   turns and tool calls
    conversions    from a row of each format to a conversation
    templates      chat templates: the model's own, or a plain one
    tokenizer      the fast tokenizer of a model folder, without torch
    skeleton, skeleton_builder, dialect    where the turns lie in what a template writes
    opaque         which texts a template writes as they stand
    render         conversation -> text -> tokens and loss mask, with proof
    options        what a person may choose
    examples       all of the above for one row: the only way from a row to tokens
    show           the tokens of one row
    audit          what is empty, double, cut, leaked or secret (duplicates, secrets, repairs)
    packing        best-fit-decreasing packing
    build          tokenised Arrow files (arrow_files) under a content hash
    convert        canonical messages as JSONL or Parquet
    dropped        the rows that are not trained, each with its reason
    mappings       column mappings under names
    hub_sets       which files of a hub dataset hold its rows
    child, client  the same work in a process with limits, and how to talk to it

Importing this package imports nothing heavy: the page and the command line may do so.
"""
