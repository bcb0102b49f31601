"""The bundle: manifest, labels, thresholds, calibration, training distribution."""
