"""Connections, transactions, the schema and leases."""
