"""`doctor`: checks every part of an installation and names a remedy for each fault."""
