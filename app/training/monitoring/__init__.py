"""What is read of a run while it trains: metrics, samples, the machine, losses that go wrong."""
