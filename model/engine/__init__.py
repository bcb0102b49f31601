"""Engines that run a bundle's network: OpenVINO or Keras."""
