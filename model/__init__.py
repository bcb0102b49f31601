"""Networks: bundles, engines, Grad-CAM, training, evaluation, rendering. No DICOM, no database.

``from model import load_model, preprocess_xray, generate_gradcam`` serves notebooks; Keras is imported at the first
access to one of them. The worker uses `model.inference.predictor`, which imports no Keras.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.notebook import generate_gradcam, load_model, preprocess_xray

__all__ = ["generate_gradcam", "load_model", "preprocess_xray"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - one of three functions
    if name in __all__:
        import importlib

        return getattr(importlib.import_module("model.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
