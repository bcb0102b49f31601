"""What the tests of the network room share."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle.bundle import Bundle, builtin_bundles_folder, load_bundle
from model.inference.predictor import Predictor
from tests.model.small_bundle import write_small_bundle
from tests.peers.programs import absent


@pytest.fixture(scope="session")
def demonstration() -> Bundle:
    """The bundle that ships in the package."""
    return load_bundle(builtin_bundles_folder() / "demonstration")


@pytest.fixture(scope="session")
def predictor(demonstration: Bundle) -> Predictor:
    """The demonstration bundle on an engine in full precision."""
    return Predictor.open(demonstration.folder, precision="f32", threads=2)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that reads brightness, made in a moment; not to be changed."""
    return write_small_bundle(tmp_path_factory.mktemp("bundles") / "small")


@pytest.fixture(scope="session")
def needs_tensorflow() -> None:
    """Skip where the extra [train] is not installed, and fail there in CI."""
    if importlib.util.find_spec("tensorflow") is None:
        absent("TensorFlow is not installed (extra [train])")


@pytest.fixture
def write_png(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an array as PNG and gives its path."""
    import cv2

    def write(pixels: NDArray[np.uint8] | NDArray[np.uint16], name: str = "image.png") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)
        return path

    return write
