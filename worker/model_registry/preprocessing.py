"""The preprocessing id of a bundle, and how much of a JPEG 2000 image its tensor and heatmap need."""

from __future__ import annotations

from dicom_io.pixels.grayscale import GRAYSCALE_VERSION, SufficientResolution
from model.bundle.bundle import Bundle
from model.preprocessing.tensor import Preprocessing

HEATMAP_LONGEST_SIDE = 1024

# What of JPEG 2000 is enough: a picture drawn a sixteenth larger than what it is made of looks the same; at four times
# the tensor's size probabilities move by thousandths, at twice its size they moved by up to 0.012 on real radiographs.
_ENOUGH_OF_HEATMAP = HEATMAP_LONGEST_SIDE * 15 // 16
_ENOUGH_OF_TENSOR = 4


def preprocessing_id(bundle: Bundle) -> str:
    """Return what names everything between file and tensor: the bundle's own preprocessing and the grayscale rules."""
    return f"{bundle.preprocessing.identifier}+gray{GRAYSCALE_VERSION}"


def enough_of(spec: Preprocessing) -> SufficientResolution:
    """Return what of JPEG 2000 is enough for heatmap and tensor: the same when a worker reads as in training."""
    return SufficientResolution(longest=_ENOUGH_OF_HEATMAP, shortest=_ENOUGH_OF_TENSOR * spec.size)


def made_by_newer(preprocessing_id: str) -> bool:
    """Whether a newer program than this one makes that: two run side by side while a site is upgraded."""
    version = preprocessing_id.rpartition("+gray")[2]
    return version.isdecimal() and int(version) > GRAYSCALE_VERSION
