"""`/metrics` for Prometheus, read from the database at scrape time: the same values from every web process.

Counts of rows are gauges: they fall when studies are erased. Rates are for the ``..._total`` counters: by how much the
rows grew since this process started, so that neither a restart nor an erasure looks like a burst. Durations cover the
last hour (at most 5,000 rows), as gauge histograms: apply ``histogram_quantile`` to their buckets directly, not to a
rate. No label holds patient data, and every label has a bounded set of values.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from db.engine.session import DatabaseUnavailable
from db.records import BATCH, LIVE
from db.views.metrics import DELIVERY_STATES, STAGES, Measures, measure
from dicom_io.gate.decision import RULES
from dicom_io.network.status_codes import Status, store_result
from worker import __version__
from worker.config.settings import ConfigurationError
from worker.installation import Site
from worker.intake.back_pressure import backlog_pressure, space_pressure
from worker.queue.broker import BrokerUnavailable, queue_lengths
from worker.storage.store import StoreUnavailable

WINDOW = timedelta(hours=1)
NEWEST = 5_000
BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)  # seconds; a live image takes about one
_REST = 20  # the pause before the next query is this multiple of the last one's duration: at most 5 % of the time


class SiteCollector(Collector):
    """Collects the metrics of one installation at each scrape; the database is queried at most 5 % of the time."""

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic) -> None:
        self._site = site
        self._clock = clock
        own = [rule.name for rule in site.settings.gate.rules if rule.action == "refuse"]
        self._rules = (*(rule.name for rule in RULES), *own)
        self._lock = threading.Lock()
        self._measures: Measures | None = None
        self._measured_at = 0.0
        self._took = 0.0
        self._seen: dict[str, int] = {}
        self._grown: dict[str, int] = {}
        self._backlogged = False

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not touch the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every family, except those of a part that does not answer; ``cxr_triage_up`` names it."""
        build = InfoMetricFamily("cxr_triage_build", "The program.", value={"version": __version__})
        yield build
        up = GaugeMetricFamily(
            "cxr_triage_up", "1 if this process reaches the part: database, broker, store.", labels=["part"]
        )
        with self._lock:
            measures = self._measure()
            families = [] if measures is None else list(self._of_rows(measures))
        yield from families
        up.add_metric(["database"], 0 if measures is None else 1)
        lengths = self._queues()
        up.add_metric(["broker"], 0 if lengths is None else 1)
        if lengths is not None:
            queue = GaugeMetricFamily("cxr_triage_queue_length", "Tasks that wait in the broker.", labels=["queue"])
            for name in (LIVE, BATCH):
                queue.add_metric([name], lengths[name])
            yield queue
        space = self._space()
        up.add_metric(["store"], 0 if space is None else 1)
        if space is not None:
            free, size = space
            yield GaugeMetricFamily("cxr_triage_store_free_bytes", "Free space of the store's file system.", value=free)
            yield GaugeMetricFamily("cxr_triage_store_size_bytes", "Size of the store's file system.", value=size)
        refusing = GaugeMetricFamily(
            "cxr_triage_refusing",
            "1 while images are rejected with 'out of resources', by the limit that is exceeded.",
            labels=["limit"],
        )
        if measures is not None:
            refusing.add_metric(["backlog"], 1 if self._backlogged else 0)
        if space is not None:
            refusing.add_metric(["free_space"], 1 if space_pressure(self._site.settings, space[0]) else 0)
        yield refusing
        yield up

    def _measure(self) -> Measures | None:
        """The current or the recent counts; None if the database does not answer."""
        if self._measures is not None and self._clock() - self._measured_at < _REST * self._took:
            return self._measures
        started = self._clock()
        try:
            with self._site.database.read() as session:
                self._measures = measure(session, self._site.clock(), WINDOW, NEWEST)
                self._backlogged = bool(backlog_pressure(self._site.settings, session))
        except (DatabaseUnavailable, ConfigurationError):
            self._measures = None
            return None
        self._measured_at = self._clock()
        self._took = self._measured_at - started
        return self._measures

    def _queues(self) -> dict[str, int] | None:
        try:
            return queue_lengths(self._site.settings)
        except BrokerUnavailable:
            return None

    def _space(self) -> tuple[int, int] | None:
        try:
            usage = shutil.disk_usage(self._site.store.root)
        except (StoreUnavailable, DatabaseUnavailable, ConfigurationError, OSError):
            return None
        return usage.free, usage.total

    def _of_rows(self, measures: Measures) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "cxr_triage_measuring_seconds",
            "Duration of the last query of all metrics in the database.",
            value=self._took,
        )
        info = InfoMetricFamily("cxr_triage_model", "The active models; absent if there is none.", labels=["reads"])
        for model in measures.models.models:
            labels = {"name": model.name, "digest": model.digest, "preprocessing": model.preprocessing_id}
            info.add_metric([measures.models.reads(model.digest)], labels)
        if measures.models:
            yield info
        yield from self._of_instances(measures)
        yield from self._of_deliveries(measures)
        yield from self._of_commitments(measures)
        stage = GaugeHistogramMetricFamily(
            "cxr_triage_stage_seconds",
            "Durations of stages that ended within the last hour; apply no rate().",
            labels=["stage"],
        )
        for name in STAGES:
            buckets, total = _buckets(measures.stages[name])
            stage.add_metric([name], buckets, gsum_value=total)
        yield stage

    def _of_instances(self, measures: Measures) -> Iterator[Metric]:
        instances = GaugeMetricFamily(
            "cxr_triage_instances", "Received instances by state, as in the ledger.", labels=["state"]
        )
        for state, number in measures.instances.items():
            instances.add_metric([state], number)
        yield instances
        yield GaugeMetricFamily(
            "cxr_triage_outside_domain_instances",
            "Analysed instances outside the model's training domain.",
            value=measures.outside_domain,
        )
        refused = GaugeMetricFamily(
            "cxr_triage_refused_instances", "Instances rejected by the gate, by rule.", labels=["rule"]
        )
        by_rule = dict.fromkeys((*self._rules, "former rule"), 0)
        for rule, number in measures.refused.items():
            by_rule[rule if rule in by_rule else "former rule"] += number
        for rule, number in by_rule.items():
            refused.add_metric([rule], number)
        yield refused
        oldest = measures.oldest_unread
        yield GaugeMetricFamily(
            "cxr_triage_oldest_unread_seconds",
            "Age of the image that waits longest for its result; 0 if none waits.",
            value=self._age(oldest),
        )
        yield CounterMetricFamily(
            "cxr_triage_received",
            "Instances received since this process started.",
            value=self._growth("received", sum(measures.instances.values())),
        )
        finished = CounterMetricFamily(
            "cxr_triage_finished", "Instances finished since this process started.", labels=["outcome"]
        )
        for outcome in ("done", "not_applicable", "failed"):
            finished.add_metric([outcome], self._growth(f"finished {outcome}", measures.instances[outcome]))
        yield finished
        rejected = CounterMetricFamily(
            "cxr_triage_rejected", "Transfers answered with a failure since this process started.", labels=["status"]
        )
        rejections = GaugeMetricFamily(
            "cxr_triage_rejections", "Transfers answered with a failure status.", labels=["status"]
        )
        names = {int(status): status.name.lower() for status in Status if store_result(status)[0] != "stored"}
        counts = dict.fromkeys((*names.values(), "other"), 0)
        for code, number in measures.rejected.items():
            counts[names.get(code, "other")] += number
        for name, number in counts.items():
            rejections.add_metric([name], number)
            rejected.add_metric([name], self._growth(f"rejected {name}", number))
        yield rejections
        yield rejected

    def _of_deliveries(self, measures: Measures) -> Iterator[Metric]:
        configured = [destination.name for destination in self._site.settings.destinations]
        destinations = list(dict.fromkeys([*configured, *sorted({name for name, _ in measures.deliveries})]))
        deliveries = GaugeMetricFamily(
            "cxr_triage_deliveries", "Objects for each destination, by state.", labels=["destination", "state"]
        )
        oldest = GaugeMetricFamily(
            "cxr_triage_oldest_undelivered_seconds",
            "Age of the object that waits longest for delivery; 0 if none waits.",
            labels=["destination"],
        )
        sent = CounterMetricFamily(
            "cxr_triage_sent", "Objects that a destination stored since this process started.", labels=["destination"]
        )
        for name in destinations:
            for state in DELIVERY_STATES:
                deliveries.add_metric([name, state], measures.deliveries.get((name, state), 0))
            since = measures.oldest_undelivered.get(name)
            oldest.add_metric([name], self._age(since))
            stored = sum(measures.deliveries.get((name, state), 0) for state in ("sent", "committed"))
            sent.add_metric([name], self._growth(f"sent {name}", stored))
        yield deliveries
        yield oldest
        yield sent

    def _of_commitments(self, measures: Measures) -> Iterator[Metric]:
        commitments = GaugeMetricFamily(
            "cxr_triage_commitments", "Requests for storage commitment, by state.", labels=["state"]
        )
        for state, number in measures.commitments.items():
            commitments.add_metric([state], number)
        yield commitments
        oldest = measures.oldest_commitment
        yield GaugeMetricFamily(
            "cxr_triage_oldest_commitment_seconds",
            "Age of the request for storage commitment that waits longest for its report; 0 if none waits.",
            value=self._age(oldest),
        )

    def _age(self, since: datetime | None) -> float:
        """Seconds since then; 0 for None or a time in the future."""
        return 0.0 if since is None else max(0.0, (self._site.clock() - since).total_seconds())

    def _growth(self, key: str, number: int) -> int:
        """By how much a count of rows grew since the first scrape; deleted rows are not subtracted."""
        before = self._seen.get(key, number)
        self._seen[key] = number
        self._grown[key] = self._grown.get(key, 0) + max(0, number - before)
        return self._grown[key]


def _buckets(seconds: tuple[float, ...]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by upper bound, and the sum."""
    bounds = [(str(float(bound)), float(sum(value <= bound for value in seconds))) for bound in BUCKETS]
    return [*bounds, ("+Inf", float(len(seconds)))], sum(seconds)
