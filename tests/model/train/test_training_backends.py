"""Training on PyTorch does what it does on TensorFlow: the same batches, losses, figures and bundle."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.bundle.bundle import load_bundle
from model.preprocessing.tensor import Preprocessing
from model.train.batches import ImageCache, training_batches
from model.train.fitting import fit
from model.train.plan import FittingPlan
from model.train.schedule import Stage

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("needs_tensorflow"), pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[3]
SPEC = Preprocessing(size=32, channels=1, mean=(0.5,), std=(0.25,))
PLAN = FittingPlan(
    labels=("Bright", "Second"),
    preprocessing=SPEC,
    epochs=4,
    batch=8,
    learning_rate=1e-9,  # what dropout leaves out is drawn otherwise on each backend, and teaches nothing so
    stages=(Stage(32, 0.5, "head"), Stage(32, 0.5, "conv2")),
    architecture="tiny",
    threads=1,
    checkpoint_seconds=0.0,
)
LEARNING = replace(PLAN, learning_rate=1e-2, averaging=0.9, precision="mixed_bfloat16", stages=(Stage(32, 1.0),))
LOSSES = {"sigmoid": PLAN, "focal": replace(PLAN, focus=2.0), "softmax": replace(PLAN, exclusive_classes=True)}
FIGURES = ("training_loss", "validation_loss", "training_auroc", "validation_auroc", "training_accuracy")

ON_PYTORCH = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.model.train.test_training_backends import all_of_it
all_of_it(Path(sys.argv[2]), Path(sys.argv[3]))
"""


