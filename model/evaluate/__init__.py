"""Evaluation: predictions, metrics with intervals by patient, calibration, the report."""
