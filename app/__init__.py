"""LoRA Workbench: plan, format, train, compare and export LoRA adapters on one consumer GPU."""

__version__ = "0.1.0"
