"""`doctor`: every part of an installation is examined, and each finding names its remedy."""
