"""What the training child runs.

All but `checkpoints`, `memory.oom_fallback` and `trainers.settings` imports torch and is for child processes only.
"""
