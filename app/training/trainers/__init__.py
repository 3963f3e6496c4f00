"""What TRL and PEFT are given, and the trainers on top of theirs."""
