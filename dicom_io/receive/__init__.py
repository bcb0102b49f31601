"""Receiving: the C-STORE listener, its limits, storage commitment as SCP, and DICOM files."""
