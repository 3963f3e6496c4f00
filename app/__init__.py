"""LoRA Workbench: plan, format, train, compare and take away LoRA adapters on one consumer GPU."""

__version__ = "0.1.0"
