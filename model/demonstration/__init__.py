"""How the demonstration bundle is made."""
