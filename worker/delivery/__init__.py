"""Delivery: objects of the outbox are sent to each destination until they are stored or refused for good."""
