"""Import of networks made elsewhere as bundles: Keras files and PyTorch weights."""
