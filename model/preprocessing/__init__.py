"""Image to tensor, the same in training, evaluation, one-shot analysis and the worker."""
