"""The memory of a run: measured, spent on speed, and what to do when it runs out."""
