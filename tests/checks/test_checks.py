"""The checks check: a file that has grown too long is named, a missing peer is never silently green in CI."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks import file_lengths
from tests.peers.programs import absent, find_program


@pytest.mark.parametrize(
    ("lines", "first_line", "expected"),
    [
        (400, "x = 1", None),
        (401, "x = 1", 401),
        (401, "# over 400 lines because it is one table from the standard", None),
        (401, "# over 400 lines because ", 401),
    ],
)
def test_a_file_over_400_lines_needs_a_reason(
    tmp_path: Path, lines: int, first_line: str, expected: int | None
) -> None:
    path = tmp_path / "grown.py"
    path.write_text(first_line + "\n" + "y = 2\n" * (lines - 1))
    assert file_lengths.too_long(path) == expected


def test_the_check_names_the_file_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "short.py").write_text("x = 1\n")
    assert file_lengths.main([str(tmp_path)]) == 0
    (tmp_path / "grown.py").write_text("x = 1\n" * 500)
    assert file_lengths.main([str(tmp_path)]) == 1
    assert "grown.py: 500 lines" in capsys.readouterr().out


def test_what_is_absent_skips_with_its_reason_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="a peer"):
        absent("a peer")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="missing in CI: a peer"):
        absent("a peer")


def test_dcmtk_is_dcmtk_and_not_the_program_of_the_same_name_beside_this_interpreter() -> None:
    storescu = find_program("storescu")
    if storescu is None:
        absent("peer storescu: apt-get install dcmtk")
    assert Path(storescu).parent != Path(sys.executable).parent
    version = subprocess.run([storescu, "--version"], capture_output=True, text=True, check=True).stdout
    assert "dcmtk" in version


def step(log: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(Path(__file__).with_name("step.sh")), str(log), "2", "Doing it", sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_step_is_one_line_with_its_seconds_and_what_it_prints_is_in_the_log(tmp_path: Path) -> None:
    done = step(tmp_path / "log", "import sys; print('noise'); print('more', file=sys.stderr)")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"Doing it \.\.\. \d+ s\n", done.stdout)
    assert {"noise", "more"} <= set((tmp_path / "log").read_text().splitlines())


def test_a_step_that_fails_shows_its_end_and_not_that_of_the_step_before(tmp_path: Path) -> None:
    log = tmp_path / "log"
    step(log, "print('earlier')")
    done = step(log, "for line in 'abc': print(line)\nraise SystemExit(3)")
    assert (done.returncode, done.stderr) == (3, "b\nc\n")
    assert str(log) in done.stdout
    assert step(log, "raise SystemExit(1)").stderr == ""
    assert "earlier" in log.read_text()
