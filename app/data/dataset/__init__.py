"""Rows -> the tokenised dataset that training reads.

options        what a person may choose
examples       the only way from a row to tokens, for preview and training alike
outcomes       what becomes of a row; makers chooses the maker of an objective (preference_rows for pairs and thumbs)
token_preview  the tokens of one row
auditing/      what is empty, double, cut, leaked or sensitive; pairs of answers; the rows that are left out
repairs        what can be mended without guessing
packing        best-fit-decreasing packing
build          Arrow files (arrow_files) under a content hash
convert        canonical messages as JSONL or Parquet
gc_pause       rarer garbage collection while millions of rows go by
"""
