"""Memory at rest, by what it holds: weights, key-value cache, optimizer states, overhead."""
