"""What is done with the shown run: its box, its script, and where the time of its steps goes."""
