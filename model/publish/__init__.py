"""Writing bundles: the manifest and its digests, the card, archives."""
