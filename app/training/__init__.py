"""What the training child runs. Everything but `checkpoints` imports torch and is for child processes only."""
