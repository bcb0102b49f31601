"""The split that a collection itself gives, by folders or a column: completed, and cleared of leaks."""

from collections import Counter
from collections.abc import Sequence

from model.dataset.samples import DatasetInvalid, FileProblem, Sample
from model.dataset.split import FRACTIONS, PARTS, groups_of, split_by_patient


def gives_split(samples: Sequence[Sample]) -> bool:
    """Return whether the samples come in parts: of two kinds at least."""
    return len({sample.part for sample in samples} - {""}) > 1


def split_as_given(
    samples: Sequence[Sample], seed: int
) -> tuple[dict[str, list[Sample]], list[FileProblem], list[str]]:
    """Split samples by the parts that their collection puts them in.

    A validation or test part that the collection lacks is taken from its training part, by patient, as large as that of
    `split_by_patient`; images without a part are split by patient. An image of a patient or picture that a part held
    out has too is left out of the training part, and of the validation part where the test part has it: what is held
    out stays as the collection gives it.

    Parameters
    ----------
    samples
        Those for which `gives_split` is true.
    seed
        Of the parts that are taken.

    Returns
    -------
    The samples of each part; the images left out; and what was done, in sentences for the user.

    Raises
    ------
    DatasetInvalid
        The collection gives no training part.
    """
    given = {part: [sample for sample in samples if sample.part == part] for part in PARTS}
    if not given["training"]:
        found = ", ".join(part for part in PARTS if given[part])
        raise DatasetInvalid(f"the data come in parts ({found}), but no training part is among them")
    counts = ", ".join(f"{part} {len(given[part])}" for part in PARTS if given[part])
    notices = [f"parts as the data give them: {counts} (--resplit makes new ones)"]
    lacking = [part for part in PARTS if not given[part]]
    if lacking:
        shares = {part: FRACTIONS[part] for part in ("training", *lacking)}
        fractions = {part: share / sum(shares.values()) for part, share in shares.items()}
        given |= split_by_patient(given["training"], seed, fractions)
        notices += [
            f"the {part} part, which the data lack, is {fractions[part]:.0%} of their training part, split by patient"
            for part in lacking
        ]
    others = [sample for sample in samples if not sample.part]
    if others:
        for part, members in split_by_patient(others, seed).items():
            given[part] = [*given[part], *members]
        notices.append(f"{len(others)} images in no given part are split by patient")
    parts, leaks = _without_leaks(given)
    if leaks:
        reasons = Counter(leak.reason.partition(":")[0] for leak in leaks)
        notices += [
            f"{count} {'image is' if count == 1 else 'images are'} {reason}" for reason, count in reasons.items()
        ]
    return parts, leaks, notices


def _without_leaks(given: dict[str, list[Sample]]) -> tuple[dict[str, list[Sample]], list[FileProblem]]:
    """Return the parts without the images whose patient or picture a later one of `PARTS` has too; and these images."""
    members = [(part, sample) for part in PARTS for sample in given[part]]
    kept: dict[str, list[Sample]] = {part: [] for part in PARTS}
    leaks = []
    kept_of: dict[int, bool] = {}
    for group in groups_of([sample for _, sample in members], by_name=False):
        last = max((members[index] for index in group), key=lambda member: PARTS.index(member[0]))
        for index in group:
            part, sample = members[index]
            kept_of[index] = part == last[0]
            if part != last[0]:
                reason = f"left out of the {part} part, since the {last[0]} part has their patient or picture"
                leaks.append(FileProblem("leak", sample.path, f"{reason}: {last[1].path.name}", last[1].path))
    for index, (part, sample) in enumerate(members):
        if kept_of[index]:
            kept[part].append(sample)
    return kept, leaks
