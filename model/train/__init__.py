"""Training: transfer learning, augmentation, checkpoints, curves, calibration."""
