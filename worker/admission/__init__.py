"""The admission gate as this site configures it, and later reviews of its decisions."""
