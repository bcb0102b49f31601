"""Everything that speaks DICOM: headers to facts, pixels to grayscale, results to objects, listening and sending.

Import the module that is needed (``from dicom_io.header.facts import read_facts``): this package imports nothing, so
that a command which touches no DICOM stays fast. Nothing here knows the database, the network or the worker.
"""
