"""Measurements of the workbench, each with its peer beside it; see README.md."""
