"""The OpenAI chat protocol over HTTP, in front of the scheduler."""
