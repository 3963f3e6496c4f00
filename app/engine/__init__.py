"""The playground engine: one base, any number of adapters, one batch; spoken to in the OpenAI chat protocol."""
