"""Mutually exclusive classes: the classes of a softmax, and the conversion of their scores to logits of labels."""

from collections.abc import Sequence

from model.dataset.samples import DatasetInvalid, Sample
from model.network.keras_types import KerasModel
from model.network.label_logits import label_network
from model.train.architecture import one_against_normal

NORMAL_CLASS = "Normal"
"""The class of images without any of the labels."""


def exclusive_classes(samples: Sequence[Sample], labels: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of a softmax: the labels, preceded by `NORMAL_CLASS` where images have none of them.

    Raises
    ------
    DatasetInvalid
        There is only one class.
    """
    absent = any(all(sample.target(label) == 0 for label in labels) for sample in samples)
    classes = (NORMAL_CLASS, *labels) if absent else tuple(labels)
    if len(classes) < 2:
        raise DatasetInvalid(
            f"a softmax needs at least two classes; every image is of {', '.join(classes)}: add images without it, "
            "or train with sigmoid"
        )
    return classes


def with_logits(network: KerasModel, classes: Sequence[str], labels: Sequence[str]) -> KerasModel:
    """Return a network with one logit per label, made of a network with one score per class.

    The sigmoid of a label's logit is the label's softmax probability (`model.network.label_logits.label_network`).
    """
    if tuple(classes) == (NORMAL_CLASS, *labels) and len(labels) == 1:
        return one_against_normal(network)
    return label_network(network, "softmax", [classes.index(label) for label in labels])
