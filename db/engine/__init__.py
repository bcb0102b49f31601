"""Connections, transactions, the schema, leases, and the rows of processes."""
