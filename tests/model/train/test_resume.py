"""Training that was killed goes on at the step of its last checkpoint, and two stages freeze what they say."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.dataset.samples import DatasetInvalid, Source
from model.preprocessing.tensor import Preprocessing
from model.train import training
from model.train.architecture import build_network
from model.train.batches import ImageCache
from model.train.checkpoint import read_state
from model.train.fitting import fit
from model.train.history import EpochRecord, draw_curves
from model.train.initial_weights import load_start, set_learning
from model.train.plan import FittingPlan, TrainingPlan
from model.train.schedule import Stage, rate_factor, stage_at, stalled, within
from model.train.training import train

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("needs_tensorflow"), pytest.mark.timeout(600)]
SMALL = Preprocessing(size=64, channels=1, mean=(0.5,), std=(0.25,))
STEPS_AN_EPOCH = 3

KILLED = """
import os, signal, sys
from pathlib import Path
from model.train.training import train
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from tests.model.train.test_resume import plan_of
at = int(sys.argv[3])
def on_progress(step):
    if step.phase == "training" and step.done == at:
        os.kill(os.getpid(), signal.SIGKILL)
train(plan_of(Path(sys.argv[1]), Path(sys.argv[2])), on_progress=on_progress)
"""


def plan_of(data: Path, output: Path) -> TrainingPlan:
    return TrainingPlan(
        sources=(Source(data, "resized"),),
        output=output,
        name="resized",
        minimum_positives=3,
        epochs=4,
        head_epochs=2,
        trained="conv3",
        fine_tuning=0.5,
        batch=8,
        averaging=0.9,
        preprocessing=SMALL,
        architecture="tiny",
        threads=1,
        checkpoint_seconds=0.0,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "data"
    random = np.random.default_rng(0)
    for name, level in (("NORMAL", 90), ("Bright", 130)):
        (folder / name).mkdir(parents=True)
        for index in range(20):
            pixels = np.clip(random.normal(level, 40, (80, 80)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{name}{index}.png"), pixels)
    return folder


def ended(data, output, steps):
    """Run to the end; return the bundle, and the last values of all that a step depends on, in float32."""
    kept = {}

    def on_progress(step):
        if step.phase == "training":
            steps.append(step.done)
        elif step.phase == "measuring" and not kept:
            with np.load(output / "training" / "checkpoint.npz") as arrays:
                kept.update({name: arrays[name] for name in arrays.files if name != "state"})

    return train(plan_of(data, output), on_progress=on_progress), kept


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    """An uninterrupted run."""
    return ended(data, tmp_path_factory.mktemp("whole"), [])


@pytest.fixture(scope="module")
def whole(whole_run):
    return whole_run[0]


def weights_of(bundle):
    import keras

    return keras.models.load_model(bundle.folder / "weights.keras", compile=False).get_weights()


def without_times(folder):
    with (folder / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("at", [STEPS_AN_EPOCH + 2, 3 * STEPS_AN_EPOCH + 2])
def test_a_killed_run_goes_on_to_the_same_weights_and_history(whole_run, data, tmp_path, at):
    """Once in the head's epochs and once in the fine-tuning, each in the middle of an epoch.

    The weights of the bundle are those of the best epoch, which may lie before the kill: those after the last step are
    compared, with their average and the optimizer's own.
    """
    command = [sys.executable, "-c", KILLED, str(data), str(tmp_path), str(at)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    state = read_state(tmp_path / "training")
    assert state is not None
    assert state.steps == at - 1, "the checkpoint after the last whole step"
    assert state.step not in (0, STEPS_AN_EPOCH)
    steps = []
    again, last = ended(data, tmp_path, steps)
    assert steps == list(range(at, 4 * STEPS_AN_EPOCH + 1)), "no step is learnt twice"
    assert without_times(tmp_path) == without_times(whole_run[0].folder)
    kinds = [name.split(".")[0] for name in last]
    assert min(map(kinds.count, ("weight", "optimizer", "average"))) > 5
    assert last.keys() == whole_run[1].keys()
    for name, value in last.items():
        assert np.array_equal(value, whole_run[1][name]), name
    for mine, other in zip(weights_of(again), weights_of(whole_run[0]), strict=True):
        assert np.array_equal(mine, other), "the best epoch's"
    assert not (tmp_path / "training").exists()


class Stopped(Exception):
    pass


def stop_while(phase):
    def stop(step):
        if step.phase == phase:
            raise Stopped

    return stop


@pytest.fixture
def begun(data, tmp_path):
    """A run that ended in its first epoch, on a copy of the data that a test may change."""
    shutil.copytree(data, tmp_path / "data")
    plan = plan_of(tmp_path / "data", tmp_path / "out")
    with pytest.raises(Stopped):
        train(plan, on_progress=stop_while("training"))
    return plan


def refused(plan, what):
    """Assert that a run is not gone on with, and before anything is learnt."""
    with pytest.raises(DatasetInvalid, match=f"holds a run that began with other {what}; give the same"):
        train(plan, on_progress=stop_while("training"))


def test_a_run_of_other_options_is_not_gone_on_from(begun):
    refused(replace(begun, learning_rate=0.5), "learning_rate")
    with pytest.raises(Stopped):
        train(replace(begun, threads=2, checkpoint_seconds=1.0), on_progress=stop_while("training"))


def test_a_run_on_another_backend_is_not_gone_on_from(begun):
    """Both round and draw otherwise: it would not end with the weights of an uninterrupted run."""
    path = begun.output / "training" / "plan.json"
    told = json.loads(path.read_text())
    assert told["backend"] == "tensorflow"
    path.write_text(json.dumps({**told, "backend": "torch"}))
    refused(begun, "backend")


def test_a_run_of_other_parts_is_not_gone_on_from_lest_test_images_were_learnt(begun, data, tmp_path):
    from model.dataset.sources import read_sources
    from model.dataset.split import split_by_patient, write_split

    write_split(split_by_patient(read_sources(begun.sources), 99), tmp_path / "s2.csv")
    refused(replace(begun, split_file=tmp_path / "s2.csv"), r"parts \(the split\)")


@pytest.mark.parametrize(
    ("what", "change"),
    [
        (
            "labels of the images",
            lambda samples: [replace(s, labels={"Bright": 1 - s.labels["Bright"]}) for s in samples],
        ),
        ("patients", lambda samples: [replace(s, patient="resized:one") for s in samples]),
        ("domains", lambda samples: [replace(s, domain="other") for s in samples]),
        ("images, labels of the images, patients, domains", lambda samples: samples[1:]),
    ],
)
def test_a_run_of_other_samples_is_not_gone_on_from(begun, monkeypatch, what, change):
    read = training.read_sources
    monkeypatch.setattr(training, "read_sources", lambda *given: change(read(*given)))
    refused(begun, what)


def test_images_are_read_once_for_all_processes_of_a_run(begun):
    def unread(path):
        raise AssertionError(path)

    with pytest.raises(Stopped):
        train(begun, unread, stop_while("training"))


def test_a_run_that_ends_while_measuring_leaves_no_bundle(begun):
    from model.bundle.bundle import BundleInvalid, load_bundle

    with pytest.raises(Stopped):
        train(begun, on_progress=stop_while("measuring"))
    assert not (begun.output / "model.toml").exists()
    assert (begun.output / "training" / "bundle" / "model.toml").exists(), "a draft, for the engine that measures"
    with pytest.raises(BundleInvalid, match="it is unfinished"):
        load_bundle(begun.output / "training" / "bundle")
    bundle = train(begun)
    assert load_bundle(begun.output).digest == bundle.digest
    assert {"UNFINISHED", "training", "bundle"}.isdisjoint(path.name for path in begun.output.iterdir())


@pytest.mark.parametrize(("head", "epochs"), [(1, 2), (2, 4)])
def test_the_heads_epochs_are_those_that_were_asked_for_whatever_domains_round_to(tmp_path, head, epochs):
    """Of 64 images of three domains an epoch draws 63: each domain's share is rounded."""
    targets = np.array([[0.0], [1.0]] * 32, np.float32)
    resized = np.random.default_rng(0).integers(0, 65535, (64, 32, 32), np.uint16)
    cache = ImageCache(resized, np.arange(64), targets, ("a",) * 22 + ("b",) * 21 + ("c",) * 21)
    stages = (Stage(32, head / epochs, "head"), Stage(32, 1 - head / epochs, "conv3"))
    spec = replace(SMALL, size=32)
    plan = FittingPlan(("A",), preprocessing=spec, epochs=epochs, batch=8, stages=stages, architecture="tiny")
    history = fit(plan, {"training": cache, "validation": cache}, tmp_path)
    assert {record.images for record in history} == {63}
    assert [record.trained for record in history] == ["head"] * head + ["conv3"] * (epochs - head)


