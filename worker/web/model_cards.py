"""Model cards for the pages; each bundle is read once and kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from model.bundle.bundle import Bundle, BundleInvalid, load_bundle
from worker.config.settings import Settings
from worker.model_registry.bundles import list_bundles

_LISTING_SECONDS = 60.0  # listing verifies every digest of every bundle


@dataclass(frozen=True)
class MeasuredLabel:
    """Quality measured on one label of one part of the model's own test data."""

    domain: str
    label: str
    images: str
    auroc: str
    sensitivity: str
    specificity: str


@dataclass(frozen=True)
class ModelCard:
    name: str
    version: str
    digest: str
    statement: str
    warning: str
    labels: tuple[str, ...]
    ages: str
    views: str
    preprocessing: str
    measured: tuple[MeasuredLabel, ...]
    weaknesses: tuple[str, ...]


@dataclass(frozen=True)
class ListedBundle:
    """A bundle found on this machine; ``problem`` says why it cannot be used, empty if it can."""

    folder: str
    card: ModelCard | None
    problem: str


class ModelShelf:
    """The bundles that the pages show."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._cards: dict[str, ModelCard] = {}
        self._listing: tuple[ListedBundle, ...] = ()
        self._listed_at = float("-inf")

    def card(self, digest: str, folder: str | None) -> ModelCard | None:
        """Return the card of the model with this digest, or None if its bundle is missing or was replaced."""
        with self._lock:
            if digest not in self._cards and folder is not None:
                try:
                    bundle = load_bundle(Path(folder))
                except BundleInvalid:
                    return None
                self._cards[bundle.digest] = model_card(bundle)
            return self._cards.get(digest)

    def listing(self) -> tuple[ListedBundle, ...]:
        """Return every bundle, broken ones with the reason; at most a minute old."""
        with self._lock:
            if time.monotonic() - self._listed_at > _LISTING_SECONDS:
                self._listing = tuple(_listed(found) for found in list_bundles(self._settings))
                self._listed_at = time.monotonic()
            return self._listing


def model_card(bundle: Bundle) -> ModelCard:
    """Return the card of a model; every figure comes from the bundle."""
    provenance = bundle.description.get("provenance", {})
    return ModelCard(
        name=bundle.name,
        version=bundle.version,
        digest=bundle.digest,
        statement=bundle.statement,
        warning=str(provenance.get("warning", "")),
        labels=bundle.label_names,
        ages=" and ".join(f"{low:g} to {high:g} years" for low, high in bundle.ages) or "any age",
        views=" and ".join(bundle.views) or "any view",
        preprocessing=bundle.preprocessing.identifier,
        measured=tuple(_measured(bundle.metrics.get("test", {}).get("domains", {}))),
        weaknesses=tuple(str(text) for text in provenance.get("weaknesses", [])),
    )


def _measured(domains: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[MeasuredLabel]:
    return [
        MeasuredLabel(
            domain=domain,
            label=label,
            images=f"{cell['positives']} of {cell['images']}",
            auroc=_interval(cell["auroc"], cell["auroc_interval"]),
            sensitivity=_interval(cell["sensitivity"], cell["sensitivity_interval"]),
            specificity=_interval(cell["specificity"], cell["specificity_interval"]),
        )
        for domain, cells in domains.items()
        for label, cell in cells.items()
    ]


def _interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.2f} ({interval[0]:.2f}–{interval[1]:.2f})"


def _listed(found: Bundle | BundleInvalid) -> ListedBundle:
    if isinstance(found, BundleInvalid):
        return ListedBundle(str(found.folder), None, found.reason)
    return ListedBundle(str(found.folder), model_card(found), "")
