"""What is wrong with rows before they are trained on, and which of them are not trained."""
