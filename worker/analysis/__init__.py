"""Analyses: from a stored image to findings, heatmaps and outbox rows, in Celery children or at once."""
