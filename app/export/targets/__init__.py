"""Files for other programs: Ollama, vLLM, the hub, a clean folder; each with a report."""
