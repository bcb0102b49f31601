"""int8 networks, accepted only within limits of quality."""
