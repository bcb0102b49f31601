"""The lines of the project's origin work as they were written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.model import networks

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("needs_tensorflow")]

REPOSITORY = Path(__file__).resolve().parents[2]

SNIPPET = """\
from model import load_model, preprocess_xray, generate_gradcam

model = load_model('models/densenet121_chestxray.h5')
image = preprocess_xray('path_to_xray.jpg')
prediction = model.predict(image)
heatmap = generate_gradcam(model, image, layer_name='conv_layer')
"""

SHOWN = """
print(image.shape, image.dtype, prediction.shape, heatmap.shape)
print(generate_gradcam(model, image).shape)
try:
    generate_gradcam(model, image, layer_name='conv_leyer')
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("base_install", [False, True])
def test_the_origins_lines_work_as_written(tmp_path, base_install):
    """With TensorFlow, and on the base install, which has Keras on OpenVINO alone."""
    import cv2

    (tmp_path / "models").mkdir()
    networks.classifier(2, size=224).save(tmp_path / "models" / "densenet121_chestxray.h5")
    radiograph = np.random.default_rng(0).integers(0, 255, (300, 400, 1)).repeat(3, axis=2).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "path_to_xray.jpg"), radiograph)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("KERAS_BACKEND", None)
    if base_install:
        environment["KERAS_BACKEND"] = "openvino"
    done = subprocess.run(
        [sys.executable, "-c", SNIPPET + SHOWN], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shapes, same, refusal = done.stdout.strip().splitlines()[-3:]
    assert shapes == "(1, 224, 224, 3) float32 (1, 2) (56, 56)"
    assert same == "(56, 56)"
    assert "layer 'conv_leyer' has no feature map" in refusal
    assert "the last layers that have: conv_layer" in refusal


def test_the_heatmap_lies_as_the_image_does():
    """Evidence in the upper right corner of the image is in the upper right of the map: rows are rows."""
    import keras

    import model

    image = keras.Input((64, 96, 1))
    found = keras.layers.Conv2D(1, 8, strides=8, name="conv_layer", kernel_initializer="ones")(image)
    network = keras.Model(image, keras.layers.Dense(1, kernel_initializer="ones")(
        keras.layers.GlobalAveragePooling2D()(found)
    ))  # fmt: skip
    radiograph = np.zeros((1, 64, 96, 1), np.float32)
    radiograph[0, 8:16, 72:88] = 1  # rows 8 to 16, columns 72 to 88
    heatmap = model.generate_gradcam(network, radiograph, layer_name="conv_layer")
    assert heatmap.shape == (8, 12)
    assert np.argwhere(heatmap > 0.5 * heatmap.max()).tolist() == [[1, 9], [1, 10]]
