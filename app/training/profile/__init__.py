"""Where the time of a training step goes: a few real steps under a stopwatch."""
