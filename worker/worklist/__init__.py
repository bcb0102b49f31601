"""The reading order of studies."""
