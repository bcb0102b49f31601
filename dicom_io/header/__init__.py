"""Headers: parsed without pixels, checked for completeness, reduced to plain values."""
