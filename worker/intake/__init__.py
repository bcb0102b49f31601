"""Intake of images by C-STORE, STOW-RS or the watched folder: one examination and one transaction for all."""
