"""What came over the wire or from a disc is shown as it is: no markup, no escape sequence, and it breaks no command."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from db.intake.instances import record_instance
from db.records import NewInstance, StudyIdentity
from tests.db.conftest import new_instance as new_instance
from worker.__main__ import main
from worker.cli.app import app
from worker.installation import Site
from worker.runtime.terminal_text import marked, visible
from worker.standalone.up import _Sayer

HOSTILE = (
    "[/x]",
    "[red]12[/]",
    "\x1b[31;1mA\x1b]0;title\x07",
    "\u009b31m",
    "a\nb",
    "\u202e123",
    "[bold",
    "\\[/x]",
    "\\",
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("山田 ünï", "山田 ünï"),
        ("A\x1b[31mB\x07", "A\ufffd[31mB\ufffd"),
        ("A\nB\tC\0", "A\ufffdB\ufffdC\ufffd"),
        ("\u202eABC", "\ufffdABC"),
        (os.fsdecode(b"image\xff.dcm"), "image\ufffd.dcm"),
        ("نام\u200cخانوادگی", "نام\u200cخانوادگی"),
    ],
)
def test_only_what_acts_on_a_terminal_is_replaced(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_marked_text_is_printed_as_it_is(text: str) -> None:
    output = io.StringIO()
    Console(file=output, width=200, force_terminal=False).print(f"[bold]{marked(text)}[/]!")
    assert output.getvalue() == f"{visible(text)}!\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_worklist_and_ledger_survive_what_a_modality_writes(
    site: Site, new_instance: Callable[..., NewInstance], text: str
) -> None:
    identity = StudyIdentity(study_instance_uid="1.2.1", patient_id=text, accession_number=text, patient_name=text)
    new = new_instance(study=identity)
    new = replace(new, decision=replace(new.decision, accepted=False, reason=text))
    with site.database.write() as session:
        record_instance(session, new)
    for words in (["worklist", "--earlier"], ["worklist", "--earlier", "--json"], ["ledger", "--unfinished"]):
        done = CliRunner().invoke(app, [*words, "--home", str(site.settings.home)], env={"COLUMNS": "300"})
        assert done.exit_code == 0, done.output
        assert "\x1b" not in done.output
        assert "--json" in words or visible(text) in done.output


def test_last_words_of_a_process_cannot_end_the_supervision() -> None:
    output = io.StringIO()
    _Sayer(Console(file=output, width=200))("listen died (exit 1): cannot open [/var/lib/x] \x1b[2J")
    assert output.getvalue().endswith("cannot open [/var/lib/x] \ufffd[2J\n")


def test_images_with_names_of_any_bytes_are_read_and_shown(
    site: Site, tmp_path: Path, images: Path, bundle_folder: Path
) -> None:
    folder = tmp_path / "disc"
    folder.mkdir()
    for name in (b"image\xff\xfe.dcm", b"[red]x[", b"esc\x1b[31m\n.dcm"):
        shutil.copy(images / "RG3_UNCR.dcm", os.fsencode(folder) + b"/" + name)
    shutil.copy(images / "RG1_UNCR.dcm", os.fsencode(folder) + b"/chest\xff.dcm")
    words = ["analyse", str(folder), "--out", str(tmp_path / "out[" / "red]x"), "--model", str(bundle_folder)]
    words += ["--home", str(site.settings.home)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)["results"]
    assert [result["status"] for result in results].count("done") == 1
    assert {os.fsencode(Path(result["source"]).name) for result in results} >= {b"image\xff\xfe.dcm", b"chest\xff.dcm"}


@pytest.mark.parametrize("words", [["worklist", "--limit", "9" * 22], ["ledger", "--older-than", "9" * 20 + "d"]])
def test_number_beyond_all_measure_is_wrong_usage(site: Site, words: list[str]) -> None:
    done = CliRunner().invoke(app, [*words, "--home", str(site.settings.home)])
    assert done.exit_code == 2, done.output


@pytest.mark.parametrize(
    "words",
    [
        ["model", "show", "a" * 300],
        ["model", "activate", "a" * 300],
        ["analyse", "/" + "a" * 300],
        ["send", "/nowhere/at/all.dcm"],
        ["model", "export", "demonstration", "--to", "/proc/bundle.zip"],
        ["model", "import", "/dev/null", "--name", "x", "--labels", "A"],
    ],
)
def test_path_that_cannot_be_is_told_in_one_line(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cxr-triage", *words, "--home", str(site.settings.home)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (1, 2)
    assert "Traceback" not in capsys.readouterr().err
