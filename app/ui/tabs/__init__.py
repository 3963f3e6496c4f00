"""One file a tab; a tab builds its controls and wires its handlers."""
