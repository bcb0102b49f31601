"""Evaluation: predictions, metrics with confidence intervals over patients, calibration, the report."""
