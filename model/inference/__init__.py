"""Inference: a bundle and an engine read prepared images; flags outside the training domain."""
