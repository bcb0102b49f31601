"""A bundle tampered with, cut short or put together of two is refused with the reason; the active one stays."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db.model_registry.activation import active_models
from model.bundle.bundle import load_bundle
from model.bundle.calibration import Calibration
from model.publish.bundle_writer import rewrite_description
from worker.cli.app import app
from worker.installation import Site
from worker.model_registry import bundles


def run(site: Site, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--home", str(site.settings.home)])
    return done.exit_code, f"{done.output} {done.exception}"


def tampered(folder: Path) -> None:
    weights = bytearray((folder / "weights.keras").read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / "weights.keras").write_bytes(bytes(weights))


def cut_short(folder: Path) -> None:
    network = (folder / "network.bin").read_bytes()
    (folder / "network.bin").write_bytes(network[: len(network) // 2])


def relabelled(folder: Path) -> None:
    text = (folder / "model.toml").read_text(encoding="utf-8")
    (folder / "model.toml").write_text(text.replace('"Edema"', '"Mass"').replace("Edema =", "Mass ="), encoding="utf-8")


def of_another_format(folder: Path) -> None:
    text = (folder / "model.toml").read_text(encoding="utf-8")
    (folder / "model.toml").write_text(re.sub(r"(?m)^format = \d+$", "format = 9", text), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (tampered, "weights.keras was changed: its SHA-256 is"),
        (cut_short, "network.bin was changed"),
        (relabelled, "labels, head or preprocessing were changed"),
        (of_another_format, "its format is 9; this version reads"),
    ],
)
def test_a_damaged_bundle_is_refused_with_the_reason_and_the_active_one_stays(
    site: Site, bundle_folder: Path, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    bundles.activate(site, str(bundle_folder))
    damaged = shutil.copytree(bundle_folder, tmp_path / "damaged")
    damage(damaged)
    for command in ("activate", "verify", "import"):
        code, said = run(site, "model", command, str(damaged))
        assert code != 0, command
        assert reason in said, (command, said)
    with site.database.read() as session:
        assert [model.name for model in active_models(session).models] == ["demonstration"]


def test_verify_tells_digests_golden_output_and_what_each_engine_says(
    site: Site, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "model.network.keras_backend.is_any_installed", lambda: False
    )  # Keras' engine is the README's test's
    code, said = run(site, "model", "verify", str(bundle_folder), "--json")
    assert code == 0, said
    facts = json.loads(said[: said.rindex("}") + 1])
    assert facts["golden_logit_difference"] < 0.05
    assert [found["precision"] for found in facts["engines"]] == ["f32", "bf16"]
    assert facts["engines"][0]["agrees"] is True
    assert all(found["agrees"] is True or "not here" in found["says"] for found in facts["engines"])


def test_a_bundle_calibrated_anew_is_not_taken_for_the_one_activated_before(
    site: Site, bundle_folder: Path, tmp_path: Path
) -> None:
    first = shutil.copytree(bundle_folder, tmp_path / "first")
    before = bundles.activate(site, str(first))
    again = load_bundle(shutil.copytree(bundle_folder, tmp_path / "again"))
    higher = dict.fromkeys(again.label_names, 0.9)
    everyone = Calibration("", (), again.everyone.temperatures, again.everyone.biases, higher)
    rewrite_description(again.folder, everyone, again.groups)
    after = bundles.activate(site, str(again.folder))
    assert after.digest == before.digest
    assert after.thresholds == higher
    assert load_bundle(before.folder).thresholds != higher