def test_the_bundle_says_what_was_done_and_the_curves_have_four_panels(whole):
    rows = without_times(whole.folder)
    assert [row["trained"] for row in rows] == ["head", "head", "conv3", "conv3"]
    assert all(0 <= float(row["validation_accuracy"]) <= 1 for row in rows)
    fitted = whole.description["provenance"]["fitting"]
    assert fitted["stages"] == "50% at 64 px (head), 50% at 64 px (conv3)"
    assert fitted["network"] == "tiny"
    picture = cv2.imread(str(whole.folder / "curves.png"))
    assert picture.shape[0] > 600


def test_a_frozen_base_keeps_its_weights_and_its_normalisations_statistics():
    import keras

    network = build_network(1, 64, 1, architecture="tiny")
    images, targets = np.random.default_rng(0).random((8, 64, 64, 1), np.float32), np.ones((8, 1), np.float32)
    for trained, frozen in (("head", {"conv1", "conv2", "conv3", "bn"}), ("conv2", {"conv1"})):
        set_learning(network, trained)
        network.compile(optimizer=keras.optimizers.AdamW(0.1), loss="mse")
        before = {layer.name: layer.get_weights() for layer in network.layers}
        network.train_on_batch(images, targets)
        for layer in network.layers:
            if layer.weights:
                same = all(np.array_equal(a, b) for a, b in zip(before[layer.name], layer.get_weights(), strict=True))
                assert same == (layer.name.split("_")[0] in frozen), layer.name
    with pytest.raises(ValueError, match="no block 'conv9'; allowed are head, all, conv1, conv2, conv3"):
        set_learning(network, "conv9")


