"""File -> raw rows.

readers      choose the reader and number the rows
inputs       files, folders, archives and pasted text as streams of bytes
encodings    the text encoding of a stream, and its lines with their numbers; code_pages decides the hard cases
rows         a row and a problem, both with their line
limits       caps that keep a hostile or broken file from costing memory or time
records/     JSON (and chats as programs export them), CSV, spreadsheets, Parquet and Arrow
documents/   plain text, web pages and subtitles, DOCX and ODT, EPUB; which document a zip really is
"""
