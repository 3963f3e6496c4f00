"""Serve the page: guard, the framework's files as they go out, long answers by short polls."""
