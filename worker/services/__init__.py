"""The composition root of each process: reads the settings once, builds and connects the parts, runs until stopped."""
