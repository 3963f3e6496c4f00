"""The command line: every verb is a thin call into one room. The contract is in docs/commands.md."""
