"""The wheel holds every file of the four rooms and works where the repository is not: what the image installs.

The environment is clean but for the dependencies, which are those of the environment that runs the tests.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.deploy.texts import DEPLOY
from tests.model import torch_peers
from tests.peers import dcmtk
from tests.peers.processes import port_answers, wait_until
from tests.peers.programs import absent
from tests.peers.radiographs import described, sample
from tests.peers.site import Site

REPOSITORY = DEPLOY.parent
ROOMS = ("db", "dicom_io", "model", "worker")
LEFT_OUT = ("model/demonstration/", "worker/tools/")  # they make the bundle and the pages of the repository
pytestmark = pytest.mark.timeout(600)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end and return its standard output; AssertionError with both streams where it fails."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, (command, done.stdout + done.stderr)
    return done.stdout


def pip(*words: str | Path, cwd: Path) -> str:
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words, cwd=cwd)


def tracked(*folders: str) -> list[str]:
    """The repository's files as git has them (and those that it would add), below `folders` or everywhere."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        absent("a git checkout: it says which files are the program's")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders, cwd=REPOSITORY)
    return sorted(name for name in listed.split("\0") if name and (REPOSITORY / name).is_file())


def copied(names: list[str], folder: Path) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, folder / name)
    return folder


def built(source: Path, folder: Path) -> Path:
    """The wheel of a folder or of a source distribution; nothing is downloaded."""
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder.parent)
    (wheel,) = folder.glob("*.whl")
    return wheel


