"""The keras engine: it agrees with OpenVINO, and explains the heads that have no closed form."""

import importlib.util
import os
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from model.bundle.bundle import BundleInvalid, describe_head, load_bundle
from model.bundle.training_distribution import TrainingDistribution
from model.engine.golden_check import check_against_golden
from model.engine.opening import open_engine
from model.engine.protocol import EngineUnsuitable
from model.inference.predictor import Predictor
from model.preprocessing.tensor import Preprocessing, prepare
from model.publish.bundle_writer import BundleDescription, write_description, write_network_files, write_table
from tests.peers.radiographs import sample

TOLERANCE = 1e-4
"""Between the engines in f32: of the logits over (1 + the largest), of the feature map over its largest value."""

SMALL = Preprocessing(size=32, channels=1, mean=(0.5,), std=(0.25,))
LABELS = ("Pneumonia", "Effusion")
needs_training = [pytest.mark.train, pytest.mark.usefixtures("needs_tensorflow"), pytest.mark.timeout(600)]


def marked(test):
    for mark in needs_training:
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def keras_predictor(demonstration, needs_tensorflow):
    return Predictor.open(demonstration.folder, threads=2, engine="keras")


@pytest.fixture(scope="module")
def attention_folder(tmp_path_factory, needs_tensorflow):
    """A bundle whose head weighs the feature map by a map of its own: no closed form covers it. Ends in a sigmoid."""
    import keras

    keras.utils.set_random_seed(5)
    layers = keras.layers
    image = keras.Input((32, 32, 1))
    features = layers.Conv2D(6, 5, strides=4, name="features")(image)
    features = layers.Activation("relu", name="relu")(features)
    attention = layers.Conv2D(1, 1, activation="sigmoid", name="attention")(features)
    attended = layers.Multiply(name="attended")([features, attention])
    pooled = layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(attended), layers.GlobalMaxPooling2D()(attended)],
    )
    network = keras.Model(image, layers.Dense(2, activation="sigmoid", name="answer")(pooled), name="attentive")
    folder = tmp_path_factory.mktemp("bundles") / "attention"
    write_small(network, folder, "relu", 6)
    return folder


def write_small(network, folder, layer_name, features):
    description = BundleDescription("attention", "1", LABELS, SMALL, layer_name)
    write_network_files(network, description, folder)
    distribution = TrainingDistribution(
        ("any",),
        np.zeros((1, features), np.float32),
        np.eye(1, features, dtype=np.float32),
        np.ones(1, np.float32),
        1.0,
        np.ones(1, np.float32),
    )
    head = describe_head(None, layer_name)
    return write_description(
        folder, description, head, distribution, dict.fromkeys(LABELS, 0.5), dict.fromkeys(LABELS, 1.0)
    )


def weights_of(folder, layer_name):
    import keras

    return [
        np.asarray(value, np.float64)
        for value in keras.models.load_model(folder / "weights.keras").get_layer(layer_name).get_weights()
    ]


def radiograph():
    """The adult's chest of pydicom-data, as it is displayed."""
    from dicom_io.pixels.grayscale import read_grayscale

    return read_grayscale(sample("RG1_UNCR")).image


@marked
def test_both_engines_agree_on_synthetic_images_and_on_a_real_image(keras_predictor, predictor):
    spec = predictor.bundle.preprocessing
    batch = np.concatenate([predictor.bundle.golden.tensors, prepare(radiograph(), spec).tensor[np.newaxis]])
    expected, output = predictor.engine.run(batch), keras_predictor.engine.run(batch)
    assert output.logits.dtype == output.activations.dtype == np.float32
    logits = np.abs(output.logits - expected.logits).max() / (1 + np.abs(expected.logits).max())
    activations = np.abs(output.activations - expected.activations).max() / expected.activations.max()
    assert logits < TOLERANCE
    assert activations < TOLERANCE


