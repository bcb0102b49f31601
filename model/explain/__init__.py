"""Grad-CAM in closed form."""
