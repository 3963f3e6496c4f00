"""Hand in work: one run, a sweep, a measurement; and what is known of it before it starts."""