@marked
def test_a_predictor_gives_the_same_result_on_either_engine(keras_predictor, predictor):
    prepared = [prepare(radiograph(), predictor.bundle.preprocessing)]
    (expected,), (result,) = predictor.predict(prepared), keras_predictor.predict(prepared)
    assert result.probabilities == pytest.approx(expected.probabilities, abs=TOLERANCE)
    assert result.ood_score == pytest.approx(expected.ood_score, rel=1e-3)
    for index, scale in enumerate(expected.maps.scales):
        # float16 values: two of them side by side are up to 1/1024 of the largest apart
        assert result.maps.contribution(index) == pytest.approx(
            expected.maps.contribution(index), abs=2e-3 * float(scale)
        )


@marked
def test_the_keras_engine_names_its_backend_and_keeps_the_golden_output(keras_predictor, demonstration):
    import tensorflow as tf

    assert keras_predictor.engine.name == f"keras tensorflow {tf.__version__}"
    assert keras_predictor.engine.precision == "f32"
    assert max(check_against_golden(keras_predictor.engine, demonstration)) < 1e-3
    with pytest.raises(ValueError, match=r"\[n, 224, 224, 3\] does"):
        keras_predictor.engine.run(np.zeros((1, 224, 200, 3), np.float32))


@marked
def test_gradients_equal_the_closed_form_where_there_is_one(keras_predictor, demonstration):
    from model.engine.keras_engine import KerasEngine

    engine = keras_predictor.engine
    assert isinstance(engine, KerasEngine)
    image = demonstration.golden.tensors[0]
    activations = engine.run(image[np.newaxis]).activations[0]
    expected = demonstration.head.jacobian(demonstration.head.pooled(activations)) / activations[..., 0].size
    weights = engine._explainer.weights(image, activations)
    assert weights == pytest.approx(expected, rel=1e-4, abs=1e-6 * float(np.abs(expected).max()))


@marked
def test_a_head_without_a_closed_form_makes_a_bundle_without_a_head(attention_folder):
    bundle = load_bundle(attention_folder)
    assert bundle.head is None
    assert not (attention_folder / "head.npz").exists()
    assert bundle.head_table == {"closed_form": False, "explanation_layer": "relu"}
    assert bundle.has_compiled_network


@marked
def test_maps_of_such_a_head_are_its_logits_derivatives_times_the_feature_map(attention_folder):
    predictor = Predictor.open(attention_folder, engine="keras")
    image = np.random.default_rng(1).random((40, 50)).astype(np.float32)
    prepared = prepare(image, SMALL)
    (result,) = predictor.predict([prepared])
    activations = predictor.engine.run(prepared.tensor[np.newaxis]).activations[0].astype(np.float64)
    kernel, bias = weights_of(attention_folder, "attention")
    matrix, offset = weights_of(attention_folder, "answer")

    def logits(features):
        attended = features / (1 + np.exp(-(features @ kernel[0, 0] + bias)))
        return np.concatenate([attended.mean(axis=(0, 1)), attended.max(axis=(0, 1))]) @ matrix + offset

    assert result.logits == pytest.approx(logits(activations), abs=1e-5)  # not the sigmoid's output
    weights, step = np.zeros((2, 6)), 1e-6
    for channel in range(6):
        shift = np.eye(6)[channel] * step
        weights[:, channel] = (logits(activations + shift) - logits(activations - shift)) / (2 * step) / 49
    for index in range(2):
        expected = activations @ weights[index]
        assert result.maps.contribution(index) == pytest.approx(expected, abs=1e-3 * float(np.abs(expected).max()))


@marked
def test_openvino_refuses_such_a_bundle_with_the_engine_that_reads_it(attention_folder):
    with pytest.raises(EngineUnsuitable, match=r'no closed form; set \[reading\] engine = "keras"'):
        Predictor.open(attention_folder)


@marked
def test_openvino_gives_such_a_bundles_logits(attention_folder):
    bundle = load_bundle(attention_folder)
    engine = open_engine(bundle, "f32")  # the golden output is TensorFlow's
    assert engine.run(bundle.golden.tensors).logits == pytest.approx(bundle.golden.logits, abs=1e-3)


