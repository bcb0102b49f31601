"""How objects get to a destination: one file a kind of destination, each behind the protocol `Transport`."""
