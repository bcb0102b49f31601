"""Bundles of this installation: found, imported, activated; and what their images are prepared with."""