@marked
def test_such_a_bundle_may_lack_the_compiled_network_and_its_layer_is_under_the_digest(attention_folder, tmp_path):
    import shutil

    copy = shutil.copytree(attention_folder, tmp_path / "copy")
    table = tomllib.loads((copy / "model.toml").read_text(encoding="utf-8"))
    for name in ("network.xml", "network.bin"):
        table["files"].pop(name)
    write_table(copy, table)
    bundle = load_bundle(copy)  # the files lie there still, and count for nothing without a digest
    with pytest.raises(EngineUnsuitable, match=r'no network compiled for OpenVINO; set \[reading\] engine = "keras"'):
        open_engine(bundle)
    table["head"]["explanation_layer"] = "features"
    write_table(copy, table)
    with pytest.raises(BundleInvalid, match="labels, head or preprocessing were changed"):
        load_bundle(copy)


@marked
def test_a_network_that_openvino_cannot_convert_is_written_for_the_keras_engine(
    attention_folder, tmp_path, monkeypatch
):
    import keras

    from model.network import openvino_export

    def refuse(*_arguments: object, **_options: object):
        raise ValueError("no such operation")

    monkeypatch.setattr(openvino_export, "export_network", refuse)
    network = keras.models.load_model(attention_folder / "weights.keras", compile=False)
    bundle = write_small(network, tmp_path / "out", "relu", 6)
    assert not bundle.has_compiled_network
    plain = keras.Model(network.inputs, keras.layers.Dense(2)(keras.layers.Flatten()(network.get_layer("relu").output)))
    with pytest.raises(ValueError, match="no such operation"):  # a head with a closed form is OpenVINO's
        write_small(plain, tmp_path / "plain", "relu", 6)


@marked
def test_a_layer_that_the_logits_see_past_is_explained_with_the_image_held_fixed():
    import keras
    import tensorflow as tf

    from model.engine.gradient_explainer import GradientExplainer
    from model.network.graph_cutting import after_feature_map, with_feature_map

    layers = keras.layers
    image = keras.Input((16, 16, 1))
    first = layers.Conv2D(4, 3, padding="same", name="first")(image)
    inner = layers.Conv2D(4, 3, padding="same", activation="tanh", name="inner")(first)
    aside = layers.Conv2D(4, 3, padding="same", name="aside")(first)
    pooled = layers.GlobalAveragePooling2D()(layers.Add()([layers.Multiply()([first, inner]), inner]))
    network = keras.Model(image, layers.Dense(3)(pooled))
    whole = keras.Model(image, [network.output, aside])
    pixels = np.random.default_rng(2).random((16, 16, 1)).astype(np.float32)
    explainer = GradientExplainer(network, "inner")
    weights = explainer.weights(pixels, explainer.run(pixels[np.newaxis]).activations[0])
    both = keras.Model(image, [network.output, inner])
    for label in range(3):
        with tf.GradientTape() as tape:
            logits, activations = both(pixels[np.newaxis])
            logit = logits[0, label]
        expected = np.asarray(tape.gradient(logit, activations))[0].mean(axis=(0, 1))
        assert weights[label] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert len(after_feature_map(with_feature_map(network, "first")).inputs) == 1
    with pytest.raises(ValueError, match="does not depend on layer 'aside'"):
        with_feature_map(whole, "aside")


@marked
@pytest.mark.parametrize("ending", ["dense sigmoid", "activation sigmoid", "softmax layer", "dense softmax", "linear"])
def test_the_logit_is_what_stands_before_a_sigmoid_or_softmax(ending):
    import keras

    from model.network.graph_cutting import logit_network

    layers = keras.layers
    image = keras.Input((8, 8, 1))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3)(image))
    kind, _, name = ending.partition(" ")
    answer = layers.Dense(3, activation=name if kind == "dense" else None)(pooled)
    if kind == "activation":
        answer = layers.Activation(name)(answer)
    elif kind == "softmax":
        answer = layers.Softmax()(answer)
    network = keras.Model(image, answer)
    pixels = np.random.default_rng(3).normal(size=(2, 8, 8, 1)).astype(np.float32)
    answers = np.asarray(network.predict_on_batch(pixels))
    logits = np.asarray(logit_network(network).predict_on_batch(pixels))
    if "sigmoid" in ending:
        logits = 1 / (1 + np.exp(-logits))
    elif "softmax" in ending:
        logits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert logits == pytest.approx(answers, abs=1e-6)


