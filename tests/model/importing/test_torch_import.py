"""DenseNets of PyTorch answer in Keras and compiled as they do there, and their images are prepared as there."""

import os
import subprocess
import sys

import numpy as np
import pytest

from model.importing.known_networks import find_network, known_networks, recognize
from model.importing.torch_files import load_torch_file
from model.network.keras_files import ImportRefused
from model.preprocessing.tensor import Preprocessing, prepare
from tests.model import torch_peers

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("needs_tensorflow"), pytest.mark.timeout(600)]

LIKENESS = 1e-4
NUMBER = 20


@pytest.fixture(scope="module")
def xrv():
    return torch_peers.torchxrayvision()


def imported(path, folder, **said):
    from worker.model_registry.import_options import make_bundle

    options = ("--labels", "--like", "--range", "--geometry", "--size", "--interpolation", "--channels", "--layer")
    options += ("--thresholds", "--answer", "--no-finding", "--ages", "--views", "--reference", "--name")
    given = dict.fromkeys(options) | {f"--{name.replace('_', '-')}": value for name, value in said.items()}
    return make_bundle(path, given, "1", False, None, folder).bundle


def probabilities(bundle, tensors):
    from model.engine.opening import open_engine

    return bundle.everyone.probabilities(open_engine(bundle, "f32", threads=2).run(tensors).logits)


def test_torchxrayvisions_densenet_answers_as_there_from_file_to_bundle(xrv, tmp_path):
    import torch

    network = torch_peers.densenet()
    network.op_threshs = torch.tensor(xrv.models.model_urls["densenet121-res224-chex"]["op_threshs"])
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    bundle = imported(tmp_path / "weights.pt", tmp_path / "bundle")
    recipe = find_network("densenet121-res224-chex")  # known by its operating points
    assert bundle.label_names == tuple(label for label in recipe.labels if label)
    assert bundle.thresholds == pytest.approx(recipe.thresholds)
    kept = [index for index, label in enumerate(recipe.labels) if label]
    spec = bundle.preprocessing
    assert (spec.geometry, spec.channels, spec.size, spec.interpolation) == ("crop", 1, 224, "gaussian")
    tensors = (np.random.default_rng(1).random((NUMBER, 224, 224, 1), dtype=np.float32) - 0.5) * 2048
    network.op_threshs = None
    logits = torch_peers.answers(network, tensors)[:, kept]
    assert np.std(logits, axis=0).min() > 1e-3
    assert np.abs(logits).max() < 50
    found = probabilities(bundle, tensors)
    assert found == pytest.approx(1 / (1 + np.exp(-logits)), abs=LIKENESS)
    # its own numbers are these, bent so that the operating point lies at a half: which side they are on is the same
    network.op_threshs = torch.tensor(xrv.models.model_urls["densenet121-res224-chex"]["op_threshs"])
    limits = np.array([bundle.thresholds[label] for label in bundle.label_names])
    assert ((found >= limits) == (torch_peers.answers(network, tensors)[:, kept] >= 0.5)).all()


def test_chexnets_state_dict_of_2017_answers_as_the_network_it_was_made_of(xrv, tmp_path):
    import torch

    network = torch_peers.densenet(labels=14, channels=3, seed=4)
    state = torch_peers.old_names(network.state_dict(), "module.densenet121.")
    assert "module.densenet121.features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(
        {"epoch": 3, "state_dict": state, "best_loss": np.float64(0.2), "optimizer": {"param_groups": [{"lr": 1e-4}]}},
        tmp_path / "model.pth.tar",
    )
    bundle = imported(tmp_path / "model.pth.tar", tmp_path / "bundle", like="chexnet", name="chexnet")
    assert len(bundle.labels) == 14
    assert bundle.preprocessing.mean == (0.485, 0.456, 0.406)
    assert bundle.preprocessing.std == (0.229, 0.224, 0.225)
    tensors = np.random.default_rng(2).normal(size=(NUMBER, 224, 224, 3)).astype(np.float32)
    expected = torch.sigmoid(torch.from_numpy(torch_peers.answers(network, tensors))).numpy()
    assert np.std(expected, axis=0).max() > 1e-3
    assert probabilities(bundle, tensors) == pytest.approx(expected, abs=LIKENESS)


