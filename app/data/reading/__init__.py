"""File -> raw rows.

inputs       files, folders, archives and pasted text as streams of bytes
encodings    the text encoding of a stream, and its lines with their numbers
json_rows, tables, text, arrow    one reader per kind of file
documents    web pages and subtitles, and which markup is refused
zip_documents    which document a zip really is
spreadsheets, rich_text, books    XLSX and ODS; DOCX and ODT; EPUB
chat_exports    conversations of ChatGPT's export
code_pages    which code page a text is in
readers      choose the reader and number the rows
rows         a row and a problem, both with their line
limits       caps that keep a hostile or broken file from costing memory or time
"""