@marked
@pytest.mark.parametrize(
    ("labels", "activation", "message"),
    [(2, "softmax", "ends in a softmax, whose classes are mutually exclusive"), (3, None, r"\(None, 3\) for 2 labels")],
)
def test_a_network_that_does_not_answer_one_number_a_label_makes_no_bundle(labels, activation, message, tmp_path):
    import keras

    layers = keras.layers
    image = keras.Input((32, 32, 1))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="features")(image))
    network = keras.Model(image, layers.Dense(labels, activation=activation)(pooled))
    with pytest.raises(ValueError, match=message):
        write_small(network, tmp_path / "out", "features", 4)
    assert not (tmp_path / "out").exists()


OTHER_BACKEND = """
import sys
import numpy as np
from pathlib import Path
from model.preprocessing.tensor import PreparedImage
from model.inference.predictor import Predictor
predictor = Predictor.open(Path(sys.argv[1]), engine="keras")
print(predictor.engine.name)
tensor = predictor.bundle.golden.tensors[0]
(result,) = predictor.predict([PreparedImage(tensor, np.eye(2, 3))])
maps = np.stack([result.maps.contribution(index) for index in range(2)])
np.savez(sys.argv[2], logits=result.logits, maps=maps)
"""


@marked
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_other_backends_answer_and_explain_as_tensorflow_does(attention_folder, tmp_path, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    from model.preprocessing.tensor import PreparedImage

    arguments = [sys.executable, "-c", OTHER_BACKEND, str(attention_folder), str(tmp_path / "answers.npz")]
    done = subprocess.run(
        arguments, env={**os.environ, "KERAS_BACKEND": backend}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"keras {backend} ")
    predictor = Predictor.open(attention_folder, engine="keras")
    (result,) = predictor.predict([PreparedImage(predictor.bundle.golden.tensors[0], np.eye(2, 3))])
    with np.load(tmp_path / "answers.npz") as found:
        assert found["logits"] == pytest.approx(result.logits, abs=1e-5)
        for index, scale in enumerate(result.maps.scales):
            assert found["maps"][index] == pytest.approx(result.maps.contribution(index), abs=2e-3 * float(scale))


REFUSED = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

MISSING = sys.argv[2].split()
sys.meta_path.insert(0, Missing())
from model.engine.opening import EngineUnsuitable
from model.inference.predictor import Predictor
try:
    Predictor.open(sys.argv[1], engine="keras", precision=sys.argv[3])
except EngineUnsuitable as error:
    print(error)
assert "openvino" not in sys.modules
"""


@pytest.mark.parametrize(
    ("backend", "missing", "precision", "message"),
    [
        (
            None,
            "tensorflow jax torch",
            "auto",
            "the keras engine needs TensorFlow, JAX or PyTorch: pip install 'cxr-triage[train]'; "
            'or set [reading] engine = "openvino"',
        ),
        (
            "jax",
            "jax",
            "auto",
            "the keras engine needs JAX, which KERAS_BACKEND names: pip install jax; "
            'or set [reading] engine = "openvino"',
        ),
        (
            "numpy",
            "none",
            "auto",
            "KERAS_BACKEND is 'numpy'; the keras engine runs on tensorflow, jax or torch; "
            'or set [reading] engine = "openvino"',
        ),
        (None, "none", "bf16", "the keras engine computes in f32, not bf16; use precision f32 or auto"),
    ],
)
def test_what_the_keras_engine_lacks_is_said_in_one_line(demonstration, backend, missing, precision, message):
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    if backend:
        environment["KERAS_BACKEND"] = backend
    arguments = [sys.executable, "-c", REFUSED, str(demonstration.folder), missing, precision]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == message + "\n"


def test_an_engine_that_there_is_not_is_refused_with_those_there_are(demonstration):
    with pytest.raises(EngineUnsuitable, match="engine is 'onnx'; allowed are openvino, keras"):
        open_engine(demonstration, engine="onnx")
