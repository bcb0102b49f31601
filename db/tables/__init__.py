"""The tables; one module a group of them."""
