"""`train` on the command line: a wrong option ends it in one line, before anything runs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

import model.train.training
from worker.cli.app import app

pytestmark = pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")


@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        (["--schedule", "foo"], "allowed are cosine, constant, plateau"),
        (["--precision", "foo"], "mixed_bfloat16"),
        (["--architecture", "foo"], "densenet201"),
        (["--seed", "-1"], "at least 0"),
        (["--train-from", "conv9"], "conv5"),
        (["--minutes", "0"], "a number above 0"),
        (["--uncertain", "maybe"], "ignore, zero, one"),
        (["--head-epochs", "12"], "at least 1 must be left"),
    ],
)
def test_a_wrong_option_ends_in_one_line_that_says_what_is_allowed(
    tmp_path: Path, option: list[str], allowed: str
) -> None:
    done = CliRunner().invoke(app, ["train", str(tmp_path), "--out", str(tmp_path / "out"), *option])
    assert done.exit_code == 2
    assert allowed in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_training_reads_images_as_the_worker_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader that `train` is given takes of JPEG 2000 what the worker's tensor is made of."""
    from worker.model_registry.preprocessing import enough_of

    class Reached(Exception):
        pass

    def reached(plan, read_image, *_others):
        assert plan.minimum_positives == 7
        assert read_image.keywords == {"enough": enough_of(plan.preprocessing)}
        raise Reached

    monkeypatch.setattr(model.train.training, "train", reached)
    command = ["train", str(tmp_path), "--out", str(tmp_path / "out"), "--minimum-positives", "7"]
    assert isinstance(CliRunner().invoke(app, command).exception, Reached)
    config = tmp_path / "site.toml"
    config.write_text("[reading]\nreduced_resolution = true\n", encoding="utf-8")
    assert isinstance(CliRunner().invoke(app, [*command, "--config", str(config)]).exception, Reached)


def test_training_reads_at_full_resolution_where_the_site_reads_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(
        model.train.training, "train", lambda _plan, read_image, *_others: read.append(read_image.keywords)
    )
    (tmp_path / "cxr-triage.toml").write_text("[reading]\nreduced_resolution = false\n", encoding="utf-8")
    CliRunner().invoke(app, ["train", str(tmp_path), "--out", str(tmp_path / "out"), "--home", str(tmp_path)])
    assert read == [{"enough": None}]


@pytest.mark.train
@pytest.mark.timeout(600)
def test_a_training_begins_with_what_it_read_and_ends_with_how_good_the_network_is(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    drawn = np.random.default_rng(0)
    for part, number in (("train", 24), ("val", 8), ("test", 12)):
        for name, level in (("NORMAL", 60), ("Bright", 190)):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for index in range(number):
                pixels = drawn.integers(level - 20, level + 20, (80, 80), np.uint8)
                cv2.imwrite(str(tmp_path / "data" / part / name / f"{index}.png"), pixels)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "worker", "train", str(tmp_path / "data"), "--out", str(out), "--name", "small"]
    options = ["--architecture", "tiny", "--epochs", "1", "--ages", "18-90", "--home", str(tmp_path / "home")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[0] == "88 images of unknown patients; domains: data 88"
    assert said[2].split() == ["Bright", "44", "44", "0"]
    assert "parts as the data give them: training 48, validation 16, test 24 (--resplit makes new ones)" in said
    assert any(line.startswith("the validation part has 16 images of data only") for line in said)
    assert not [line for line in said if re.match(r"[IWE]\d{4} |WARNING", line)], "TensorFlow's own messages"
    shown = " ".join(done.stdout.split())
    assert "small" in shown
    assert "on the test part, 24 images, 95 % intervals by patient" in shown
    for heading in ("AUROC", "sens.", "spec.", "ECE"):
        assert heading in shown
    assert "Bright 12" in shown
    assert "for ages: 18-90; for views: unknown" in shown
    assert f"next: cxr-triage model activate {out}" in shown
    assert (out / "README.md").read_text(encoding="utf-8").count("| ages | 18-90 years, as given |") == 1
