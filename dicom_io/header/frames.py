"""The number of frames of an object: one judgement for the gate and for the decoder."""

from pydicom.dataset import Dataset

from dicom_io.header import parsing

_MOST = 2**31


def number_of_frames(dataset: Dataset) -> int:
    """Read NumberOfFrames; 1 where it is missing, empty, not a number, or 0, which some senders of single images write.

    Returns
    -------
    int
        Not 0; below 0 where the header says so, and at most 2**31.
    """
    stated = parsing.number(dataset, "NumberOfFrames")
    return 1 if stated is None else int(max(-_MOST, min(stated, _MOST))) or 1
