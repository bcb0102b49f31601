"""DICOM objects that we make: the heatmap Secondary Capture."""
