"""What receiving and sending share: associations, contexts, status codes, TLS, addresses."""
