"""Measurements, each beside a peer measured in the same run: trust the ratios, not the seconds."""
