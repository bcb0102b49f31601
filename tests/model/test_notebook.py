"""The three functions of a notebook."""

import os
import subprocess
import sys

import numpy as np
import pytest

import model
from model.bundle.bundle import builtin_bundles_folder


def test_preprocess_xray_gives_the_tensor_that_the_reader_is_given(write_png):
    from model.preprocessing.image_files import read_raster
    from model.preprocessing.tensor import Preprocessing, prepare

    pixels = np.random.default_rng(0).integers(0, 255, (90, 120), np.uint8)
    path = write_png(pixels)
    batch = model.preprocess_xray(path)
    assert batch.shape == (1, 224, 224, 3)
    assert batch.dtype == np.float32
    assert np.array_equal(batch[0], prepare(read_raster(path), Preprocessing()).tensor)


def test_load_model_says_what_it_cannot_load(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.keras does not exist"):
        model.load_model(tmp_path / "none.keras")
    with pytest.raises(ValueError, match=r"allowed are .keras, .h5 and the folder of a bundle"):
        model.load_model(tmp_path / "model.pickle")
    with pytest.raises(ValueError, match="is no bundle"):
        model.load_model(tmp_path)


def test_keras_on_openvino_computes_in_float32_whatever_the_processor_prefers():
    code = (
        "from model.network.keras_backend import start_converting\n"
        "start_converting()\n"
        "from tests.model.networks import classifier, images\n"
        "network = classifier()\n"
        "network.predict_on_batch(images(network, 1))\n"
        "print(network.ov_compiled_model.get_property('INFERENCE_PRECISION_HINT').get_type_name())"
    )
    environment = {**os.environ, "KERAS_BACKEND": "openvino"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[-1] == "f32"


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        model.nonsense  # noqa: B018
    assert {"load_model", "preprocess_xray", "generate_gradcam"} <= set(dir(model))


def test_importing_the_room_is_quick_and_loads_nothing_heavy():
    code = "import sys, model; sys.exit(bool({'numpy', 'keras', 'tensorflow', 'openvino', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
def test_the_shipped_weights_load_in_keras_and_are_explained_as_the_engine_explains_them(predictor):
    network = model.load_model(builtin_bundles_folder() / "demonstration")
    tensor = predictor.bundle.golden.tensors[:1]
    logits = network.predict_on_batch(tensor)
    output = predictor.engine.run(tensor)
    assert np.asarray(logits)[0] == pytest.approx(output.logits[0], abs=2e-3 * (1 + float(np.abs(logits).max())))
    heatmap = model.generate_gradcam(network, tensor, label=0)
    from model.explain.gradcam import closed_form_maps

    expected = np.maximum(closed_form_maps(predictor.bundle.head, output.activations[0]).contribution(0), 0)
    assert heatmap.shape == (7, 7)
    assert heatmap == pytest.approx(expected, abs=5e-3 * float(np.abs(expected).max() + 1e-6))
    with pytest.raises(ValueError, match=r"layer 'conv9000' has no feature map .* the last layers that have: .*relu"):
        model.generate_gradcam(network, tensor, "conv9000")
    with pytest.raises(ValueError, match="label is 9; the model has 5 outputs, 0 to 4"):
        model.generate_gradcam(network, tensor, label=9)
    with pytest.raises(ValueError, match=r"does not fit; one of \[1, 224, 224, 3\] does"):
        model.generate_gradcam(network, tensor[:, :100])


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
def test_a_head_without_a_closed_form_is_explained_by_gradients():
    import keras

    layers = keras.layers
    inputs = keras.Input((32, 32, 1))
    features = layers.Conv2D(4, 5, strides=4, activation="relu", name="features")(inputs)
    pooled = layers.Concatenate()([layers.GlobalAveragePooling2D()(features), layers.GlobalMaxPooling2D()(features)])
    network = keras.Model(inputs, layers.Dense(2)(pooled))
    image = np.random.default_rng(0).random((1, 32, 32, 1), dtype=np.float32)
    heatmap = model.generate_gradcam(network, image, "features", label=1)
    assert heatmap.shape == (7, 7)
    assert heatmap.min() >= 0
