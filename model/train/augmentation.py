"""Random augmentation of training images: geometry, gamma, contrast, brightness, blur, noise."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes. Lengths are shares of the image's side, intensities are those of [0, 1].

    No mirroring: heart and stomach are on one side. Gamma and brightness have wide ranges because DICOM images rendered
    by their own VOI are far brighter (mean 0.75) than the 8-bit collections (mean 0.5).

    Attributes
    ----------
    rotation_degrees, shift
        Largest absolute values, drawn uniformly.
    zoom, aspect
        Largest absolute logarithms of the scale and of the ratio of the axes' scales.
    gamma, contrast
        Lowest and highest exponent (log-uniform) and factor about 0.5 (uniform).
    brightness
        Largest absolute offset.
    blur_probability
        Probability of a Gaussian blur with a standard deviation of 0.4 to 1.2 pixels.
    noise
        Largest standard deviation of Gaussian noise.
    """

    rotation_degrees: float = 8.0
    shift: float = 0.06
    zoom: float = 0.15
    aspect: float = 0.10
    gamma: tuple[float, float] = (0.42, 1.8)
    contrast: tuple[float, float] = (0.7, 1.25)
    brightness: float = 0.12
    blur_probability: float = 0.2
    noise: float = 0.02

    def apply(self, square: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        """Return an augmented copy of a resampled image, float32 [size, size] in [0, 1]."""
        import cv2

        size = square.shape[0]
        matrix = self._matrix(size, random)
        changed = cv2.warpAffine(square, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        changed = np.clip(changed, 0.0, 1.0).astype(np.float32)
        low, high = self.gamma
        changed = np.power(changed, math.exp(random.uniform(math.log(low), math.log(high))), dtype=np.float32)
        changed = (changed - 0.5) * random.uniform(*self.contrast) + 0.5
        changed += random.uniform(-self.brightness, self.brightness)
        if random.random() < self.blur_probability:
            changed = cv2.GaussianBlur(changed, (0, 0), random.uniform(0.4, 1.2))
        changed += random.uniform(0.0, self.noise) * random.standard_normal(changed.shape, dtype=np.float32)
        return np.clip(changed, 0.0, 1.0).astype(np.float32)

    def _matrix(self, size: int, random: np.random.Generator) -> NDArray[np.float64]:
        angle = math.radians(random.uniform(-self.rotation_degrees, self.rotation_degrees))
        zoom = math.exp(random.uniform(-self.zoom, self.zoom))
        aspect = math.exp(random.uniform(-self.aspect, self.aspect) / 2)
        cosine, sine = math.cos(angle), math.sin(angle)
        linear = zoom * np.array([[cosine * aspect, -sine / aspect], [sine * aspect, cosine / aspect]])
        centre = np.full(2, (size - 1) / 2)
        shift = random.uniform(-self.shift, self.shift, 2) * size
        return np.column_stack([linear, centre + shift - linear @ centre])
