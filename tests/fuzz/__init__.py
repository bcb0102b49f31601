"""Fuzzing: mutated data sets and mutated PDUs, seeded, bounded; ``make fuzz`` runs many, the tests a few."""
