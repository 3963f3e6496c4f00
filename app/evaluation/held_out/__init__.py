"""Evaluation on rows that were not trained: what is asked, the job in the batched engine, and what came of it."""
