"""Inference: predictions of a bundle for preprocessed images; flags outside the training domain."""
