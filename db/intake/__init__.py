"""Rows of what arrives: instances, gate decisions, identity conflicts, rejected transfers."""
