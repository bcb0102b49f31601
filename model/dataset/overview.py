"""What a collection holds, in a few lines that are shown before training: images, patients, labels, ages, views."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from model.dataset.samples import Sample


def overview(samples: Sequence[Sample]) -> str:
    """Return numbers of images and patients, and of each label the images with it, without it, and unknown."""
    people = len({sample.person for sample in samples if sample.patient_known})
    unknown = sum(not sample.patient_known for sample in samples)
    whose = f"{people} patients" if people else "unknown patients"
    whose += f", {unknown} of them of unknown patients" if people and unknown else ""
    domains = Counter(sample.domain for sample in samples)
    lines = [f"{len(samples)} images of {whose}; domains: {_counted(domains)}"]
    labels = sorted({label for sample in samples for label in sample.labels})
    values = {label: [sample.target(label) for sample in samples] for label in labels}
    rows = [("label", "with", "without", "unknown")]
    by_frequency = sorted(values.items(), key=lambda item: -item[1].count(1.0))
    rows += [
        (name, str(got.count(1.0)), str(got.count(0.0)), str(sum(map(math.isnan, got)))) for name, got in by_frequency
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines += [
        "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))])
        for name, *cells in rows
    ]
    known = [sample.age for sample in samples if sample.age is not None]
    ages = f"{min(known):g} to {max(known):g} years ({len(known)} images)" if known else "unknown"
    views = Counter(sample.view or "unknown" for sample in samples)
    lines.append(f"ages: {ages}; views: {_counted(views)}")
    return "\n".join(lines)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