WITHOUT_ANY = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "jax", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = ["cxr-triage", "train", sys.argv[1], "--out", sys.argv[2]]
from worker.__main__ import main
main()
"""


class Stopped(Exception):
    """Ends a run."""


def images():
    """Bright and dark noise, of two domains; a third of the second label is unknown."""
    random = np.random.default_rng(0)
    bright = np.arange(24) % 2
    levels = random.normal(25000 + 12000 * bright[:, np.newaxis, np.newaxis], 8000, (24, 32, 32))
    targets = np.stack([bright, 1 - bright], axis=1).astype(np.float32)
    targets[::3, 1] = np.nan
    resized = np.clip(levels, 0, 65535).astype(np.uint16)
    return ImageCache(resized, np.arange(24), targets, ("a",) * 14 + ("b",) * 10)


def batch():
    weights = np.ones((24, 2), np.float32)
    return next(training_batches(images(), weights, np.arange(24), SPEC, 32, 8, PLAN.augmentation, (1, 0), 0.4))


def fitted(plan, folder, stop_after=None):
    """Fit; return the history, and all that a further step would depend on."""
    folder.mkdir(exist_ok=True)

    def on_progress(step):
        if step.done == stop_after:
            raise Stopped

    try:
        history = fit(plan, {"training": images(), "validation": images()}, folder, on_progress)
    except Stopped:
        history = []
    with np.load(folder / "checkpoint.npz") as arrays:
        return history, {name: arrays[name] for name in arrays.files if name != "state"}


def all_of_it(folder, data):
    """What is done in a process on PyTorch; what came of it lies in `folder`."""
    from typer.testing import CliRunner

    from worker.cli.app import app

    tensors, packed = batch()
    np.savez(folder / "batch.npz", tensors=tensors, packed=packed)
    for name, plan in LOSSES.items():
        fitted(plan, folder / name)
    fitted(LEARNING, folder / "whole")
    fitted(LEARNING, folder / "stopped", stop_after=5)
    shutil.copytree(folder / "stopped", folder / "resumed")
    fitted(LEARNING, folder / "resumed")
    options = ["--out", str(folder / "bundle"), "--architecture", "tiny", "--label", "BRIGHT", "--epochs", "1"]
    done = CliRunner().invoke(app, ["train", str(data), *options, "--batch", "8", "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert "tensorflow" not in sys.modules


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, level in (("NORMAL", 90), ("BRIGHT", 130)):
        (folder / name).mkdir()
        for index in range(20):
            pixels = np.clip(random.normal(level, 40, (64, 64)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{name}{index}.png"), pixels)
    return folder


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory):
    """Histories a loss; the folder holds each run as it was within its first epoch."""
    folder = tmp_path_factory.mktemp("tensorflow")
    histories = {}
    for name, plan in LOSSES.items():
        fitted(plan, folder / name, stop_after=2)
        shutil.copytree(folder / name, folder / "ended" / name)
        histories[name], _ = fitted(plan, folder / "ended" / name)
    shutil.rmtree(folder / "ended")
    return folder, histories


@pytest.fixture(scope="module")
def on_pytorch(on_tensorflow, data):
    """The folder after a process on PyTorch went on with TensorFlow's runs, so that both have the same weights."""
    folder = on_tensorflow[0]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    arguments = [sys.executable, "-c", ON_PYTORCH, str(ROOT), str(folder), str(data)]
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (None, "training needs TensorFlow, JAX or PyTorch: pip install 'cxr-triage[train]'"),
        ("torch", "training needs PyTorch, which KERAS_BACKEND names: pip install 'cxr-triage[torch]'"),
        ("openvino", "KERAS_BACKEND is 'openvino'; training runs on tensorflow, jax or torch"),
    ],
)
def test_what_training_lacks_is_said_before_anything_is_read(data, tmp_path, backend, message):
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment |= {"KERAS_BACKEND": backend} if backend else {}
    arguments = [sys.executable, "-c", WITHOUT_ANY, str(data), str(tmp_path / "out")]
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_the_images_that_are_learnt_are_the_same(on_pytorch):
    tensors, packed = batch()
    with np.load(on_pytorch / "batch.npz") as arrays:
        assert np.array_equal(arrays["tensors"], tensors)
        assert np.array_equal(arrays["packed"], packed)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_figures_are_the_same_with_frozen_layers_and_without(on_tensorflow, on_pytorch, loss):
    from model.train.checkpoint import read_state

    theirs = read_state(on_pytorch / loss).history
    ours = on_tensorflow[1][loss]
    assert [record.trained for record in theirs] == ["head", "head", "conv2", "conv2"]
    for one, other in zip(ours, theirs, strict=True):
        for figure in FIGURES:
            assert getattr(other, figure) == pytest.approx(getattr(one, figure), abs=1e-4), figure
    losses = [record.training_loss for record in ours]
    assert abs(losses[1] - losses[3]) > 1e-3, "statistics moved once their layers were free, or nothing was compared"


def test_a_stopped_run_ends_with_the_weights_of_a_whole_one_in_mixed_precision(on_pytorch):
    from model.train.checkpoint import read_state

    assert read_state(on_pytorch / "stopped").steps == 4
    files = (on_pytorch / run / "checkpoint.npz" for run in ("whole", "resumed"))
    with np.load(next(files)) as one, np.load(next(files)) as other:
        assert one.files == other.files
        kinds = [name.split(".")[0] for name in one.files]
        assert min(map(kinds.count, ("weight", "optimizer", "average"))) > 5
        for name in set(one.files) - {"state"}:
            assert np.array_equal(one[name], other[name]), name
    assert read_state(on_pytorch / "whole").history[-1].training_auroc > 0.9


def test_the_command_makes_a_bundle_that_says_what_trained_it_and_reads_images(on_pytorch, data):
    from model.inference.predictor import Predictor
    from model.preprocessing.image_files import read_raster
    from model.preprocessing.tensor import prepare

    bundle = load_bundle(on_pytorch / "bundle")
    said = bundle.description["provenance"]["fitting"]["trained by"]
    assert said.startswith("Keras 3.")
    assert " on torch 2." in said
    image = read_raster(next((data / "BRIGHT").iterdir()))
    (result,) = Predictor.open(bundle.folder).predict([prepare(image, bundle.preprocessing)])
    assert np.isfinite(result.probabilities).all()
    assert result.maps.contribution(0).shape == (28, 28)
