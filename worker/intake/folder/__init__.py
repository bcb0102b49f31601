"""The watched folder: files are found, imported, and moved to `done` or `failed`."""
