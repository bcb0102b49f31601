"""[reading] engine: what is chosen is what opens the model, and what cannot run says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.engine.protocol import EngineUnsuitable
from worker.analysis.celery_worker import Child
from worker.config.settings import ConfigurationError, load_settings
from worker.installation import Site
from worker.model_registry.bundles import activate
from worker.queue.celery_app import make_app


@pytest.fixture
def keras_site(site: Site, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with an active model, and then an engine that cannot run it: keras does not compute in bf16."""
    activate(site, str(bundle_folder))
    monkeypatch.setenv("CXR_TRIAGE_READING_ENGINE", "keras")
    monkeypatch.setenv("CXR_TRIAGE_READING_PRECISION", "bf16")
    return Site(load_settings(home=site.settings.home))


def test_the_chosen_engine_opens_the_model_that_is_activated(keras_site: Site, bundle_folder: Path) -> None:
    with pytest.raises(EngineUnsuitable, match="the keras engine computes in f32"):
        activate(keras_site, str(bundle_folder))


def test_a_worker_child_whose_engine_cannot_run_says_why_and_stays(
    keras_site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    Child(keras_site.settings).start()
    said = capsys.readouterr()
    assert "model not opened yet" in said.out + said.err
    assert "the keras engine computes in f32" in said.out + said.err
    assert "worker child ready" in said.out + said.err


def test_children_that_import_tensorflow_get_longer_to_start(keras_site: Site, site: Site) -> None:
    limits = [make_app(each.settings).conf.worker_proc_alive_timeout for each in (site, keras_site)]
    assert limits == [30, 120]


def test_an_engine_that_there_is_not_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_TRIAGE_READING_ENGINE", "onnx")
    with pytest.raises(ConfigurationError, match=r"reading.engine: .*'openvino' or 'keras' \(got 'onnx'\)"):
        load_settings(home=tmp_path)
