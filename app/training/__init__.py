"""What the training child runs.

Everything but `checkpoints`, `ladder` and `settings` imports torch and is for child processes only.
"""