def test_a_bundle_gives_its_layers_and_the_labels_that_both_have(whole):
    import keras

    theirs = keras.models.load_model(whole.folder / "weights.keras", compile=False)
    network = build_network(2, None, 1, architecture="tiny")
    said = load_start(network, whole.folder, ("Other", "Bright"))
    assert said == f"the bundle resized 1 ({whole.digest[:12]})"
    for name in ("conv1_conv", "bn"):
        for mine, other in zip(
            network.get_layer(name).get_weights(), theirs.get_layer(name).get_weights(), strict=True
        ):
            assert np.array_equal(mine, other)
    kernel = network.get_layer("logits").get_weights()[0]
    assert np.array_equal(kernel[:, 1], theirs.get_layer("logits").get_weights()[0][:, 0])
    with pytest.raises(DatasetInvalid, match="is another network: layer conv1_conv has weights of shape"):
        load_start(build_network(1, None, 3, architecture="tiny"), whole.folder, ("Bright",))


def test_a_start_that_was_trained_on_the_test_part_is_refused_unless_its_split_is_kept(whole, data, tmp_path):
    plan = replace(plan_of(data, tmp_path / "out"), start=whole.folder, seed=7, epochs=1, head_epochs=0, trained="all")
    with pytest.raises(DatasetInvalid, match=r"network's own training .* start with that bundle's split file"):
        train(plan)
    kept = train(replace(plan, output=tmp_path / "kept", split_file=whole.folder / "split.csv"))
    assert kept.description["provenance"]["fitting"]["start"].startswith("the bundle resized 1")


