"""Base + adapter -> a standalone model, tensor by tensor, with a report."""
