"""Pixels: decoded, windowed, oriented to display grayscale in [0, 1]."""