def contents(wheel: Path) -> dict[str, bytes]:
    """Every file of a wheel but its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from no more than the Dockerfile copies."""
    folder = tmp_path_factory.mktemp("wheel")
    copies = re.findall(r"^COPY (?!--)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    names = tracked(*" ".join(copies).split())
    return built(copied(names, folder / "source"), folder / "built")


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of a clean environment that the wheel is installed in."""
    folder = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    # Folders that a .pth file names are searched last, and their own .pth files (the editable install) are not read.
    (own,) = folder.glob("lib/python*/site-packages")
    dependencies = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (own / "dependencies.pth").write_text("\n".join(dependencies) + "\n", encoding="utf-8")
    pip("--python", python, "install", "--no-index", "--no-deps", "--ignore-installed", wheel, cwd=folder)
    return folder / "bin" / "cxr-triage"


@pytest.fixture
def installation(tmp_path: Path, program: Path) -> Iterator[Site]:
    """An empty installation of that program, whose broker is the embedded one."""
    site = Site(tmp_path / "site", program=program)
    text = site.configuration.read_text(encoding="utf-8")
    site.configuration.write_text(re.sub(r'\[broker\]\nurl = ".*"\n', "", text), encoding="utf-8")
    yield site
    site["up"].stop(25)


def test_wheel_holds_every_file_of_the_rooms_and_nothing_else(wheel: Path) -> None:
    held = contents(wheel)
    assert sorted(held) == [name for name in tracked(*ROOMS) if not name.startswith(LEFT_OUT)]
    assert [name for name, data in held.items() if data != (REPOSITORY / name).read_bytes()] == []
    assert {f"{room}/py.typed" for room in ROOMS} <= held.keys()
    imports = re.compile(rb"^\s*(?:from|import) (?:model\.demonstration|worker\.tools)\b", re.MULTILINE)
    assert [name for name, data in held.items() if imports.search(data)] == []


def test_wheel_of_the_source_distribution_is_the_same(wheel: Path, tmp_path: Path) -> None:
    source = copied(tracked(), tmp_path / "source")
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, tmp_path / "sdist", cwd=source)
    (sdist,) = (tmp_path / "sdist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE"} <= inside
    assert contents(built(sdist, tmp_path / "built")) == contents(wheel)


def test_modules_are_those_of_the_clean_environment(program: Path, tmp_path: Path) -> None:
    code = f"import importlib\nfor room in {ROOMS}: print(importlib.import_module(room).__file__)"
    files = run(program.parent / "python", "-P", "-c", code, cwd=tmp_path).splitlines()
    (own,) = program.parents[1].glob("lib/python*/site-packages")
    assert files == [str(own / room / "__init__.py") for room in ROOMS]


def test_every_module_of_the_wheel_is_found_by_its_name(wheel: Path, program: Path, tmp_path: Path) -> None:
    names = [name.removesuffix(".py").replace("/", ".") for name in contents(wheel) if name.endswith(".py")]
    names = [name.removesuffix(".__init__") for name in names if ".versions." not in name]
    code = "import sys\nfrom importlib.util import find_spec\nfor name in sys.argv[1:]: print(find_spec(name).origin)"
    origins = run(program.parent / "python", "-P", "-c", code, *names, cwd=tmp_path).splitlines()
    assert len(origins) == len(names)
    assert [origin for origin in origins if not origin.startswith(str(program.parents[1]))] == []


def test_help_names_the_commands(installation: Site) -> None:
    done = subprocess.run([installation.program, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert {"up", "analyse", "worklist", "model"} <= set(done.stdout.split())


def test_an_empty_database_gets_its_tables(installation: Site) -> None:
    for _ in range(2):
        done = installation.run("db", "upgrade")
        assert done.exit_code == 0, done.output
    assert installation.ledger()["received"] == 0


def test_a_real_radiograph_is_analysed(installation: Site) -> None:
    words = ("analyse", str(sample("RG1_UNCR")), "--out", str(installation.folder / "out"), "--json")
    (result,) = installation.run(*words).json()["results"]
    assert result["status"] == "done", result
    assert result["findings"]
    assert Path(result["objects"][0]["path"]).is_file()


def test_weights_of_pytorch_are_imported_like_a_public_model(installation: Site) -> None:
    torch_peers.torchxrayvision()
    import torch

    state = torch_peers.old_names(torch_peers.densenet(labels=14, channels=3).state_dict(), "module.densenet121.")
    torch.save({"state_dict": state}, installation.folder / "model.pth.tar")
    words = ("model", "import", "model.pth.tar", "--like", "chexnet", "--name", "chexnet", "--json")
    facts = installation.run(*words, seconds=400).json()
    assert (facts["name"], len(facts["labels"])) == ("chexnet", 14)
    assert Path(facts["folder"]).is_relative_to(installation.home)


@pytest.mark.end_to_end
@pytest.mark.peer
def test_a_study_goes_through_and_is_on_the_page_with_all_that_the_page_asks_for(installation: Site) -> None:
    image = described(sample("RG1_UNCR"))
    up = installation["up"]
    up.start()
    ports = (installation.dicom_port, installation.web_port)
    up.wait_ready(lambda: all(port_answers(port) for port in ports), 120, "answering on both ports")
    pythons = {each.cmdline()[0] for each in psutil.Process(up.pid).children() if "worker" in each.cmdline()}
    assert pythons == {str(installation.program.parent / "python")}
    assert dcmtk.storescu(installation.dicom_port, [image.path]).statuses == (0,)
    wait_until(lambda: installation.ledger_by_web()["done"] == 1, 120, "the study is read", every=0.5)
    address = f"http://127.0.0.1:{installation.web_port}"

    def answered(path: str) -> str:
        with urllib.request.urlopen(address + path, timeout=60) as answer:
            assert answer.status == 200
            return str(answer.read().decode("utf-8"))

    pages = [answered(path) for path in ("/", f"/studies/{image.study_instance_uid}", "/ledger", "/system", "/docs")]
    assert image.patient_id in pages[0]
    asked = set(re.findall(r'"(/static/[^"#]+)', "".join(pages)))
    assert {"/static/style.css", "/static/live.js", "/static/study.js", "/static/worklist.js"} <= asked
    assert all(answered(path) for path in asked)
    assert json.loads(answered("/api/worklist"))["items"][0]["state"] == "done"
