"""Grad-CAM by automatic differentiation, for heads and layers without a closed form; on TensorFlow, JAX or PyTorch."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.engine.protocol import EngineOutput
from model.explain.gradcam import GradCamMaps, weighted_maps
from model.network.graph_cutting import after_feature_map, with_feature_map
from model.network.keras_types import KerasModel, Tensor

Gradient = Callable[[list[Tensor], Tensor, Tensor], Tensor]
"""(images, feature maps, selector [labels]) -> the selected logit's derivative by the feature maps."""


class GradientExplainer:
    """A Keras network cut at a feature map: computes logits, and Grad-CAM of each logit by automatic differentiation.

    The part after the feature map is differentiated, one label at a time. Where the logits also depend on the image by
    a path around the feature map (a layer within a dense block), the image is held constant.

    Parameters
    ----------
    network
        A Keras network; a final sigmoid or softmax is removed.
    layer_name
        The layer with the feature map.

    Raises
    ------
    ValueError
        The layer has no feature map, the output does not depend on it, or the output is not [n, labels].
    """

    def __init__(self, network: KerasModel, layer_name: str) -> None:
        self._network = with_feature_map(network, layer_name)
        shape = self._network.outputs[0].shape
        if len(shape) != 2:
            raise ValueError(f"model {network.name} has an output of shape {shape}; [n, labels] is needed")
        self._labels = int(shape[1])
        self._after = after_feature_map(self._network)
        self._sees_image = len(self._after.inputs) > 1
        self._compiled: Gradient | None = None

    def run(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run float32 [n, h, w, channels]."""
        logits, activations = self._network.predict_on_batch(batch)
        return EngineOutput(np.asarray(logits, np.float32), np.asarray(activations, np.float32))

    def weights(self, image: NDArray[np.float32], activations: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return each channel's mean derivative of every logit, float64 [labels, channels].

        Parameters
        ----------
        image
            float32 [rows, columns, channels], the input.
        activations
            float32 [h, w, channels], its feature map.

        Raises
        ------
        ValueError
            The backend of Keras has no gradients.
        """
        if self._compiled is None:
            self._compiled = _compile_gradient(self._after)
        images = [image[np.newaxis]] if self._sees_image else []
        rows = [
            np.asarray(self._compiled(images, activations[np.newaxis], selector), np.float64)[0].mean(axis=(0, 1))
            for selector in np.eye(self._labels, dtype=np.float32)
        ]
        return np.stack(rows)

    def maps(self, image: NDArray[np.float32], activations: NDArray[np.float32]) -> GradCamMaps:
        """Return the Grad-CAM maps of all labels of one image, as `weights` takes it."""
        return weighted_maps(self.weights(image, activations), activations)


def _compile_gradient(network: KerasModel) -> Gradient:
    import keras

    backend = keras.backend.backend()
    compilers = {"tensorflow": _tensorflow_gradient, "jax": _jax_gradient, "torch": _torch_gradient}
    if backend not in compilers:
        raise ValueError(
            f"Keras runs on {backend}, whose gradients are not supported; set KERAS_BACKEND=tensorflow, jax or torch"
        )
    return compilers[backend](network)


def _inputs(images: list[Tensor], activations: Tensor) -> Tensor:
    return [*images, activations] if images else activations


def _tensorflow_gradient(network: KerasModel) -> Gradient:
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def gradient(images: list[Tensor], activations: Tensor, selector: Tensor) -> Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(activations)
            logits = network(_inputs(images, activations), training=False)
            selected = tf.reduce_sum(tf.cast(logits[0], tf.float32) * selector)
        return tape.gradient(selected, activations, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def gradient_of_arrays(images: list[Tensor], activations: Tensor, selector: Tensor) -> Tensor:
        # tensors: NumPy arrays as arguments would trace a new graph at each call
        return gradient([tf.constant(image) for image in images], tf.constant(activations), tf.constant(selector))

    return gradient_of_arrays


def _jax_gradient(network: KerasModel) -> Gradient:
    import jax

    def selected(
        activations: Tensor, images: list[Tensor], selector: Tensor, trainable: Tensor, fixed: Tensor
    ) -> Tensor:
        logits, _ = network.stateless_call(trainable, fixed, _inputs(images, activations), training=False)
        return (logits[0].astype("float32") * selector).sum()

    gradient = jax.jit(jax.grad(selected))
    trainable = [variable.value for variable in network.trainable_variables]
    fixed = [variable.value for variable in network.non_trainable_variables]
    return lambda images, activations, selector: gradient(activations, images, selector, trainable, fixed)


def _torch_gradient(network: KerasModel) -> Gradient:
    import torch
    from keras import ops

    def gradient(images: list[Tensor], activations: Tensor, selector: Tensor) -> Tensor:
        with torch.enable_grad():
            variable = ops.convert_to_tensor(activations).detach().requires_grad_(True)
            logits = network(_inputs([ops.convert_to_tensor(image) for image in images], variable), training=False)
            selected = (logits[0].float() * ops.convert_to_tensor(selector)).sum()
            if not selected.requires_grad:  # the logits do not depend on the feature map
                return ops.convert_to_numpy(ops.zeros_like(variable))
            (derivative,) = torch.autograd.grad(selected, variable, allow_unused=True, materialize_grads=True)
        return ops.convert_to_numpy(derivative)

    return gradient
