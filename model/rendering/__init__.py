"""Overlays: colour scale, legend and the drawn image."""
