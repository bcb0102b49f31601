"""Training losses with masked unknown labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.network.keras_types import Tensor


def masked_loss(packed: Tensor, logits: Tensor, focus: float = 0.0) -> Tensor:
    """Weighted binary cross-entropy of logits; unknown labels have the weight 0.

    Parameters
    ----------
    packed
        float32 [n, 2 * labels]: targets, then weights, as `pack_targets` makes them.
    logits
        float32 [n, labels].
    focus
        Gamma of the focal loss (Lin et al. 2017), which reduces the weight of well classified labels; 0: cross-entropy.

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
    """Weighted cross-entropy of a softmax over exclusive classes; parameters and result as for `masked_loss`."""
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
    """Join targets (nan: unknown) and weights, both [n, labels], to float32 [n, 2 * labels] without any nan.

    Unknown targets become 0 with the weight 0: nan times 0 would be nan, in loss and gradient.
    """
    known = np.isfinite(targets)
    parts = [np.where(known, targets, 0.0), np.where(known, weights, 0.0)]
    return np.concatenate(parts, axis=1).astype(np.float32)
