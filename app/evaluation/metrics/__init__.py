"""What an answer is held against, and how sure the figures are."""
