"""The documentation: it builds without a warning, every link and path leads somewhere, every command is one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from db.intake import identity_conflicts, misfiled_instances
from model.inference import domain_flags
from tests.deploy.pages import REPOSITORY, documentation

PAGES = documentation()
ARCHITECTURE = PAGES["docs/architecture.md"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a broken link or anchor, or a page outside the navigation, stops it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_site_with_its_pictures(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html"}
    assert len(pages) == len(PAGES)
    for page in pages:
        html = (site / page).read_text(encoding="utf-8")
        for address in re.findall(r'<img[^>]* src="([^"]+)"', html):
            assert (site / page).parent.joinpath(address).is_file(), (page, address)


def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    for path in (*site.rglob("*.html"), *site.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r'(?:<(?:script|img|iframe)[^>]* src|<link[^>]* href)="((?:https?:)?//[^"]+)"', text)
        loaded += re.findall(r"url\(['\"]?((?:https?:)?//[^)]+)\)", text)
        assert loaded == [], path.name


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_as_it_does_on_github(page: str) -> None:
    for address in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if "://" not in address and not address.startswith("#"):
            target = (REPOSITORY / page).parent / address.split("#")[0]
            assert target.exists(), address


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_is_one(page: str) -> None:
    reference = _options_by_command()
    fenced = re.findall(r"^```\w*\n(.*?)^```", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    code = [line.split(" #")[0] for block in fenced for line in block.splitlines()] + re.findall(r"`([^`]+)`", prose)
    calls = [call.split() for text in code for call in re.findall(r"(?<![\w/-])cxr-triage ([a-z-]+(?: .*)?)$", text)]
    assert calls or page in ("docs/architecture.md", "docs/configuration.md")
    for words in calls:
        command = next((name for name in (" ".join(words[:2]), words[0]) if name in reference), None)
        assert command is not None, words
        assert {word for word in words if word.startswith("--")} <= reference[command], words


def _options_by_command() -> dict[str, set[str]]:
    sections = re.split(r"^## `cxr-triage ([\w -]+)`$", PAGES["docs/cli.md"], flags=re.MULTILINE)[1:]
    return {
        name: set(re.findall(r"`(--[\w-]+)`", text)) for name, text in zip(sections[::2], sections[1::2], strict=True)
    }


def test_every_program_named_by_its_module_is_there() -> None:
    named = {name for text in PAGES.values() for name in re.findall(r"python -m ([\w.]+\w)", text)}
    assert named >= {"model.demonstration.recalibration", "worker.tools.reference_docs"}
    for name in named:
        assert importlib.util.find_spec(name) is not None, name


def test_every_flag_of_identity_and_domain_is_explained() -> None:
    named = vars(identity_conflicts) | vars(domain_flags)
    flags = {value for name, value in named.items() if name.isupper() and isinstance(value, str) and " " in value}
    flags |= {misfiled_instances.MISFILED}
    assert len(flags) >= 8
    for flag in flags:
        assert f"`{flag}`" in PAGES["docs/worklist.md"], flag


def test_no_flag_is_explained_twice_and_no_page_begins_two_lines_alike() -> None:
    """Two versions of one passage, where a merge kept both, contradict each other."""
    flags = re.findall(r"^\| (`[^|]+) \|", PAGES["docs/worklist.md"], flags=re.MULTILINE)
    assert len(flags) == len(set(flags)) > 20
    for page, text in PAGES.items():
        if text.startswith("<!-- made by"):  # generated; its sentences repeat
            continue
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        lines = [line[:60] for line in prose.splitlines() if len(line) > 60 and not line.startswith(("|", "<"))]
        assert len(lines) == len(set(lines)), (page, {line for line in lines if lines.count(line) > 1})


def test_every_path_of_the_architecture_is_there() -> None:
    prose = re.sub(r"```.*?```", "", ARCHITECTURE, flags=re.DOTALL)
    paths = [each for each in re.findall(r"`([^`\s]+)`", prose) if "/" in each]
    assert len(paths) > 50
    for path in paths:
        assert (REPOSITORY / path).exists(), path


def test_the_rooms_of_the_architecture_are_those_that_the_linter_holds() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    held = {each["containers"][0]: each["layers"] for each in contracts["contracts"] if "containers" in each}
    (picture,) = re.findall(r"```text\n(worker .*?)```", ARCHITECTURE, flags=re.DOTALL)
    shown: dict[str, list[str]] = {}
    for room, layer in re.findall(r"^(\w*) {2,15}(\w+(?: [|:] \w+)*)", picture, flags=re.MULTILINE):
        shown.setdefault(room or next(reversed(shown)), []).append(layer)
    assert shown == held


def test_every_sub_package_is_in_the_picture() -> None:
    for room in ("worker", "dicom_io", "model", "db"):
        for package in (REPOSITORY / room).glob("*/__init__.py"):
            assert re.search(rf"\b{package.parent.name}\b", ARCHITECTURE), package
