"""Files of received instances and made objects, addressed by hash and written durably."""
