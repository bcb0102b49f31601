"""The words by which our own objects are known: written by `secondary_capture`, recognised by the gate."""

MANUFACTURER = "cxr-triage"
MANUFACTURER_MODEL_NAME = "cxr-triage"
