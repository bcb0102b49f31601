"""Thirty studies under load while processes are killed at random: nothing acknowledged is lost, nothing doubled."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.peers import dcmtk
from tests.peers.orthanc import Orthanc
from tests.peers.radiographs import Radiograph, chests
from tests.peers.site import PROCESSES, Site

pytestmark = [pytest.mark.chaos, pytest.mark.peer, pytest.mark.timeout(600)]

STUDIES = 30
SENDERS = 2
ROUNDS = 2  # every kind of death this many times


@dataclass
class Modality:
    """Sends radiographs until each is acknowledged, as a modality's queue does."""

    port: int
    radiographs: Sequence[Radiograph]
    random: random.Random
    attempts: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Send all of them; returns when every one was acknowledged."""
        for radiograph in self.radiographs:
            while radiograph.sop_instance_uid not in self.acknowledged:
                self.attempts[radiograph.sop_instance_uid] += 1
                assert self.attempts[radiograph.sop_instance_uid] < 100, "never acknowledged"
                answer = dcmtk.storescu(self.port, [radiograph.path], transfer_syntax=radiograph.transfer_syntax_uid)
                if answer.statuses == (0,):
                    self.acknowledged.add(radiograph.sop_instance_uid)
                else:
                    time.sleep(0.2)
            time.sleep(self.random.uniform(0.0, 1.6))


@dataclass
class Reaper:
    """Kills parts of a site and brings them back, in an order and at moments that follow from the seed."""

    site: Site
    random: random.Random
    deaths: list[str] = field(default_factory=list)

    def kinds(self) -> dict[str, Callable[[], None]]:
        """The deaths there are."""
        return {
            "listen": lambda: self.bring_back("listen"),
            "worker child": self.a_worker_child,
            "work with its children": lambda: self.bring_back("work"),
            "work alone": lambda: self.bring_back("work", alone=True),
            "deliver": lambda: self.bring_back("deliver"),
            "schedule": lambda: self.bring_back("schedule"),
            "broker": self.the_broker,
            "broker emptied": self.site.broker.empty,
        }

    def run(self) -> None:
        """Deal every kind of death ROUNDS times, in random order."""
        order = list(self.kinds()) * ROUNDS
        self.random.shuffle(order)
        for name in order:
            time.sleep(self.random.uniform(0.1, 1.5))
            self.deaths.append(name)
            self.kinds()[name]()

    def supervise(self, over: threading.Event) -> None:
        """Start again what ended by itself, as `up` and systemd do: Celery gives up where a child dies as it starts."""
        while not over.wait(1):
            for name in PROCESSES:
                if not self.site[name].running:
                    self.deaths.append(f"{name} by itself")
                    self.site[name].start()

    def bring_back(self, name: str, alone: bool = False) -> None:
        """Kill -9 one process, and start it again a moment later; whether it is ready again is not waited for."""
        process = self.site[name]
        if alone:
            process.kill_alone()
        else:
            process.kill()
        time.sleep(self.random.uniform(0.0, 1.0))
        process.start()

    def a_worker_child(self) -> None:
        """Kill -9 one of the processes that read images."""
        children = self.site["work"].children()
        if children:
            try:
                self.random.choice(children).kill()
            except psutil.NoSuchProcess:
                return

    def the_broker(self) -> None:
        """Kill -9 the broker with everything in it."""
        self.site.broker.kill()
        time.sleep(self.random.uniform(0.0, 1.0))
        self.site.broker.start()


def test_nothing_acknowledged_is_lost_or_doubled_whatever_is_killed(
    orthanc: Orthanc, tmp_path: Path, database_settings: str
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"CHAOS_SEED={seed}")
    radiographs = list(chests(tmp_path / "in", STUDIES))
    with Site(tmp_path / "site", pacs=orthanc, children=2, more=database_settings) as site:
        site.start()
        modalities = [
            Modality(site.dicom_port, radiographs[number::SENDERS], random.Random(seed + number))
            for number in range(SENDERS)
        ]
        senders = [threading.Thread(target=each.run, name="modality") for each in modalities]
        reaper = Reaper(site, random.Random(seed))
        started = time.monotonic()
        for sender in senders:
            sender.start()
        reaper.run()
        over = threading.Event()
        supervisor = threading.Thread(target=reaper.supervise, args=(over,), name="supervisor", daemon=True)
        supervisor.start()
        for sender in senders:
            sender.join(180)
            assert not sender.is_alive(), "a modality could not get rid of its images"
        print(f"deaths: {', '.join(reaper.deaths)}")
        tries = sum(each.attempts.total() for each in modalities)
        print(f"sent after {time.monotonic() - started:.0f} s, {tries} tries")

        acknowledged = set[str]().union(*(each.acknowledged for each in modalities))
        assert acknowledged == {each.sop_instance_uid for each in radiographs}
        ledger = site.wait_settled(STUDIES, seconds=240)
        over.set()
        supervisor.join()
        print(f"settled after {time.monotonic() - started:.0f} s: {ledger['done']} done, {ledger['failed']} failed")

        # the ledger closes
        assert ledger["received"] == STUDIES
        assert ledger["done"] + ledger["failed"] == STUDIES
        deliveries = ledger["deliveries"]
        assert (deliveries["pending"], deliveries["failed"]) == (0, 0)
        # one result, or one stated reason, each
        items = {item["study_instance_uid"]: item for item in site.worklist()}
        assert set(items) == {each.study_instance_uid for each in radiographs}
        for item in items.values():
            labels = [finding["label"] for finding in item["findings"]]
            assert len(labels) == len(set(labels))
            assert (item["state"] == "done") == bool(labels), item
            assert item["state"] == "done" or "attempts" in item["reason"], item
        # an image is given up only when its workers were killed three times over
        kills = sum(name in ("worker child", "work with its children", "work alone") for name in reaper.deaths)
        assert ledger["failed"] <= kills // 3

        # every object is in the PACS once, under its own patient, and is what the installation made
        held = orthanc.instances()
        assert len(held) == deliveries["sent"] + deliveries["committed"]
        # one picture of every label at or above its threshold, of the nearest one where none is
        wanted = {
            uid: max(1, sum(finding["positive"] for finding in item["findings"]))
            for uid, item in items.items()
            if item["state"] == "done"
        }
        assert Counter(each.study_instance_uid for each in held) == Counter(wanted)
        patients = {each.study_instance_uid: (each.patient_id, each.patient_name) for each in radiographs}
        assert all(patients[each.study_instance_uid] == (each.patient_id, each.patient_name) for each in held)
        assert set(orthanc.arrivals()) == {each.sop_instance_uid for each in held}, "an object with another UID"
        repeats = sum(orthanc.arrivals().values()) - len(held)
        print(f"objects in the PACS: {len(held)}; stored again with the same bytes: {repeats}")
        site.assert_logs_clean(radiographs, tracebacks=True)
