"""Post-training quantization to int8, accepted only within limits of quality."""
