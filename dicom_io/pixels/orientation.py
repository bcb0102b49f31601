"""Brings an image to the display orientation of a frontal radiograph: rows to the patient's left, columns to the feet.

Each transform is returned as an affine map, so that positions in the result can be given in the stored image.
"""

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]

DISPLAY_ORIENTATION = "L\\F"

# (direction of a row, direction of a column) -> transpose first, then flip left-right, then flip up-down
_TURNS: dict[tuple[str, str], tuple[bool, bool, bool]] = {
    ("L", "F"): (False, False, False),
    ("R", "F"): (False, True, False),
    ("L", "H"): (False, False, True),
    ("R", "H"): (False, True, True),
    ("F", "L"): (True, False, False),
    ("F", "R"): (True, True, False),
    ("H", "L"): (True, False, True),
    ("H", "R"): (True, True, True),
}


def turn_for(patient_orientation: tuple[str, ...]) -> tuple[bool, bool, bool] | None:
    """Find the transform by PatientOrientation (0020,0020); None where it is missing or not frontal.

    Of combined directions (``LF``) the first, the dominant one, counts (PS3.3 C.7.6.1.1.1).
    """
    if len(patient_orientation) != 2 or not all(patient_orientation):
        return None
    return _TURNS.get((patient_orientation[0][0], patient_orientation[1][0]))


def turn(image: NDArray[np.float32], how: tuple[bool, bool, bool]) -> tuple[NDArray[np.float32], Affine]:
    """Transpose and flip an image.

    Returns
    -------
    tuple of ndarray [rows, columns] and ndarray [2, 3]
        The result, and the map of its pixel centres (x, y) to those of `image`.
    """
    transposed, mirrored, upended = how
    result = image.T if transposed else image
    rows, columns = result.shape
    affine = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    if mirrored:
        result, affine[0] = result[:, ::-1], (-1.0, 0.0, columns - 1)
    if upended:
        result, affine[1] = result[::-1, :], (0.0, -1.0, rows - 1)
    if transposed:
        affine = affine[::-1].copy()
    return np.ascontiguousarray(result), affine


def compose(outer: Affine, inner: Affine) -> Affine:
    """Return the map that applies `inner`, then `outer`."""
    whole = np.vstack([inner, [0.0, 0.0, 1.0]])
    return outer @ whole
