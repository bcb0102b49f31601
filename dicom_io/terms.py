"""The manufacturer that our own objects name."""

MANUFACTURER = "cxr-triage"
MANUFACTURER_MODEL_NAME = "cxr-triage"
