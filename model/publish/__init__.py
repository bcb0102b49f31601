"""Writing of bundles: manifest with checksums, model card, archives, export formats."""
