"""What a bundle was not made for is measured into its metrics and card, and the model stays the same."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.bundle.bundle import builtin_bundles_folder, load_bundle
from worker.tools.ood_report import main


@pytest.fixture
def bundle(tmp_path):
    return Path(shutil.copytree(builtin_bundles_folder() / "demonstration", tmp_path / "bundle"))


def test_a_photograph_is_measured_and_the_card_says_so(bundle, tmp_path, capsys):
    photograph = tmp_path / "photograph.png"
    cv2.imwrite(str(photograph), np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
    before = load_bundle(bundle)
    main([str(bundle), f"a photograph={photograph}"])
    after = load_bundle(bundle)
    found = after.metrics["distribution"]["a photograph"]
    assert (found["images"], found["outside"]) == (1, 1.0)
    assert after.digest == before.digest
    assert "| a photograph | 1 |" in (bundle / "README.md").read_text()
    assert "a photograph:" in capsys.readouterr().out


def test_what_ends_on_the_way_leaves_the_bundle_as_it_was(bundle, tmp_path, monkeypatch):
    photograph = tmp_path / "photograph.png"
    cv2.imwrite(str(photograph), np.full((90, 120, 3), 99, np.uint8))
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.publish.bundle_writer.write_table", full)  # the metrics are written by then
    with pytest.raises(OSError, match="No space left"):
        main([str(bundle), f"a photograph={photograph}"])
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "photograph.png"]


def test_what_is_not_understood_is_refused_with_an_example(bundle, capsys):
    with pytest.raises(SystemExit):
        main([str(bundle), "limbs"])
    assert "write 'limbs=hip.dcm,hand.dcm'" in capsys.readouterr().err
