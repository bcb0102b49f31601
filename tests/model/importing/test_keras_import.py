"""Keras classifiers of others become bundles that answer as they did, or are refused with what would do."""

import json
import zipfile

import numpy as np
import pytest

from model.bundle.bundle import load_bundle
from model.engine.opening import open_engine
from model.explain.gradcam import closed_form_maps
from model.importing.keras_import import ImportPlan, import_network
from model.network.keras_files import ImportRefused, load_keras_file
from tests.model import networks

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("needs_tensorflow"), pytest.mark.timeout(300)]

KINDS = {
    "one sigmoid": (lambda: networks.classifier(1), "Pneumonia", [0], 1.0, ".keras"),
    "sigmoids, some without a label": (networks.classifier, ",No Finding,Edema", [2], 1.0, ".keras"),
    "softmax of two": (networks.flattened, "NORMAL,PNEUMONIA", [1], 1.0, ".h5"),
    "softmax of three, nested": (networks.nested, "Bacterial,Normal,Viral", [0, 2], 255.0, ".h5"),
    "nested in a graph": (lambda: networks.nested(False), "Bacterial,Normal,Viral", [0, 2], 255.0, ".keras"),
    "softmax behind a convolution": (networks.convolved, "A,B,C,D", [0, 1, 2, 3], 1.0, ".keras"),
}


def imported(network, labels, folder, suffix=".keras", **options):
    path = folder / f"network{suffix}"
    network.save(path)
    plan = ImportPlan("mine", tuple(labels.split(",")), **options)
    return import_network(load_keras_file(path), plan, path, folder / "bundle", "a Keras network")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_gives_the_probabilities_of_the_file_it_was_made_of(tmp_path, kind):
    make, labels, kept, scale, suffix = KINDS[kind]
    network = make()
    tensors = networks.images(network, scale=scale)
    expected = np.asarray(network.predict_on_batch(tensors))[:, kept]
    assert expected.std(axis=0).min() > 1e-4  # they depend on the image
    bundle = imported(network, labels, tmp_path, suffix).bundle
    assert bundle.label_names == tuple(np.array(labels.split(","))[kept])
    output = open_engine(bundle, "f32").run(tensors)
    found = bundle.everyone.probabilities(output.logits)
    assert found == pytest.approx(expected, abs=1e-5)
    # Keras' own normalisation of pixels is found, so that ours does not come before it
    assert bundle.preprocessing.std[0] == pytest.approx(1 / scale)
    if bundle.head is not None:
        heads = np.stack([bundle.head.logits(bundle.head.pooled(each)) for each in output.activations])
        assert heads == pytest.approx(output.logits, abs=1e-4)


def test_the_maps_of_a_softmax_are_of_the_logit_of_its_probability(tmp_path):
    """The closed form equals the tape through the whole network, classes that are left out included."""
    import tensorflow as tf

    network = networks.nested()
    bundle = imported(network, "Bacterial,Normal,Viral", tmp_path, value_range="0..255").bundle
    tensors = networks.images(network, 1, 255.0)
    activations = open_engine(bundle, "f32").run(tensors).activations[0]
    feature_map = tf.constant(activations[np.newaxis])
    dense = network.get_layer("answer")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(feature_map)
        score = tf.nn.softmax(tf.reduce_mean(feature_map, axis=(1, 2)) @ dense.kernel + dense.bias)[0]
        odds = [tf.math.log(score[index] / (1 - score[index])) for index in (0, 2)]
    maps = closed_form_maps(bundle.head, activations)
    for index, logit in enumerate(odds):
        weights = np.asarray(tape.gradient(logit, feature_map))[0].mean(axis=(0, 1))
        expected = (activations * weights).sum(axis=-1)
        assert maps.contribution(index) == pytest.approx(expected, abs=2e-3 * float(np.abs(expected).max()))


def test_what_is_said_lands_in_the_description(tmp_path):
    """Logits may be said to be those of a softmax, too."""
    network = networks.classifier(3, None)
    tensors = networks.images(network)
    scores = np.exp(np.asarray(network.predict_on_batch(tensors)))
    result = imported(
        network, "Pneumonia,Effusion,Edema", tmp_path, geometry="pad", value_range="imagenet", answer="softmax",
        thresholds={"Effusion": 0.2}, ages=((18.0, 90.0),), views=("PA",), layer="conv_layer", command="cxr-triage ...",
    )  # fmt: skip
    bundle = load_bundle(result.bundle.folder)
    found = bundle.everyone.probabilities(open_engine(bundle, "f32").run(tensors).logits)
    assert found == pytest.approx(scores / scores.sum(axis=1, keepdims=True), abs=1e-5)
    assert bundle.preprocessing.geometry == "pad"
    assert bundle.preprocessing.mean == (0.485, 0.456, 0.406)
    assert bundle.thresholds == {"Pneumonia": 0.5, "Effusion": 0.2, "Edema": 0.5}
    assert (bundle.ages, bundle.views, bundle.explanation_layer) == (((18.0, 90.0),), ("PA",), "conv_layer")
    assert bundle.labels[0].codes[0].value == "233604007"
    assert bundle.golden.logits.shape == (2, 3)
    card = bundle.card_path.read_text(encoding="utf-8")
    assert "SHA-256" in card
    assert "nothing was measured" in card.lower()
    assert "not noticed" in card


