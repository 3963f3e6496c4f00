"""The families that GGUF files are written for, and what they hold besides plain attention."""
