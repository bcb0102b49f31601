"""Whoever pauses the thread of an association has it wait at the checkpoint, not just past it."""

from __future__ import annotations

import threading

from dicom_io.network.association import ReactorCheckpoint


def test_clear_returns_only_once_the_thread_waits_though_it_had_passed_already() -> None:
    passed, go_on, seen = threading.Event(), threading.Event(), []

    def react() -> None:
        checkpoint.wait()
        passed.set()
        assert go_on.wait(60)
        seen.append("looked for messages")
        checkpoint.wait()
        seen.append("looked again")

    thread = threading.Thread(target=react)
    checkpoint = ReactorCheckpoint(thread)
    thread.start()
    assert passed.wait(60)
    pausing = threading.Thread(target=lambda: (checkpoint.clear(), seen.append("paused")))
    pausing.start()
    pausing.join(0.3)
    assert pausing.is_alive()
    go_on.set()
    pausing.join(60)
    assert seen == ["looked for messages", "paused"]
    checkpoint.set()
    thread.join(60)
    assert seen == ["looked for messages", "paused", "looked again"]


def test_clear_waits_neither_for_a_thread_that_has_ended_nor_for_its_own() -> None:
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    for thread in (ended, threading.current_thread()):
        checkpoint = ReactorCheckpoint(thread)
        checkpoint.clear()
        assert not checkpoint.wait(0.01)
