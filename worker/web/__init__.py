"""The web process: pages for people, JSON, images, DICOMweb, health and metrics."""
