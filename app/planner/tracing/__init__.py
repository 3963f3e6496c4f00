"""The real training step under fake tensors, in a child: the check of the formulas."""
