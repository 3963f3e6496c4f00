"""What came of runs: curves, figures, a verdict, and runs side by side."""
