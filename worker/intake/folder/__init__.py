"""The watched folder: files found, taken, and moved to `done` or `failed`."""
