"""`train` on the command line: a wrong option ends it in one line, before anything runs."""

from __future__ import annotations

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
