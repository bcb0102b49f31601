"""The network and its loss, in Keras 3 alone, so that any of its backends can train it."""

from typing import Any, TypeAlias

KerasModel: TypeAlias = Any
"""A ``keras.Model`` or one of its layers; Keras carries no types."""

Tensor: TypeAlias = Any
"""A tensor of whichever backend Keras runs on, or an array."""
