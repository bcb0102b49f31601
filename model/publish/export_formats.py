"""A bundle in the forms that other machines and other programs read."""

import shutil
import uuid
from pathlib import Path

from model.bundle.bundle import Bundle, BundleInvalid
from model.dataset.patient_digests import KEY_FILE
from model.network.keras_files import ImportRefused, load_keras_file
from model.publish.archive import SUFFIXES, is_archive, pack_bundle


def export_bundle(bundle: Bundle, target: Path) -> None:
    """Write a bundle as what the target's name says; nothing is left behind where that fails.

    The key to the patients of its split file stays here.

    Parameters
    ----------
    bundle
        A loaded bundle.
    target
        ``.zip``, ``.tar``, ``.tar.gz``: all of it in one file. A name without a suffix: its folder. ``.keras``,
        ``.h5``: the network in Keras, with logits. ``.xml``: the network in OpenVINO, with logits and feature map, its
        ``.bin`` beside it.

    Raises
    ------
    ImportRefused
        The name is none of these, or the bundle holds no compiled network.
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
                target, f"a model is not written as {kind}; .keras, .h5, .xml (OpenVINO), {', '.join(SUFFIXES)} or a "
                "folder are, and tools for the Keras file make the rest"
            )  # fmt: skip
        else:
            shutil.copytree(bundle.folder, unfinished, ignore=shutil.ignore_patterns(KEY_FILE))
        unfinished.rename(target)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.unlink(missing_ok=True)
