"""What would fit instead, or better: cards, methods, lengths, remedies, and memory spent on speed."""
