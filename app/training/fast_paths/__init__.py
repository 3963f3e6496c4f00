"""Faster ways to compute the same: attention by document, fused LoRA, kept weights, the head of trained tokens."""
