"""What a bundle is for comes from its training images: ages between stated percentiles, views of enough images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from model.dataset.samples import Sample, Source
from model.inference.domain_flags import AGES_UNCHECKED, OUTSIDE, domain_flags
from model.train.intended_use import intended_use
from model.train.plan import TrainingPlan


def samples(domain: str, ages: list[float | None], view: str | None = None, **labels: list[float]) -> list[Sample]:
    return [
        Sample(
            Path(f"{domain}{number}.png"), domain, f"{domain}:{number}", {k: v[number % 2] for k, v in labels.items()},
            str(number), age=age, view=view,
        )
        for number, age in enumerate(ages)
    ]  # fmt: skip


def plan(**options: object) -> TrainingPlan:
    return TrainingPlan((Source(Path("data"), "x"),), Path("out"), "name", **options)


def test_ages_lie_between_the_first_and_the_99th_percentile_in_completed_years() -> None:
    # 1,000 ages: five typing errors at either end are under one percent
    ages = [0.0] * 5 + [1.5] * 495 + [5.9] * 495 + [90.0] * 5
    use = intended_use(plan(), ["TB"], samples("children", ages, "AP", TB=[0, 1]))
    assert use.ages == ((1.0, 5.0),)
    assert use.entries["ages"] == "children 1-5 years, 1st to 99th percentile of 1000 known ages"
    assert (use.views, use.unknown, use.label_ages) == (("AP",), (), {})


def test_each_population_has_its_ages_and_each_label_those_it_is_learned_from() -> None:
    children = samples("children", [float(n % 5 + 1) for n in range(100)], "AP", TB=[0, 1], Mass=[0, 0])
    adults = samples("adults", [20.0 + n % 60 for n in range(100)], "PA", TB=[0, 1], Mass=[1, 0])
    use = intended_use(plan(), ["TB", "Mass"], [*children, *adults])
    assert use.ages == ((1.0, 5.0), (20.0, 78.0))
    assert use.label_ages == {"Mass": ((20.0, 78.0),)}, "children have one value of it, from which nothing is learned"
    assert use.views == ("AP", "PA")
    teens = samples("teens", [6.0 + n % 10 for n in range(100)], "LATERAL", TB=[0, 1])
    assert intended_use(plan(), ["TB"], [*children, *teens]).ages == ((1.0, 15.0),), "ranges that adjoin are one"


def test_what_is_given_goes_before_what_is_found() -> None:
    use = intended_use(plan(ages=((18, 90),), views=("PA",)), ["TB"], samples("x", [5.0] * 50, "AP", TB=[0, 1]))
    assert (use.ages, use.views) == (((18, 90),), ("PA",))
    assert use.entries["ages"] == "18-90 years, as given"


def test_a_rare_view_is_not_claimed() -> None:
    images = samples("x", [40.0] * 97, "PA", TB=[0, 1]) + samples("x", [40.0] * 3, "LATERAL", TB=[0, 1])
    assert intended_use(plan(), ["TB"], images).views == ("PA",)


@pytest.mark.parametrize("ages", [[None] * 100, [40.0] * 19, [40.0] * 40 + [None] * 60])
def test_unknown_ages_are_said_and_flagged_and_not_taken_for_any_age(ages: list[float | None]) -> None:
    use = intended_use(plan(), ["TB"], samples("x", ages, TB=[0, 1]))
    assert use.ages == ()
    assert use.entries["ages"] == "unknown"
    assert use.unknown[0] == ("the ages of the training images of x are unknown: no age is flagged as outside (--ages)")


def test_results_of_a_bundle_without_known_ages_carry_a_flag() -> None:
    distribution = SimpleNamespace(known=True)

    def bundle(ages: tuple[tuple[float, float], ...], provenance: dict[str, object]) -> SimpleNamespace:
        return SimpleNamespace(
            ages=ages, views=(), label_ages={}, distribution=distribution, description={"provenance": provenance}
        )

    assert domain_flags(bundle((), {"ages_known": False}), 40, "PA", 0.5) == (AGES_UNCHECKED,)
    assert domain_flags(bundle(((18.0, 90.0),), {"ages_known": True}), 4, "PA", 0.5)[0] == OUTSIDE
    assert domain_flags(bundle((), {}), 40, "PA", 0.5) == (), "imported"
