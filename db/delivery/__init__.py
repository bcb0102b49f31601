"""Rows of the outbox and of storage commitment."""
