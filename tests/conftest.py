"""What every test may ask for: the shared images, the foreign programs, and an honest account of what was skipped.

On a developer's or a user's machine a missing peer or data set skips the tests that need it, with the reason; under
``CI=true`` it fails them, so that a green run never means "was not there".
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from tests.peers.fixtures import (
    broker,
    database_settings,
    foreign_validator,
    orthanc,
    postgres,
    site,
    site_with_pacs,
)
from tests.peers.programs import absent
from worker.runtime.logs import log_to_stderr

__all__ = ["broker", "database_settings", "foreign_validator", "orthanc", "postgres", "site", "site_with_pacs"]

# Property tests look for new cases on a person's machine; what lands is judged by the same cases every time.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of images beside the repository (or named by CXR_TRIAGE_SHARED_DATA)."""
    named = os.environ.get("CXR_TRIAGE_SHARED_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        absent(f"shared data: no folder {folder} (CXR_TRIAGE_SHARED_DATA names another)")
    return folder


def pytest_configure() -> None:
    """Take the settings of this machine's own site out of the tests' way."""
    for name in list(os.environ):
        if name.startswith("CXR_TRIAGE_") and name != "CXR_TRIAGE_SHARED_DATA":
            del os.environ[name]


@pytest.fixture(autouse=True)
def keras_as_it_was() -> Iterator[None]:
    """Commands that a test runs in this process choose a backend for Keras: for it alone, not for the tests after."""
    backend, finders = os.environ.get("KERAS_BACKEND"), list(sys.meta_path)
    yield
    os.environ.pop("KERAS_BACKEND", None)
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    # ours alone: six, say, adds a finder of its own when it is first imported, and is lost without it
    added = [each for each in sys.meta_path if each not in finders and type(each).__module__.startswith("model.")]
    sys.meta_path[:] = [each for each in sys.meta_path if each not in added]


@pytest.fixture(autouse=True)
def events_on_stderr() -> Iterator[None]:
    """Every test begins with logging as a command begins with it, whatever the tests before have configured."""
    structlog.reset_defaults()
    log_to_stderr()
    yield
    structlog.reset_defaults()
    log_to_stderr()  # threads that outlive their test must not write into what the next one prints


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skipped tests by reason, so that one can see at a glance what this run did not show."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        detail = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[detail.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("not shown by this run")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count:4} skipped: {reason}")
