"""Losses of training: unknown labels are masked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.network.keras_types import Tensor


def masked_loss(packed: Tensor, logits: Tensor, focus: float = 0.0) -> Tensor:
    """Binary cross-entropy of logits, weighted by cell; an unknown label weighs nothing.

    Parameters
    ----------
    packed
        float32 [n, 2 * labels]: targets, then weights, as `pack_targets` makes them.
    logits
        float32 [n, labels].
    focus
        The focal loss's gamma (Lin et al. 2017): what is classified well already weighs less; 0: plain.

    Returns
    -------
    float32 [n]: the weighted sum over the labels of each image.
    """
    from keras import ops

    targets, weights, logits = _unpacked(packed, logits)
    entropy = ops.softplus(logits) - logits * targets
    if focus:
        entropy = entropy * ops.power(ops.abs(targets - ops.sigmoid(logits)) + 1e-7, focus)
    return ops.sum(entropy * weights, axis=-1)


def masked_softmax_loss(packed: Tensor, logits: Tensor, focus: float = 0.0) -> Tensor:
    """Cross-entropy of classes that exclude one another, shapes as for `masked_loss`; unknown images weigh nothing."""
    from keras import ops

    targets, weights, logits = _unpacked(packed, logits)
    scores = ops.log_softmax(logits, axis=-1)
    entropy = -targets * scores
    if focus:
        entropy = entropy * ops.power(1 - ops.exp(scores) + 1e-7, focus)
    return ops.sum(entropy * weights, axis=-1)


def _unpacked(packed: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from keras import ops

    labels = logits.shape[-1]
    packed = ops.cast(packed, "float32")
    return packed[:, :labels], packed[:, labels:], ops.cast(logits, "float32")


def pack_targets(targets: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Join targets (nan: unknown) and weights to float32 [n, 2 * labels] without any nan.

    A nan times a weight of zero would still be nan, and poison the gradient.
    """
    known = np.isfinite(targets)
    parts = [np.where(known, targets, 0.0), np.where(known, weights, 0.0)]
    return np.concatenate(parts, axis=1).astype(np.float32)
