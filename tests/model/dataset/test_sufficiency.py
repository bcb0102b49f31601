"""What cannot be trained on is said before hours are spent: labels with few images, parts that lack what is needed."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.dataset.samples import DatasetInvalid, Sample, Source
from model.dataset.sufficiency import check_parts, choose_labels
from model.train.history import EpochRecord
from model.train.plan import FittingPlan, TrainingPlan
from model.train.provenance import fitting_entries

NAN = float("nan")


def sample(number, domain="a", **labels):
    return Sample(Path(f"{number}.png"), domain, f"{domain}:{number}", labels, f"digest{number}")


SAMPLES = [sample(n, Mass=float(n < 12), Edema=float(n < 3), Hernia=0.0) for n in range(30)]


def test_labels_with_few_positive_images_are_left_out_and_counted():
    assert choose_labels(SAMPLES, (), 10) == (("Mass",), {"Edema": 3, "Hernia": 0})
    assert choose_labels(SAMPLES, (), 3) == (("Mass", "Edema"), {"Hernia": 0})
    assert choose_labels(SAMPLES, ("Edema",), 10) == (("Edema",), {}), "what was asked for needs one"


def test_where_no_label_has_enough_the_minimum_and_the_counts_are_named():
    with pytest.raises(
        DatasetInvalid, match=r"has the 20 positive .* \(--minimum-positives\); there are: Mass 12, Edema 3, Hernia 0"
    ):
        choose_labels(SAMPLES, (), 20)
    with pytest.raises(DatasetInvalid, match="the label Hernia; labels in the data: Mass, Edema"):
        choose_labels(SAMPLES, ("Hernia",), 20)


def parts_of(**changed):
    both = [sample(0, Mass=1.0), sample(1, Mass=0.0)]
    return {"training": both, "validation": both, "test": both, **changed}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (parts_of(test=[]), "the test part has no image"),
        (parts_of(training=[*parts_of()["training"], sample(3, "b", Mass=1.0)]), "no image of the domain b"),
        (parts_of(validation=[sample(0, Mass=0.0), sample(1)]), "the validation part has no image with Mass"),
        (
            parts_of(training=[sample(0, Mass=1.0), sample(1, Mass=NAN)]),
            "training part has no image known to be without",
        ),
    ],
)
def test_parts_that_no_bundle_can_come_of_are_refused(parts, message):
    check_parts(parts_of(), ("Mass",))
    with pytest.raises(DatasetInvalid, match=message):
        check_parts(parts, ("Mass",))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"schedule": "foo"}, "schedule is 'foo'; allowed are cosine, constant, plateau"),
        ({"precision": "foo"}, "precision is 'foo'; allowed are float32"),
        ({"architecture": "foo"}, "architecture is 'foo'; allowed are densenet121"),
        ({"seed": -1}, "seed is -1; at least 0"),
        ({"seed": 2**32}, "below 4294967296"),
        ({"minutes": 0.0}, "minutes is 0; a number above 0"),
        ({"learning_rate": NAN}, "learning_rate is nan; a number above 0"),
        ({"fine_tuning": -0.5}, "fine_tuning is -0.5; a number above 0"),
        ({"trained": "conv9"}, "no block 'conv9' .* head, all, conv1, conv2, conv3, conv4, conv5"),
        ({"trained": "conv5_block17"}, "no block 'conv5_block17'"),
        ({"trained": "conv4", "architecture": "tiny"}, "no block 'conv4' .* conv1, conv2, conv3$"),
        ({"head_epochs": 12}, "head epochs are 12 of 12"),
        ({"labels": ("A", "A")}, "each may be named once"),
        ({"minimum_positives": 0}, "minimum_positives is 0; at least 1"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_when_the_plan_is_made(tmp_path, option, message):
    plan = TrainingPlan((Source(tmp_path, "x"),), tmp_path, "x", trained="conv5_block16")
    with pytest.raises(ValueError, match=message):
        replace(plan, **option)


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
@pytest.mark.parametrize("architecture", ["densenet121", "tiny"])
def test_the_blocks_that_a_plan_may_name_are_those_of_the_network(architecture):
    import re

    from model.train.architecture import build_network
    from model.train.initial_weights import check_block

    names = [layer.name for layer in build_network(1, None, 1, architecture=architecture).layers]
    blocks = {m[0] for name in names if (m := re.match(r"conv\d+(_block\d+)?(?=_)", name))}
    blocks |= {block.split("_")[0] for block in blocks}
    candidates = {f"conv{n}" for n in range(8)} | {f"conv{n}_block{b}" for n in range(8) for b in range(60)}
    for name in candidates:
        if name in blocks:
            check_block(architecture, name)
        else:
            with pytest.raises(ValueError, match="has no block"):
                check_block(architecture, name)


def test_the_best_epoch_that_the_card_names_is_the_one_whose_weights_were_kept():
    """Where AUROC is unknown the weights are those of the smallest loss."""
    history = [
        EpochRecord(n, 224, 8, 1.0, 1e-3, 0.7, 0.7, loss, 0.5, NAN, "") for n, loss in ((1, 0.9), (2, 0.4), (3, 0.6))
    ]
    said = fitting_entries(FittingPlan(("A",)), "random weights", history, "Keras")
    assert said["epochs"].endswith("the weights are those after epoch 2")
