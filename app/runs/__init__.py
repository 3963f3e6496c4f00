"""Training runs as a person handles them: submit, sweep, compare, try, export, and a script that repeats one."""
