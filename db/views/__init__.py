"""Queries of the interfaces: worklist, study, ledger, metrics. They change nothing."""
