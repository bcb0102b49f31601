"""Health, ledger and Prometheus metrics."""
