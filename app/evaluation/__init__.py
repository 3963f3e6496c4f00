"""What came of training: prompt suites, blind votes and the scores that come of them."""
