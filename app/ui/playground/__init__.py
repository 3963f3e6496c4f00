"""The playground: the columns, and one module a mode."""
