"""Labelled image collections: tables of labels, image inspection, patients, the split."""