def test_an_imagenet_weights_file_without_top_fills_the_base(tmp_path):
    import h5py
    import keras

    theirs = keras.Model(
        *(lambda n: (n.inputs, n.get_layer("relu").output))(build_network(3, 64, 3, architecture="tiny"))
    )
    path = tmp_path / "notop.h5"
    with h5py.File(path, "w") as file:  # as Keras' own files are: a group a layer, its weights named in an attribute
        file.attrs["layer_names"] = [layer.name.encode() for layer in theirs.layers]
        for layer in theirs.layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [f"{layer.name}/{i}".encode() for i in range(len(layer.weights))]
            for index, value in enumerate(layer.get_weights()):
                group[f"{layer.name}/{index}"] = value
    network = build_network(2, None, 3, architecture="tiny")
    assert load_start(network, path, ("A", "B")) == "the weights file notop.h5"
    for mine, other in zip(network.get_weights(), theirs.get_weights(), strict=False):
        assert np.array_equal(mine, other)
    with pytest.raises(DatasetInvalid, match="neither a weights file nor a bundle"):
        load_start(network, tmp_path / "none", ("A",))
    with pytest.raises(DatasetInvalid, match="which holds weights of another network"):
        load_start(build_network(2, None, 1, architecture="tiny"), path, ("A", "B"))


def test_stages_follow_one_another_and_changed_layers_begin_a_schedule_of_their_own():
    stages = (Stage(64, 0.5, "head"), Stage(32, 0.25), Stage(64, 0.25))
    assert [stage_at(stages, p) for p in (0, 0.49, 0.5, 0.74, 0.75, 1.0)] == [0, 0, 1, 1, 2, 2]
    assert within(stages, 0, 0.25) == pytest.approx(0.5)
    assert within(stages, 1, 0.5) == 0.0
    assert within(stages, 2, 0.75) == pytest.approx(0.5), "a change of size alone does not begin the schedule anew"


def test_rates_warm_up_fall_by_cosine_and_on_plateaus():
    assert rate_factor("cosine", 0.0, 0, ()) == pytest.approx(1 / 60)
    assert rate_factor("cosine", 1.0, 999, ()) == pytest.approx(0.01)
    assert rate_factor("constant", 1.0, 999, ()) == 1.0
    assert rate_factor("plateau", 0.5, 999, (0.5, 0.6, 0.6)) == 1.0
    assert rate_factor("plateau", 0.5, 999, (0.5, 0.6, 0.6, 0.5)) == pytest.approx(0.3)
    assert stalled((0.5, 0.7, 0.7, 0.6)) == 2
    assert stalled(()) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"exclusive_classes": True},
        {"focus": 2.0},
        {"weighted": False, "schedule": "plateau", "precision": "mixed_bfloat16"},
    ],
)
def test_other_losses_and_schedules_learn_the_squares_too(data, tmp_path, options):
    easy = {"averaging": 0.0, "head_epochs": 0, "trained": "all", "epochs": 12, "learning_rate": 1e-2}
    bundle = train(replace(plan_of(data, tmp_path), **{**easy, **options}))
    assert bundle.label_names == ("Bright",)
    assert float(without_times(tmp_path)[-1]["training_auroc"]) > 0.9


def test_a_softmax_over_two_classes_is_the_sigmoid_of_the_difference_of_their_scores():
    from model.train.architecture import one_against_normal

    two = build_network(2, 64, 1, architecture="tiny")
    image = np.random.default_rng(0).random((3, 64, 64, 1), np.float32)
    scores = np.asarray(two.predict_on_batch(image))
    one = np.asarray(one_against_normal(two).predict_on_batch(image))
    assert one[:, 0] == pytest.approx(scores[:, 1] - scores[:, 0], abs=1e-5)


def test_patience_ends_a_run_that_gets_no_better(data, tmp_path):
    plan = replace(plan_of(data, tmp_path), epochs=30, head_epochs=0, trained="all", patience=2, learning_rate=1e-9)
    train(plan)
    assert len(without_times(tmp_path)) <= 6


def test_curves_of_one_epoch_and_of_unknown_figures_can_be_drawn(tmp_path):
    nan = float("nan")
    draw_curves([EpochRecord(1, 64, 8, 1.0, 1e-3, 0.7, 0.7, nan, 0.5, nan, "")], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
