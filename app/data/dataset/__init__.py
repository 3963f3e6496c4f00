"""Rows -> the tokenised dataset that training reads.

options        what a person may choose
examples       the only way from a row to tokens, for preview and training alike
token_preview  the tokens of one row
audit          what is empty, double, cut, leaked or sensitive (duplicates, sensitive, repairs)
packing        best-fit-decreasing packing
build          Arrow files (arrow_files) under a content hash
convert        canonical messages as JSONL or Parquet
rejected       the rows that are not trained, each with its reason
gc_pause       rarer garbage collection while millions of rows go by
"""
