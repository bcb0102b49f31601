"""Classes that exclude one another: a softmax over them, from class folders to a bundle, its maps and its report."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from model.bundle.bundle import load_bundle
from model.dataset.samples import Sample
from model.dataset.sources import DatasetInvalid, Source
from model.engine.opening import open_engine
from model.evaluate.class_metrics import NONE_OF_THEM, class_metrics
from model.evaluate.evaluation import evaluate, select_evaluation_set
from model.evaluate.html_report import report_html
from model.explain.gradcam import closed_form_maps
from model.preprocessing.image_files import read_raster
from model.preprocessing.tensor import Preprocessing
from model.train.exclusive_classes import exclusive_classes, with_logits
from model.train.plan import TrainingPlan
from model.train.training import train

SMALL = Preprocessing(size=64, channels=1, mean=(0.5,), std=(0.25,))


def sample(path, **labels):
    return Sample(path, "here", str(path), labels, str(path))


def test_a_class_is_added_for_images_with_none_of_the_labels(tmp_path):
    ill, other, well = (sample(tmp_path / n, A=a, B=b) for n, a, b in (("1", 1.0, 0.0), ("2", 0.0, 1.0), ("3", 0, 0)))
    assert exclusive_classes([ill, other, well], ("A", "B")) == ("Normal", "A", "B")
    assert exclusive_classes([ill, other], ("A", "B")) == ("A", "B")
    assert exclusive_classes([ill, other], ("A",)) == ("Normal", "A")
    with pytest.raises(DatasetInvalid, match="at least two classes; every image is of A"):
        exclusive_classes([ill], ("A",))


def test_classes_that_were_said_are_counted_as_by_hand():
    odds = math.log(3)  # a probability of 0.75
    logits = np.float32([[odds, -odds], [-odds, odds], [-2 * odds, -2 * odds], [odds, -odds], [0.1, 0.2]])
    targets = np.float32([[1, 0], [1, 0], [0, 0], [0, 0], [math.nan, 0]])
    found = class_metrics(logits, targets, np.array(list("abcde")), ("A", "B"), with_rest=True)
    assert found["names"] == [NONE_OF_THEM, "A", "B"]
    assert found["confusion"] == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert (found["images"], found["accuracy"], found["balanced_accuracy"]) == (4, 0.5, 0.5)
    low, high = found["accuracy_interval"]
    assert 0 <= low < 0.5 < high <= 1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes that a network learns at once: stripes across, stripes down, and none."""
    folder = tmp_path_factory.mktemp("classes") / "data"
    random = np.random.default_rng(0)
    wave = 70 * np.sin(np.arange(80) * 2 * np.pi / 10)
    stripes = {
        "NORMAL": np.zeros((80, 80)),
        "BACTERIA": np.tile(wave, (80, 1)),
        "VIRUS": np.tile(wave[:, None], (1, 80)),
    }
    for name, pattern in stripes.items():
        (folder / name).mkdir(parents=True)
        for index in range(20):
            pixels = np.clip(random.normal(pattern + 125, 20), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{name}{index}.png"), pixels)
    return folder


@pytest.fixture(scope="module")
def plan(data):
    return TrainingPlan(
        (Source(data, "resized"),), data.parent / "out", "resized", minimum_positives=3, epochs=14, batch=8,
        learning_rate=1e-2, preprocessing=SMALL, architecture="tiny", threads=1, exclusive_classes=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(plan):
    return train(plan)


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
def test_three_classes_are_learnt_and_the_report_counts_them(bundle, data):
    assert set(bundle.label_names) == {"Bacteria", "Virus"} or set(bundle.label_names) == {"BACTERIA", "VIRUS"}
    source = Source(data, "resized")
    chosen = select_evaluation_set(bundle, [source], bundle.folder / "split.csv", "test", False)
    found = evaluate(bundle, open_engine(bundle, "f32"), chosen, [source], read_raster, worst=0)
    classes = found.report["classes"]
    assert classes["names"] == [NONE_OF_THEM, *bundle.label_names]
    assert np.sum(classes["confusion"]) == found.report["images"] == classes["images"]
    assert classes["accuracy"] > 0.8
    assert f"Accuracy {classes['accuracy']:.3f}" in report_html(found, "today")


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
def test_a_labels_logit_is_that_of_its_softmax_and_its_maps_are_closed_form(bundle):
    import keras

    network = keras.models.load_model(bundle.weights_path, compile=False)
    scores = keras.Model(network.inputs, network.get_layer("logits").output)
    tensors = np.random.default_rng(1).normal(0, 1, (4, 64, 64, 1)).astype(np.float32)
    raw = np.asarray(scores.predict_on_batch(tensors), np.float64)
    softmax = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    output = open_engine(bundle, "f32").run(tensors)
    assert 1 / (1 + np.exp(-output.logits)) == pytest.approx(softmax[:, 1:], abs=1e-3)
    head = bundle.head
    assert head is not None
    assert head.logits(head.pooled(output.activations[0])) == pytest.approx(output.logits[0], abs=1e-3)
    # the map's sum is the derivative's: nudging the pooled features moves the logit as the map says
    maps = closed_form_maps(head, output.activations[0])
    pooled = head.pooled(output.activations[0])
    grown = head.logits(pooled * 1.0001) - head.logits(pooled)
    sums = [maps.contribution(i).sum() * 1e-4 for i in range(2)]
    assert grown == pytest.approx(sums, rel=0.05, abs=1e-6)


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
def test_another_training_begins_with_the_scores_of_classes_of_the_same_name(bundle):
    import keras

    from model.train.architecture import build_network
    from model.train.initial_weights import load_start

    theirs = keras.models.load_model(bundle.weights_path, compile=False).get_layer("logits").get_weights()[0]
    network = build_network(2, None, 1, architecture="tiny")
    load_start(network, bundle.folder, (bundle.label_names[1], "Edema"))
    assert network.get_layer("logits").get_weights()[0][:, 0] == pytest.approx(theirs[:, 2])


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
def test_classes_without_a_normal_one_and_labels_that_occur_together(plan, data, tmp_path):
    for name in ("BACTERIA", "VIRUS"):
        (tmp_path / "ill" / name).mkdir(parents=True)
        for path in (data / name).iterdir():
            (tmp_path / "ill" / name / path.name).write_bytes(path.read_bytes())
    two = replace(plan, sources=(Source(tmp_path / "ill", "ill"),), output=tmp_path / "out", epochs=2)
    made = train(two)
    assert len(made.label_names) == 2
    tensors = np.random.default_rng(1).normal(0, 1, (2, 64, 64, 1)).astype(np.float32)
    logits = open_engine(load_bundle(tmp_path / "out"), "f32").run(tensors).logits
    assert logits[:, 0] == pytest.approx(-logits[:, 1], abs=1e-4), "of two classes one's odds are the other's inverted"


def test_two_scores_become_one_logit_each():
    keras = pytest.importorskip("keras")
    image = keras.Input((8,))
    network = keras.Model(image, keras.layers.Dense(3, name="logits")(keras.layers.Dropout(0.1, name="dropout")(image)))
    labelled = with_logits(network, ("Normal", "A", "B"), ("B", "A"))
    raw = np.asarray(network.predict_on_batch(np.ones((1, 8), np.float32)), np.float64)[0]
    odds = [raw[k] - np.logaddexp.reduce(np.delete(raw, k)) for k in (2, 1)]
    assert np.asarray(labelled.predict_on_batch(np.ones((1, 8), np.float32)))[0] == pytest.approx(odds, abs=1e-5)
