"""Objects made of what was read: their kinds behind one protocol, their revisions, and their way into the outbox."""
