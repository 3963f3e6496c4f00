"""What a small file costs, measured against the model in 16 bits."""
