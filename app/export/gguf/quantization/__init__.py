"""Number formats, which tensor gets which, and llama.cpp's own quantiser."""
