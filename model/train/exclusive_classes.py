"""Classes that exclude one another: what a softmax is over, and which of them an image is said to be of."""

from collections.abc import Sequence

from model.dataset.samples import DatasetInvalid, Sample
from model.network.keras_types import KerasModel
from model.network.label_logits import label_network
from model.train.architecture import one_against_normal

NORMAL_CLASS = "Normal"
"""The class of images that have none of the labels."""


def exclusive_classes(samples: Sequence[Sample], labels: Sequence[str]) -> tuple[str, ...]:
    """Return what a softmax is over: the labels, and `NORMAL_CLASS` before them where images have none of them.

    Raises
    ------
    DatasetInvalid
        There is one class only.
    """
    absent = any(all(sample.target(label) == 0 for label in labels) for sample in samples)
    classes = (NORMAL_CLASS, *labels) if absent else tuple(labels)
    if len(classes) < 2:
        raise DatasetInvalid(
            f"a softmax is over two classes at least; every image is of {', '.join(classes)}: add images without it, "
            "or train with sigmoid"
        )
    return classes


def with_logits(network: KerasModel, classes: Sequence[str], labels: Sequence[str]) -> KerasModel:
    """Return the network with a logit for each label, of one with a score for each class.

    A sigmoid of a label's logit is what the softmax gave for it (`model.network.label_logits.label_network`).
    """
    if tuple(classes) == (NORMAL_CLASS, *labels) and len(labels) == 1:
        return one_against_normal(network)
    return label_network(network, "softmax", [classes.index(label) for label in labels])
