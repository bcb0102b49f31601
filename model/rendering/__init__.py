"""Rendering of Grad-CAM overlays: colour scale, legend, image."""
