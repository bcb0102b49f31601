"""The broker and Celery: ids of analyses are queued; the database holds the state."""
