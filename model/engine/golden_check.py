"""Check of an engine against the golden output in its bundle, with a tolerance for each precision."""

from __future__ import annotations

import numpy as np

from model.bundle.bundle import Bundle
from model.engine.protocol import Engine, EngineUnsuitable

GOLDEN_TOLERANCES: dict[str, tuple[float, float]] = {"f32": (2e-3, 2e-3), "bf16": (5e-2, 5e-2), "int8": (5e-2, 5e-2)}
"""Largest allowed differences from the golden output by precision: of the logits over (1 + largest logit), and of the
feature map over its largest value. Measured on a processor with AMX: f32 1e-6, bf16 6e-3; others differ."""


HEAD_TOLERANCE = 2e-3
"""Largest allowed difference between the golden logits and those that the head computes from the golden feature map,
over (1 + largest logit). The feature map is stored as float16; measured on DenseNet121: 6e-6."""


def check_against_golden(engine: Engine, bundle: Bundle) -> tuple[float, float]:
    """Return the relative differences from the golden output: of the logits, and of the feature map.

    The head must compute the golden logits from the golden feature map too: otherwise its Grad-CAM maps would explain
    another network.

    Raises
    ------
    EngineUnsuitable
        A difference or a shape is not allowed.
    """
    golden = bundle.golden
    try:
        output = engine.run(golden.tensors)
    except ValueError as error:
        raise EngineUnsuitable(f"the golden input of {bundle.name} does not fit its network: {error}") from error
    if output.logits.shape != golden.logits.shape or output.activations.shape != golden.activations.shape:
        raise EngineUnsuitable(
            f"{engine.name} gives outputs of shapes {output.logits.shape} and {output.activations.shape} for "
            f"{bundle.name}; the golden ones have {golden.logits.shape} and {golden.activations.shape}"
        )
    _check_head(bundle)
    logits = float(np.abs(output.logits - golden.logits).max() / (1 + np.abs(golden.logits).max()))
    largest = max(float(np.abs(golden.activations).max()), 1e-30)  # a feature map may be all zeros
    activations = float(np.abs(output.activations - golden.activations).max()) / largest
    allowed = GOLDEN_TOLERANCES[engine.precision]
    if not (logits <= allowed[0] and activations <= allowed[1]):
        raise EngineUnsuitable(
            f"{engine.name} in {engine.precision} differs from the golden output of {bundle.name}: logits by "
            f"{logits:.2g} (allowed {allowed[0]:g}), feature map by {activations:.2g} (allowed {allowed[1]:g})"
        )
    return logits, activations


def _check_head(bundle: Bundle) -> None:
    head, golden = bundle.head, bundle.golden
    if head is None:
        return
    try:
        logits = np.stack([head.logits(head.pooled(activations)) for activations in golden.activations])
        distance = float(np.abs(logits - golden.logits).max() / (1 + np.abs(golden.logits).max()))
    except ValueError as error:
        raise EngineUnsuitable(f"the head of {bundle.name} does not fit its golden feature map: {error}") from error
    if not distance <= HEAD_TOLERANCE:
        raise EngineUnsuitable(
            f"the head of {bundle.name} is not its network's: its logits of the golden feature map differ from the "
            f"golden ones by {distance:.2g} (allowed {HEAD_TOLERANCE:g}); restore the bundle from its source"
        )
