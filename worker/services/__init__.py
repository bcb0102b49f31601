"""The composition root of each process: settings read once, parts built and connected, run until stopped."""
