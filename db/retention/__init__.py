"""Rows that are removed, and the audit of it."""
