"""Jobs: the one mechanism of all long work. See docs/job-directory.md for the contract on disk."""
