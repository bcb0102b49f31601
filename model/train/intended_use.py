"""Ages and views that a trained bundle is for: those given, or those of its training images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.bundle.calibration import AgeRanges
from model.dataset.samples import Sample
from model.train.plan import TrainingPlan

PERCENTILES = (1.0, 99.0)
"""Of the known ages of a domain's training images, in completed years; what lies between is what the bundle is for."""
SMALLEST_VIEW = 0.05
"""Share of a domain's images with a known view that a view needs."""
FEWEST_KNOWN = 20
"""Training images of a domain whose age (or view) must be known, and at least half of them, to say anything of it."""


@dataclass(frozen=True)
class IntendedUse:
    """What a bundle is for.

    Attributes
    ----------
    ages, label_ages, views
        As in `model.bundle.bundle.Bundle`.
    entries
        Where they come from, by the row of the model card.
    unknown
        Sentences about what cannot be known of the training images.
    """

    ages: AgeRanges
    label_ages: Mapping[str, AgeRanges]
    views: tuple[str, ...]
    entries: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def intended_use(plan: TrainingPlan, labels: Sequence[str], training: Sequence[Sample]) -> IntendedUse:
    """Return the ages and views of a plan, or where it has none, those of the training part.

    Ages are, for each domain, between the `PERCENTILES` of its known ages; a label that only some domains can be
    learned from has the ages of these. Views are those with `SMALLEST_VIEW` of a domain's images.
    """
    domains = {
        name: [sample for sample in training if sample.domain == name]
        for name in sorted({sample.domain for sample in training})
    }
    entries: dict[str, str] = {}
    unknown: list[str] = []
    ages, label_ages, views = plan.ages, plan.label_ages, plan.views
    if ages:
        entries["ages"] = f"{_text(ages)}, as given"
    else:
        by_domain = {name: found for name, members in domains.items() if (found := _ages(members))}
        ages = _joined(list(by_domain.values()))
        low, high = PERCENTILES
        entries["ages"] = (
            "; ".join(
                f"{name} {_text((found,))}, {low:g}st to {high:g}th percentile of {_known(domains[name])} known ages"
                for name, found in by_domain.items()
            )
            or "unknown"
        )
        if not label_ages:
            label_ages = _label_ages(labels, domains, by_domain, ages)
        without = [name for name in domains if name not in by_domain]
        if without:
            unknown.append(
                f"the ages of the training images of {', '.join(without)} are unknown"
                + (": other ages than those known are flagged" if ages else ": no age is flagged as outside (--ages)")
            )
    if views:
        entries["views"] = f"{', '.join(views)}, as given"
    else:
        views = tuple(sorted({view for members in domains.values() for view in _views(members)}))
        entries["views"] = f"{', '.join(views)}, of at least {SMALLEST_VIEW:.0%} of images" if views else "unknown"
        if not views:
            unknown.append("the views of the training images are unknown: no view is flagged as outside (--view)")
    return IntendedUse(ages, label_ages, views, entries, tuple(unknown))


def _known(members: Sequence[Sample]) -> int:
    return sum(sample.age is not None for sample in members)


def _ages(members: Sequence[Sample]) -> tuple[float, float] | None:
    """Return the range of ages of a domain in completed years; None where too few are known."""
    known = [math.floor(sample.age) for sample in members if sample.age is not None]
    if len(known) < FEWEST_KNOWN or 2 * len(known) < len(members):
        return None
    low, high = np.percentile(known, PERCENTILES, method="nearest")
    return float(low), float(high)


def _views(members: Sequence[Sample]) -> tuple[str, ...]:
    known = [sample.view.upper() for sample in members if sample.view]
    if len(known) < FEWEST_KNOWN or 2 * len(known) < len(members):
        return ()
    return tuple(view for view in sorted(set(known)) if known.count(view) >= SMALLEST_VIEW * len(known))


def _joined(ranges: Sequence[tuple[float, float]]) -> AgeRanges:
    """Return ranges of completed years without overlaps; those that follow one another become one."""
    joined: list[tuple[float, float]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def _label_ages(
    labels: Sequence[str],
    domains: Mapping[str, Sequence[Sample]],
    by_domain: Mapping[str, tuple[float, float]],
    ages: AgeRanges,
) -> dict[str, AgeRanges]:
    """Return the ages of labels that cannot be learned from every domain: there, the label has one value or none."""
    result = {}
    for label in labels:
        learned = [name for name, of in domains.items() if {0.0, 1.0} <= {sample.target(label) for sample in of}]
        if learned and all(name in by_domain for name in learned):
            own = _joined([by_domain[name] for name in learned])
            if own != ages:
                result[label] = own
    return result


def _text(ages: AgeRanges) -> str:
    return " and ".join(f"{low:g}-{high:g} years" for low, high in ages)
