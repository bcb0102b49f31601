"""Type aliases for objects of Keras, which has no type annotations."""

from typing import Any, TypeAlias

KerasModel: TypeAlias = Any
"""A ``keras.Model`` or one of its layers."""

Tensor: TypeAlias = Any
"""A tensor of Keras' backend, or a NumPy array."""
