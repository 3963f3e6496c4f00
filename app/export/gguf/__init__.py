"""GGUF files for llama.cpp and what is built on it: models and adapters, written tensor by tensor."""
