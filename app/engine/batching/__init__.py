"""Many sequences and many adapters in one forward pass."""
