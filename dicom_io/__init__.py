"""Everything that handles DICOM: network, headers, the admission gate, pixels to grayscale, objects made of results.

Import the module that is needed (``from dicom_io.header.instance_header import read_header``): this package imports
nothing, so that a command without DICOM starts fast. Nothing here knows the database, the model or the worker.
"""
