"""Removal: by age, by free space, on request; and orphan files of the store."""
