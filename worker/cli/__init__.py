"""The command line: one module for each group; a command parses its options, calls one function, prints."""
