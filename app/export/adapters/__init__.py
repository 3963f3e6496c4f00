"""Adapters among themselves: blended, inspected, copied clean."""
