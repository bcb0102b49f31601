"""Rows of analyses: planned, claimed under a lease, ended with a result or a reason."""
