"""Export of a bundle as archive, folder, Keras file or OpenVINO IR."""

import shutil
import uuid
from pathlib import Path

from model.bundle.bundle import Bundle, BundleInvalid
from model.dataset.patient_digests import KEY_FILE
from model.network.keras_files import ImportRefused, load_keras_file
from model.publish.archive import SUFFIXES, is_archive, pack_bundle


def export_bundle(bundle: Bundle, target: Path) -> None:
    """Export a bundle in the format that the target's suffix selects; after an error nothing is left behind.

    The key of the patient digests is not exported.

    Parameters
    ----------
    bundle
        A loaded bundle.
    target
        ``.zip``, ``.tar``, ``.tar.gz``, ``.tgz``: the bundle in one file. No suffix: its folder. ``.keras``, ``.h5``:
        the Keras network, whose outputs are logits. ``.xml``: the OpenVINO network, whose outputs are logits and
        feature map, with its ``.bin`` beside it.

    Raises
    ------
    ImportRefused
        The suffix is another one.
    BundleInvalid
        The bundle holds no compiled network.
    """
    kind = target.suffix.lower()
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.absolute().parent / f".{uuid.uuid4().hex}{''.join(target.suffixes[-2:])}"
    try:
        if is_archive(target):
            pack_bundle(bundle, unfinished)
        elif kind == ".keras":
            shutil.copyfile(bundle.weights_path, unfinished)
        elif kind in (".h5", ".hdf5"):
            load_keras_file(bundle.weights_path).save(unfinished, include_optimizer=False)
        elif kind == ".xml":
            if not bundle.has_compiled_network:
                raise BundleInvalid(bundle.folder, "it holds no network compiled for OpenVINO")
            shutil.copyfile(bundle.network_path.with_suffix(".bin"), target.with_suffix(".bin"))
            shutil.copyfile(bundle.network_path, unfinished)
        elif kind in (".onnx", ".pb", ".tflite", ".pt", ".pth"):
            raise ImportRefused(
                target, f"a model is not exported as {kind}; allowed are .keras, .h5, .xml (OpenVINO), "
                f"{', '.join(SUFFIXES)} and a folder; the Keras file can be converted further"
            )  # fmt: skip
        else:
            shutil.copytree(bundle.folder, unfinished, ignore=shutil.ignore_patterns(KEY_FILE))
        unfinished.rename(target)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.unlink(missing_ok=True)
