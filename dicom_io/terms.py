"""Coded terms that several sub-packages share, and the manufacturer that our own objects name."""

MANUFACTURER = "cxr-triage"
MANUFACTURER_MODEL_NAME = "cxr-triage"

CHEST_BODY_PARTS = {"CHEST", "THORAX", "LUNG", "LUNGS"}
