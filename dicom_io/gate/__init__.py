"""The admission gate: which images are read, by rules over header attributes."""
