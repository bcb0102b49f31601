"""What a training has reached survives a power cut, and its best epoch is chosen on every validation image."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from model.preprocessing.tensor import Preprocessing
from model.train.batches import ImageCache
from model.train.checkpoint import CHECKPOINT_FILE, RunState, read_state, save_checkpoint
from model.train.epoch_metrics import Monitor


def test_a_checkpoints_folder_is_synced_after_the_file_took_its_name(tmp_path, monkeypatch):
    synced = []
    really = os.fsync

    def fsync(handle):
        synced.append((os.fstat(handle).st_ino, (tmp_path / CHECKPOINT_FILE).exists()))
        really(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    network = SimpleNamespace(get_weights=lambda: [np.ones(3)], optimizer=SimpleNamespace(variables=[]))
    save_checkpoint(tmp_path, RunState(steps=7), network, None)
    assert synced == [((tmp_path / CHECKPOINT_FILE).stat().st_ino, False), (tmp_path.stat().st_ino, True)]
    assert read_state(tmp_path).steps == 7


@pytest.mark.parametrize(("a_domain", "seen"), [(160, 200), (None, 440)])
def test_metrics_are_of_a_subset_or_of_every_image(a_domain, seen):
    cache = ImageCache(
        np.zeros((440, 16, 16), np.uint16), np.arange(440), np.zeros((440, 1), np.float32), ("x",) * 400 + ("y",) * 40
    )
    shown = []

    def predict_on_batch(tensors):
        shown.append(len(tensors))
        return np.zeros((len(tensors), 1), np.float32)

    spec = Preprocessing(size=16, channels=1, mean=(0.5,), std=(0.25,))
    monitor = Monitor(cache, np.ones((440, 1), np.float32), ["TB"], spec, a_domain, 10, 1)
    assert len(monitor._logits(SimpleNamespace(predict_on_batch=predict_on_batch), 16)) == seen


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
def test_the_best_epoch_is_chosen_on_every_validation_image(tmp_path, monkeypatch):
    from model.train import fitting
    from model.train.plan import FittingPlan
    from model.train.schedule import Stage

    class Reached(Exception):
        pass

    asked = []

    def monitor(cache, _weights, _labels, _spec, a_domain, *_others):
        asked.append((cache, a_domain))
        if len(asked) == 2:
            raise Reached

    monkeypatch.setattr(fitting, "Monitor", monitor)
    spec = Preprocessing(size=32, channels=1, mean=(0.5,), std=(0.25,))
    cache = ImageCache(np.zeros((4, 32, 32), np.uint16), np.arange(4), np.zeros((4, 1), np.float32), ("x",) * 4)
    plan = FittingPlan(labels=("TB",), preprocessing=spec, architecture="tiny", stages=(Stage(32, 1.0),))
    with pytest.raises(Reached):
        fitting.fit(plan, {"training": cache, "validation": cache}, tmp_path)
    assert [a_domain for _, a_domain in asked] == [plan.monitored, None]
