"""The Playground tab: did it learn what I wanted? One module a mode."""
