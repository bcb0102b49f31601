"""What serves studies imports neither TensorFlow nor torch nor Keras, and the listener not even the engine."""

import subprocess
import sys

import pytest

CODE = """
import sys
{imports}
heavy = {{"tensorflow", "keras", "torch", "jax", "matplotlib", "sklearn", "pandas"{more}}}
found = sorted(heavy & set(sys.modules))
sys.exit(f"loaded: {{found}}" if found else 0)
"""

READING = """
import numpy as np
from model.bundle.bundle import builtin_bundles_folder
from model.preprocessing.tensor import prepare
from model.inference.predictor import Predictor
reader = Predictor.open(builtin_bundles_folder() / "demonstration", "f32")
image = np.zeros((64, 64), np.float32)
reader.predict([prepare(image, reader.bundle.preprocessing)])
"""


@pytest.mark.parametrize(
    ("imports", "more"),
    [
        ("import worker.analysis.celery_worker, worker.analysis.runner, worker.analysis.pipeline" + READING, ""),
        ("import dicom_io.receive.listener, worker.intake.intake, worker.cli.run", ', "openvino"'),
        ("import worker.web.app", ', "openvino"'),
        ("import worker.delivery.sender, worker.scheduling.recovery", ', "openvino"'),
    ],
    ids=["worker child", "listener", "web", "delivery and scheduler"],
)
def test_no_serving_process_loads_what_only_training_and_importing_need(imports, more):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(imports=imports, more=more)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