def test_a_head_without_a_closed_form_is_for_the_keras_engine_and_says_so(tmp_path):
    result = imported(networks.attentive(), "A,B", tmp_path)
    assert result.bundle.head is None
    assert any('set [reading] engine = "keras"' in note for note in result.notes)
    from model.inference.predictor import EngineUnsuitable, Predictor

    with pytest.raises(EngineUnsuitable, match='engine = "keras"'):
        Predictor.open(result.bundle.folder, "f32")
    predictor = Predictor.open(result.bundle.folder, "f32", engine="keras")
    assert predictor.engine.name.startswith("keras")


def test_reference_images_make_unlikeness_known_and_without_them_every_result_says_that_it_is_not(tmp_path):
    from model.inference.domain_flags import domain_flags
    from model.inference.predictor import Predictor
    from model.preprocessing.tensor import prepare

    random = np.random.default_rng(0)
    images = [np.clip(random.normal(0.5, 0.05, (40, 40)), 0, 1).astype(np.float32) for _ in range(120)]
    network = networks.classifier(2)
    network.save(tmp_path / "n.keras")
    plan = ImportPlan("mine", ("A", "B"), value_range="0..1")
    for name, reference in (("with", images), ("without", None)):
        done = import_network(
            load_keras_file(tmp_path / "n.keras"), plan, tmp_path / "n.keras", tmp_path / name, "a file", reference
        )
        predictor = Predictor.open(tmp_path / name, "f32")
        card = done.bundle.card_path.read_text(encoding="utf-8")
        default = "heatmaps are drawn on the program's default scale, not fitted to this network; --reference fits one"
        assert (default in done.notes) == (reference is None)
        assert ("fitted on 120 reference images" if reference else "default, not fitted to this model") in card
        like, unlike = (
            predictor.predict([prepare(image, done.bundle.preprocessing)])[0].ood_score
            for image in (images[0], np.eye(40, dtype=np.float32))
        )
        if reference:
            assert like is not None and unlike is not None
            assert max(1.5, 2 * like) < unlike
            assert domain_flags(done.bundle, None, None, unlike)[0] == "outside training domain"
        else:
            assert (like, unlike) == (None, None)
            assert domain_flags(done.bundle, None, None, like) == ("out-of-distribution check unavailable",)
            assert done.bundle.digest == load_bundle(tmp_path / "with").digest  # the same file is the same model


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (networks.classifier, {"labels": "A,B"}, r"has 3 outputs and 2 labels were given \(A, B\)"),
        (lambda: networks.classifier(1), {"labels": "NORMAL,P"}, "for one output, the label that a high value means"),
        (networks.classifier, {"labels": "A,A,B"}, "not all different"),
        (networks.classifier, {"labels": "Normal,No Finding,healthy"}, "no label is left"),
        (networks.classifier, {"layer": "conv9"}, "layer 'conv9' has no feature map .* layers that have: conv_layer"),
        (networks.classifier, {"layer": "answer"}, "layer 'answer' has no feature map"),
        (networks.nested, {"layer": "last_rel"}, "conv_layer, bn, last_relu"),
        (networks.classifier, {"channels": 1}, "channels is given as 1; the network's input .* has 3"),
        (networks.classifier, {"size": 64}, "size is given as 64"),
        (networks.classifier, {"value_range": "0..0"}, r"range is '0..0'; allowed are LOW..HIGH such as 0..1"),
        (networks.classifier, {"thresholds": {"X": 0.3}}, "a threshold is given for X; the labels are A, B, C"),
        (networks.classifier, {"no_finding": ("X",)}, "no finding is given as X"),
        (networks.classifier, {"answer": "softmax"}, "ends in sigmoid; its answer cannot be softmax"),
        (lambda: networks.classifier(3, "tanh"), {}, "ends in tanh, which gives no probability"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(tmp_path, make, options, message):
    labels = options.pop("labels", "A,B,C")
    with pytest.raises(ImportRefused, match=message):
        imported(make(), labels, tmp_path, **options)
    assert not (tmp_path / "bundle" / "model.toml").exists()


def test_networks_of_another_shape_are_refused(tmp_path):
    import keras

    layers = keras.layers
    image, found = networks.features()
    map_out = keras.Model(image, found)
    with pytest.raises(ImportRefused, match="has an output of shape"):
        imported(map_out, "A", tmp_path)
    wide = keras.Input((16, 24, 1))
    with pytest.raises(ImportRefused, match="has an input of 16 x 24 pixels; only squares are supported"):
        imported(keras.Model(wide, layers.Dense(1)(layers.Flatten()(wide))), "A", tmp_path)
    vector = keras.Input((16,))
    with pytest.raises(ImportRefused, match=r"has an input of shape \(None, 16\)"):
        imported(keras.Model(vector, layers.Dense(1)(vector)), "A", tmp_path)
    pooled = layers.GlobalAveragePooling2D()(found)
    two = keras.Model(image, [layers.Dense(1)(pooled), layers.Dense(1)(pooled)])
    with pytest.raises(ImportRefused, match="1 inputs and 2 outputs"):
        imported(two, "A", tmp_path)
    flat = keras.Input((16, 16, 1))
    with pytest.raises(ImportRefused, match="has no layer with a feature map"):
        imported(keras.Model(flat, layers.Dense(1)(layers.Flatten()(flat))), "A", tmp_path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_file_is_never_run_unasked(tmp_path, suffix):
    import keras

    image, found = networks.features()
    stained = keras.layers.Lambda(lambda x: x * 2.0, name="stain")(found)
    network = keras.Model(image, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(stained)))
    path = tmp_path / f"code{suffix}"
    network.save(path)
    with pytest.raises(ImportRefused, match=r"carries code .* in the layers stain \(Lambda\).*--unsafe"):
        load_keras_file(path)
    asked = load_keras_file(path, unsafe=True)
    tensors = networks.images(network, 2)
    assert asked.predict_on_batch(tensors) == pytest.approx(network.predict_on_batch(tensors), abs=1e-6)


def test_a_network_with_code_that_was_asked_for_is_served_compiled_without_that_code(tmp_path):
    import keras

    image, found = networks.features()
    stained = keras.layers.Lambda(lambda x: x * 2.0, name="stain")(found)
    pooled = keras.layers.GlobalAveragePooling2D()(stained)
    network = networks.spread(keras.Model(image, keras.layers.Dense(1, activation="sigmoid")(pooled)))
    path = tmp_path / "code.keras"
    network.save(path)
    plan = ImportPlan("code", ("A",), value_range="0..1", unsafe=True)
    bundle = import_network(load_keras_file(path, True), plan, path, tmp_path / "b", "a file").bundle
    tensors = networks.images(network, 3)
    found_here = bundle.everyone.probabilities(open_engine(bundle, "f32").run(tensors).logits)
    assert found_here == pytest.approx(np.asarray(network.predict_on_batch(tensors)), abs=1e-5)
    from model.engine.protocol import EngineUnsuitable

    with pytest.raises(EngineUnsuitable):
        open_engine(bundle, "f32", engine="keras")


def test_files_that_hold_no_network_say_what_is_needed(tmp_path):
    network = networks.classifier(1)
    network.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(ImportRefused, match=r"weights alone, .*network.save\('network.keras'\)"):
        load_keras_file(tmp_path / "only.weights.h5")
    network.save(tmp_path / "whole.keras")
    data = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImportRefused, match="damaged or truncated"):
        load_keras_file(tmp_path / "cut.keras")
    network.save(tmp_path / "whole.h5")
    data = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImportRefused, match="damaged or truncated"):
        load_keras_file(tmp_path / "cut.h5")
    (tmp_path / "renamed.keras").write_bytes((tmp_path / "whole.h5").read_bytes())
    with pytest.raises(ImportRefused, match=r"rename it to renamed\.h5"):
        load_keras_file(tmp_path / "renamed.keras")
    (tmp_path / "text.keras").write_text("nothing")
    with pytest.raises(ImportRefused, match="no Keras file"):
        load_keras_file(tmp_path / "text.keras")
    with pytest.raises(ImportRefused, match="it is a folder"):
        load_keras_file(tmp_path)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"module": "keras.layers", "class_name": "TFSMLayer"}, "it needs TFSMLayer"),
        (
            {"module": "mylab.layers", "class_name": "Attention", "registered_name": "mylab>Attention"},
            "it needs Attention",
        ),
        ({"module": "os", "class_name": "system", "registered_name": None}, r"it needs system \(os\)"),
    ],
)
def test_layers_that_are_not_keras_own_are_named_before_anything_is_loaded(tmp_path, layer, message):
    networks.classifier(1).save(tmp_path / "good.keras")
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad:
        for name in good.namelist():
            data = good.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["config"]["layers"].append({**layer, "config": {"name": "evil"}})
                data = json.dumps(config).encode()
            bad.writestr(name, data)
    with pytest.raises(ImportRefused, match=message):
        load_keras_file(tmp_path / "bad.keras")


def test_layers_within_a_network_within_a_network_can_be_explained():
    import model

    for sequential in (True, False):
        network = networks.nested(sequential)
        heatmap = model.generate_gradcam(network, networks.images(network, 1, 255.0), "last_relu", label=1)
        assert heatmap.shape == (8, 8)