@pytest.mark.parametrize(
    "shape", [(300, 401), (401, 300), (224, 224), (1955, 1841), (100, 151), (151, 100), (500, 501), (501, 500)]
)
def test_images_are_prepared_as_torchxrayvision_prepares_them(xrv, shape):
    pixels = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    recipe = find_network("densenet121-res224-all")
    spec = Preprocessing(224, recipe.geometry, recipe.interpolation, 1, (0.5,), (1 / 2048,))
    normalised = xrv.datasets.normalize(pixels, 255)[np.newaxis]
    cropped = xrv.datasets.XRayCenterCrop()(normalised)
    found = prepare((pixels / 255).astype(np.float32), spec).tensor[..., 0]
    assert found == pytest.approx(xrv.datasets.XRayResizer(224)(cropped)[0], abs=2e-3)
    if min(shape) >= 224:  # its other engine is our other interpolation
        spec = Preprocessing(224, "crop", "area", 1, (0.5,), (1 / 2048,))
        expected = xrv.datasets.XRayResizer(224, engine="cv2")(cropped)[0]
        assert prepare((pixels / 255).astype(np.float32), spec).tensor[..., 0] == pytest.approx(expected, abs=2e-3)


def test_what_is_known_of_torchxrayvisions_models_is_what_it_says_itself(xrv):
    for name, recipe in known_networks().items():
        if name.startswith("densenet"):
            theirs = xrv.models.model_urls[name]
            assert list(recipe.labels) == theirs["labels"]
            points = {k: v for k, v in zip(theirs["labels"], theirs["op_threshs"], strict=True) if k}
            assert recipe.thresholds == points
            assert recognize(theirs["weights_url"].rsplit("/", 1)[1]) is recipe
            assert recognize("any.pt", theirs["op_threshs"]) is recipe


def test_whole_pickled_networks_are_read_without_running_what_is_in_them(xrv, tmp_path):
    import torch

    network = torch_peers.densenet()
    torch.save(network, tmp_path / "whole.pt")
    found = load_torch_file(tmp_path / "whole.pt")
    assert set(found.tensors) == {n for n in network.state_dict() if not n.endswith("num_batches_tracked")}
    torch.save(torch.nn.DataParallel(network), tmp_path / "parallel.pt")
    assert set(load_torch_file(tmp_path / "parallel.pt").tensors) == set(found.tensors)
    name = known_networks()["densenet121-res224-nih"].file
    torch.save(network, tmp_path / name, _use_new_zipfile_serialization=False)
    with pytest.raises(ImportRefused, match=r"torchxrayvision itself, .*weights='densenet121-res224-nih'"):
        load_torch_file(tmp_path / name)


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return (os.system, ("echo pwned > pwned",))


def test_files_that_are_no_weights_are_refused_and_no_code_of_theirs_is_run(xrv, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    for old in (False, True):
        torch.save({"state_dict": Evil()}, tmp_path / "evil.pt", _use_new_zipfile_serialization=not old)
        with pytest.raises(ImportRefused, match=r"could run code on this machine; save the weights alone"):
            load_torch_file(tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(ImportRefused, match=r"it holds no DenseNet.*found: weight, bias"):
        load_torch_file(tmp_path / "linear.pt")
    data = (tmp_path / "linear.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImportRefused, match="damaged or truncated"):
        load_torch_file(tmp_path / "cut.pt")
    for junk in (b"junk", b"", b"\x80\x02" + b"X" * 40):
        (tmp_path / "junk.pt").write_bytes(junk)
        with pytest.raises(ImportRefused, match="damaged or truncated"):
            load_torch_file(tmp_path / "junk.pt")


def test_weights_that_are_missing_left_over_or_misshapen_are_named(xrv, tmp_path):
    from model.importing.torch_densenet import densenet_from_torch

    tensors = {
        name: value.numpy()
        for name, value in torch_peers.densenet().state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path = tmp_path / "weights.pt"
    less = {name: value for name, value in tensors.items() if name != "features.norm5.running_var"}
    with pytest.raises(ImportRefused, match=r"weights are missing: features\.norm5\.running_var"):
        densenet_from_torch(path, less, 64)
    with pytest.raises(ImportRefused, match=r"have no place in a densenet121: features\.extra"):
        densenet_from_torch(path, {**tensors, "features.extra": np.zeros(1)}, 64)
    with pytest.raises(
        ImportRefused, match=r"classifier\.weight is needed after the features \(found: classifier\.3\.weight"
    ):
        densenet_from_torch(path, {n.replace("classifier.", "classifier.3."): v for n, v in tensors.items()}, 64)
    short = {name: value for name, value in tensors.items() if "denselayer16" not in name}
    with pytest.raises(ImportRefused, match=r"its dense blocks have .* layers; allowed are DenseNet121"):
        densenet_from_torch(path, short, 64)


def test_without_pytorch_the_message_says_how_to_get_it(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"PK")
    code = (
        "import importlib.util as u, pathlib, sys\n"
        "find = u.find_spec\nu.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        "from model.importing.torch_files import load_torch_file\n"
        "load_torch_file(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w.pt")], capture_output=True, text=True, check=False, timeout=60
    )
    assert "pip install 'cxr-triage[torch]'" in done.stderr
