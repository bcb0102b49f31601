"""Preprocessing of images to tensors, shared by training, evaluation, one-shot analysis and the worker."""
