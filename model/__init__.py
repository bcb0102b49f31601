"""Everything that is a network: bundles, engines, Grad-CAM, training, evaluation, pictures. No DICOM, no database.

``from model import load_model, preprocess_xray, generate_gradcam`` is the short way in a notebook. It needs Keras,
loaded when the first of them is asked for. Serving uses `model.inference.reader` and never loads it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.notebook import generate_gradcam, load_model, preprocess_xray

__all__ = ["generate_gradcam", "load_model", "preprocess_xray"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module holds under that name
    if name in __all__:
        import importlib

        return getattr(importlib.import_module("model.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
