"""Networks made elsewhere become bundles: Keras files and PyTorch weights."""
