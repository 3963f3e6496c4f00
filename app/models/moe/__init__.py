"""Experts of a mixture: as they compute, as they are loaded in 4 bits, and the format that some are stored in."""
