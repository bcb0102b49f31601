"""Files of Keras 2 answer in Keras 3 as they did, whatever was frozen, or are refused with what is in the way."""

import importlib.util
import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

import model
from model.importing.keras_import import ImportPlan, import_network
from model.network.keras_files import ImportRefused, load_keras_file
from tests.peers.programs import absent

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("needs_tensorflow"), pytest.mark.timeout(300)]

# trained in mixed precision, Keras 2 rounded where it is computed in full here
BOUNDS = {"mixed.h5": 1e-3}
FILES = (
    "frozen0.h5",
    "frozen3.h5",
    "frozen9.h5",
    "zipped.keras",
    "tutorial.h5",
    "odd.h5",
    "mixed.h5",
    "densenet121.h5",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of `tests.model.keras2_files`, and what Keras 2 answered."""
    if importlib.util.find_spec("tf_keras") is None:
        absent("tf_keras is not installed (the extra [test] has it)")
    folder = tmp_path_factory.mktemp("keras2")
    command = [sys.executable, "-m", "tests.model.keras2_files", str(folder)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "KERAS_BACKEND": "tensorflow"})
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_keras_2_answers_as_it_did_there(files, name):
    known = np.load((files / name).with_suffix(".npz"))
    network = load_keras_file(files / name)
    assert known["answers"].std(axis=0).max() > 1e-3, "the answers depend on the image"
    found = np.asarray(network.predict_on_batch(known["images"]))
    assert found == pytest.approx(known["answers"], abs=BOUNDS.get(name, 1e-5))


def test_a_densenet_of_keras_2_is_explained_by_its_layers_names_of_today(files):
    network = model.load_model(files / "densenet121.h5")
    image = np.load(files / "densenet121.npz")["images"][:1]
    heatmap = model.generate_gradcam(network, image, layer_name="conv3_block12_concat")
    assert heatmap.shape == (4, 4)
    assert heatmap.max() > 0
    with pytest.raises(ValueError, match=r"layers that have: .*conv3_block12_concat"):
        model.generate_gradcam(network, image, layer_name="conv3_block12/concat")


def test_a_file_of_keras_2_becomes_a_bundle(files):
    plan = ImportPlan("old", ("Pneumonia",))
    path = files / "tutorial.h5"
    bundle = import_network(load_keras_file(path), plan, path, files / "bundle", "a Keras network").bundle
    assert bundle.label_names == ("Pneumonia",)
    assert bundle.preprocessing.std[0] == pytest.approx(1 / 255), "its own Rescaling is found"
    assert bundle.head is not None


def test_what_keras_3_cannot_do_is_named(files):
    with pytest.raises(ImportRefused, match=r"layer odd \(DepthwiseConv2D\) has groups = 2, which Keras 3 cannot do"):
        load_keras_file(files / "grouped.h5")


def test_weights_in_another_order_are_noticed(files, tmp_path):
    """A mean for a beta has the same shape, and would be taken without a word."""
    path = tmp_path / "reordered.h5"
    path.write_bytes((files / "frozen0.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]["backbone"]
        names = [name.decode() if isinstance(name, bytes) else name for name in group.attrs["weight_names"]]
        mean, beta = (next(i for i, name in enumerate(names) if word in name) for word in ("moving_mean", "beta"))
        names[mean], names[beta] = names[beta], names[mean]
        group.attrs["weight_names"] = names
    with pytest.raises(ImportRefused, match="layer backbone stores moving_mean where Keras 3 expects beta"):
        load_keras_file(path)


def test_code_in_a_file_of_keras_2_is_not_run(files, tmp_path):
    path = tmp_path / "lambda.h5"
    path.write_bytes((files / "odd.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        code = {"class_name": "Lambda", "config": {"name": "evil", "function": ["4wEAAAA=\n", None, None]}}
        config["config"]["layers"].append(code)
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ImportRefused, match=r"carries code .* evil"):
        load_keras_file(path)
