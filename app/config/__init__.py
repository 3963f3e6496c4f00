"""RunConfig and what belongs to it: the schema, rules between settings, parsing, presets."""
