"""DICOMweb (PS3.18): STOW-RS."""
