"""Sending: the Storage SCU."""
