"""Labelled image collections: tables, inspection, patients, the split."""
