"""Post-training quantization of a bundle's compiled network to int8 with NNCF; needs the extra ``[train]``."""

import logging
import shutil
import sys
import tomllib
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import (
    CARD_FILE,
    DESCRIPTION_FILE,
    GOLDEN_FILE,
    NETWORK_DATA_FILE,
    NETWORK_FILE,
    Bundle,
    load_bundle,
)
from model.dataset.sources import Sample
from model.engine.opening import open_engine
from model.engine.transpose_sinking import fold_weights, sink_transpositions
from model.preprocessing.image_files import read_raster
from model.preprocessing.tensor import prepare
from model.publish.bundle_writer import file_digest, write_arrays, write_table
from model.quantize.acceptance import (
    AUROC_DROP,
    AUROC_DROP_BOUND,
    CHANGED_CALLS,
    HIGH_MOVE,
    MEAN_MOVE,
    QuantizationComparison,
    QuantizationRefused,
    ReadImage,
    check_accepted,
    compare,
)
from model.quantize.images import choose_images


def quantize(
    bundle: Bundle,
    samples: Sequence[Sample],
    output: Path,
    read_image: ReadImage = read_raster,
    on_image: Callable[[], None] = lambda: None,
    threads: int = 1,
) -> tuple[Bundle, QuantizationComparison]:
    """Write a copy of a bundle whose compiled network is int8; return it with the comparison.

    The head stays in f32, so that its closed form explains the quantized network exactly, from its own feature map.
    Which images set the quantization ranges, and which are compared: `model.quantize.images.choose_images`.

    Parameters
    ----------
    bundle
        With a compiled network and a head of closed form.
    samples
        Labelled images.
    output
        Folder of the new bundle.
    read_image, on_image
        As for `model.evaluate.predictions.predict`.
    threads
        Of the engines.

    Raises
    ------
    QuantizationRefused
        The bundle cannot be quantized or compared, or the comparison exceeds a limit.
    DatasetInvalid
        There are too few images.
    """
    if bundle.head is None or not bundle.has_compiled_network:
        raise QuantizationRefused(f"{bundle.name} has no compiled network with a head of closed form")
    if bundle.is_quantized:
        raise QuantizationRefused(f"{bundle.name} is int8 already")
    images = choose_images(bundle, samples)
    unfinished = output.parent / f".{output.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(bundle.folder, unfinished)
    try:
        _write_network(bundle, images.ranging, unfinished, read_image, on_image)
        made = _rewrite(unfinished, bundle)
        found = compare(bundle, made, images, read_image, on_image, threads)
        check_accepted(found)
        _write_card(bundle, made, found)
        unfinished.rename(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return load_bundle(output), found


def _write_network(
    bundle: Bundle,
    ranging: Sequence[Sample],
    folder: Path,
    read_image: ReadImage,
    on_image: Callable[[], None],
) -> None:
    import nncf
    import openvino

    spec = bundle.preprocessing
    network = openvino.Core().read_model(bundle.network_path)
    network.reshape([1, spec.size, spec.size, spec.channels])
    sink_transpositions(network)  # a transposition between a quantizer and its convolution keeps the latter in f32
    fold_weights(network)
    convolutions = [node for node in network.get_ordered_ops() if node.get_type_name() == "Convolution"]

    def tensor(sample: Sample) -> NDArray[np.float32]:
        on_image()
        return prepare(read_image(sample.path), spec).tensor[np.newaxis]

    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(sys.stderr):  # NNCF's progress bars must not mix with the command's output
        quantized = nncf.quantize(
            network,
            nncf.Dataset(list(ranging), tensor),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(ranging),
            # OpenVINO computes the first convolution in f32 in any case, because of its padding
            ignored_scope=nncf.IgnoredScope(
                names=[*(node.get_friendly_name() for node in convolutions[:1]), *_head_of(network)], validate=False
            ),
        )
    openvino.save_model(quantized, folder / NETWORK_FILE, compress_to_fp16=False)


def _head_of(network: Any) -> list[str]:  # noqa: ANN401 - an openvino.Model; openvino carries no types
    """Return the names of all operations after the feature map; quantized, they would not match the closed form."""
    result = next(each for each in network.get_results() if len(each.get_input_partial_shape(0)) == 4)
    features = result.input_value(0).get_node()
    while features.get_type_name() == "Transpose":  # the head's input may be the feature map before it
        features = features.input_value(0).get_node()
    names: set[str] = set()
    waiting = [features]
    while waiting:
        for output in waiting.pop().outputs():
            for consumer in (target.get_node() for target in output.get_target_inputs()):
                if consumer.get_type_name() != "Result" and consumer.get_friendly_name() not in names:
                    names.add(consumer.get_friendly_name())
                    waiting.append(consumer)
    return sorted(names)


def _rewrite(folder: Path, bundle: Bundle) -> Bundle:
    """Compute the golden output anew and write the manifest; the model digest, without the compiled network, stays."""
    table = tomllib.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    table["compiled"] = {"precision": "int8"}
    table["model"]["name"] = f"{bundle.name}-int8"

    def describe() -> Bundle:
        for name in (NETWORK_FILE, NETWORK_DATA_FILE, GOLDEN_FILE):
            table["files"][name] = file_digest(folder / name)
        write_table(folder, table)
        return load_bundle(folder)

    output = open_engine(describe(), check_golden=False).run(bundle.golden.tensors)
    write_arrays(
        folder / GOLDEN_FILE,
        {
            "tensors": bundle.golden.tensors.astype(np.float16),
            "logits": output.logits,
            "activations": output.activations,
        },
    )
    return describe()


def _write_card(before: Bundle, made: Bundle, found: QuantizationComparison) -> None:
    """Write the comparison before the source's model card."""
    rows = [
        f"| {label} | {area:.4f} | {found.auroc_after[label]:.4f} | {found.auroc_change[label][0]:+.4f} to "
        f"{found.auroc_change[label][1]:+.4f} |"
        for label, area in found.auroc_before.items()
    ]
    known = (
        f"none of them, by {found.compared}, among what the network was trained on"
        if found.compared
        else "whether the network was trained on them is not known"
    )
    calls = [f"| {label} | {n} | {lost} | {gained} |" for label, (n, lost, gained) in found.calls.items()]
    left = f" Too few images to judge AUROC by: {', '.join(found.not_judged)}." if found.not_judged else ""
    path = made.folder / CARD_FILE
    of_before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(
        f"# {made.name} {made.version}\n\n"
        f"`{before.name}` with its compiled network in int8, the head in f32: its weights, thresholds and calibration "
        "are the same. What follows below is its card, measured before.\n\n"
        f"{found.calibrated_on} images set the ranges; {found.judged_on} others judged, of other patients; {known}."
        f"{left}\n\n"
        "| label | AUROC before | in int8 | change (95 % interval, paired over patients) |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n| label | positive before | of these negative in int8 | positive only in int8 |\n|---|---|---|---|\n"
        + "\n".join(calls)
        + "\n\n"
        f"Probabilities moved by {found.mean_move:.4f} on average and {found.high_move:.4f} at the 99th percentile "
        f"(refused above {MEAN_MOVE} and {HIGH_MOVE}; a drop of AUROC above {AUROC_DROP}, one whose interval reaches "
        f"{AUROC_DROP_BOUND}, or more than {CHANGED_CALLS:.0%} of the positive calls lost or added). On the machine "
        f"that made it {found.speed:.2f} times as fast as {found.precision_before} and {found.speed_over_f32:.2f} "
        f"times as f32, on one thread; weights of {found.size:.2f} times the size.\n\n{of_before}",
        encoding="utf-8",
    )
