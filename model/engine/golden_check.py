"""An engine is checked against the golden output that lies in its bundle, within a tolerance a precision."""

from __future__ import annotations

import numpy as np

from model.bundle.bundle import Bundle
from model.engine.protocol import Engine, EngineUnsuitable

GOLDEN_TOLERANCES: dict[str, tuple[float, float]] = {"f32": (2e-3, 2e-3), "bf16": (5e-2, 5e-2), "int8": (5e-2, 5e-2)}
"""Largest difference allowed from the golden output, a precision: of the logits over (1 + the largest logit), and of
the feature map over its largest value. Measured on a processor with AMX: f32 1e-6, bf16 6e-3; others differ."""


HEAD_TOLERANCE = 2e-3
"""Largest difference allowed between golden logits and what the head makes of the golden feature map, over (1 + the
largest logit). That is stored as float16; measured on DenseNet121: 6e-6."""


def check_against_golden(engine: Engine, bundle: Bundle) -> tuple[float, float]:
    """Return how far an engine is from the golden output (logits, feature map); raise EngineUnsuitable if too far.

    The head that explains must give the golden logits too: otherwise its maps would be of another network.
    """
    golden = bundle.golden
    try:
        output = engine.run(golden.tensors)
    except ValueError as error:
        raise EngineUnsuitable(f"the golden input of {bundle.name} is none: {error}") from error
    if output.logits.shape != golden.logits.shape or output.activations.shape != golden.activations.shape:
        raise EngineUnsuitable(
            f"{engine.name} answers {bundle.name} with shapes {output.logits.shape} and {output.activations.shape}; "
            f"golden are {golden.logits.shape} and {golden.activations.shape}"
        )
    _check_head(bundle)
    logits = float(np.abs(output.logits - golden.logits).max() / (1 + np.abs(golden.logits).max()))
    largest = max(float(np.abs(golden.activations).max()), 1e-30)  # a feature map may be empty
    activations = float(np.abs(output.activations - golden.activations).max()) / largest
    allowed = GOLDEN_TOLERANCES[engine.precision]
    if not (logits <= allowed[0] and activations <= allowed[1]):
        raise EngineUnsuitable(
            f"{engine.name} in {engine.precision} misses the golden output of {bundle.name}: logits by {logits:.2g} "
            f"(allowed {allowed[0]:g}), feature map by {activations:.2g} (allowed {allowed[1]:g})"
        )
    return logits, activations


def _check_head(bundle: Bundle) -> None:
    head, golden = bundle.head, bundle.golden
    if head is None:
        return
    try:
        found = np.stack([head.logits(head.pooled(activations)) for activations in golden.activations])
        distance = float(np.abs(found - golden.logits).max() / (1 + np.abs(golden.logits).max()))
    except ValueError as error:
        raise EngineUnsuitable(f"the head of {bundle.name} does not fit its golden feature map: {error}") from error
    if not distance <= HEAD_TOLERANCE:
        raise EngineUnsuitable(
            f"the head of {bundle.name} is not its network's: of the golden feature map it makes logits that miss the "
            f"golden ones by {distance:.2g} (allowed {HEAD_TOLERANCE:g}); restore the bundle from its source"
        )
