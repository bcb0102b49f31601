"""SOP classes and coded terms that several sub-packages name, and the manufacturer that our own objects carry."""

MANUFACTURER = "cxr-triage"
MANUFACTURER_MODEL_NAME = "cxr-triage"


CR = "1.2.840.10008.5.1.4.1.1.1"


DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"


DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"


SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


CHEST_BODY_PARTS = {"CHEST", "THORAX", "LUNG", "LUNGS"}
