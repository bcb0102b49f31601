"""Rows of the registry: which model is active, and for which ages and views."""
