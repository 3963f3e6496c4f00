"""One verb a file: parse, request, answer, print."""
