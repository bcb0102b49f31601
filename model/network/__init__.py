"""Keras networks: loading, cutting at the explanation layer, saving, compiling to OpenVINO."""
