"""Pieces of the page that any tab uses: markup, charts, forms, messages, numbers."""
