"""The peer of the benchmark `reading`: what a notebook does. Prints images a second, the first image left out.

usage: keras_loop.py FILE...
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import tensorflow as tf
from pydicom import dcmread


def main(files: list[str]) -> None:
    """Decode, window, resize, predict and explain each file, one after the other."""
    base = keras.applications.DenseNet121(weights=None, include_top=False, input_shape=(224, 224, 3), pooling=None)
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    network = keras.Model(base.input, keras.layers.Dense(14, activation="sigmoid")(pooled))
    explained = keras.Model(base.input, [base.output, network.output])
    started = 0.0
    for number, file in enumerate(files):
        if number == 1:
            started = time.monotonic()
        image = dcmread(file)
        pixels = image.pixel_array.astype(np.float32) / 30000
        small = cv2.resize(np.clip(pixels, 0, 1), (224, 224), interpolation=cv2.INTER_AREA)
        batch = np.repeat(small[None, :, :, None], 3, axis=3)
        network.predict(batch, verbose=0)
        with tf.GradientTape() as tape:
            activations, probabilities = explained(batch)
            score = probabilities[:, 0]
        weights = tf.reduce_mean(tape.gradient(score, activations), axis=(0, 1, 2))
        heatmap = tf.nn.relu(activations[0] @ weights[:, None])[..., 0].numpy()
        cv2.applyColorMap((255 * heatmap / max(heatmap.max(), 1e-9)).astype(np.uint8), cv2.COLORMAP_JET)
    print((len(files) - 1) / (time.monotonic() - started))


if __name__ == "__main__":
    main(sys.argv[1:])
