"""Making a bundle's compiled network int8 with NNCF, if it stays as good; needs the extra ``[train]``."""

import logging
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import (
    CARD_FILE,
    DESCRIPTION_FILE,
    GOLDEN_FILE,
    NETWORK_DATA_FILE,
    NETWORK_FILE,
    Bundle,
    load_bundle,
)
from model.bundle_writer import file_digest, write_arrays, write_table
from model.dataset import DatasetInvalid, Sample, limited
from model.distribution import TrainingDistribution
from model.engine import Engine, open_engine
from model.figures import auroc
from model.layout import fold_weights, sink_transpositions
from model.measuring import judge, measure
from model.preprocessing import prepare
from model.raster import read_raster

CALIBRATION_IMAGES = 300
LEAST_JUDGED = 20
LEAST_OF_EITHER = 10
"""Images that show a label, and images that do not, that its AUROC is judged on: of fewer, one image moves it."""
AUROC_DROP = 0.005
"""Largest drop of a label's AUROC that is accepted."""
MEAN_MOVE, HIGH_MOVE = 0.02, 0.10
"""Largest mean, and largest 99th percentile, of how far probabilities may move."""
LIKENESS_CHANGED = 0.05
"""Largest share of images that may come to lie on the other side of what counts as unlike the training images."""

ReadImage = Callable[[Path], NDArray[np.float32]]


class QuantizationRefused(RuntimeError):
    """The quantized network is not as good, or cannot be judged; nothing was written. The message gives the figures."""


@dataclass(frozen=True)
class Quantized:
    """What was gained and what was lost, measured on the images that were not used to quantize.

    Attributes
    ----------
    calibrated_on, judged_on
        Numbers of images.
    auroc_before, auroc_after
        A label that the judged images know both values of, at least `LEAST_OF_EITHER` times.
    mean_move, high_move
        Mean and 99th percentile of how far probabilities moved.
    speed
        How many times as fast as before, both measured in turn in the same run, on one thread as a worker's child.
    precision_before
        What the other network computed in.
    speed_over_f32
        How many times as fast as the other network in f32.
    not_judged
        Labels that the judged images show, or lack, too few times.
    likeness_changed
        Share of images that count as unlike the training images by one network and not by the other.
    size
        Bytes of the network's weights over those before.
    """

    calibrated_on: int
    judged_on: int
    auroc_before: dict[str, float]
    auroc_after: dict[str, float]
    mean_move: float
    high_move: float
    speed: float
    precision_before: str
    size: float
    speed_over_f32: float
    not_judged: tuple[str, ...] = ()
    likeness_changed: float = 0.0

    def as_table(self) -> dict[str, Any]:
        """Return plain values, with four decimals."""
        areas = {
            key: {label: round(area, 4) for label, area in getattr(self, key).items()}
            for key in ("auroc_before", "auroc_after")
        }
        moves = {key: round(getattr(self, key), 4) for key in ("mean_move", "high_move", "likeness_changed")}
        return {**asdict(self), **areas, **moves}


def quantize(
    bundle: Bundle,
    samples: Sequence[Sample],
    output: Path,
    read_image: ReadImage = read_raster,
    on_image: Callable[[], None] = lambda: None,
    threads: int = 1,
) -> tuple[Bundle, Quantized]:
    """Write a copy of a bundle whose compiled network is int8, and say what that changed.

    The head stays in f32, so that the closed form explains the quantized network exactly, from its own feature map.
    Every second image, 300 at most, sets the ranges; the others judge.

    Raises
    ------
    QuantizationRefused
        A label's AUROC drops by more than 0.005, probabilities move too far, other images count as unlike the training
        images, or nothing can be judged.
    DatasetInvalid
        There are too few images.
    """
    if bundle.head is None or not bundle.has_compiled_network:
        raise QuantizationRefused(f"{bundle.name} has no compiled network with a head of closed form")
    if bundle.is_quantized:
        raise QuantizationRefused(f"{bundle.name} is int8 already")
    ranging, judging = limited(samples[::2], CALIBRATION_IMAGES), list(samples[1::2])
    if len(judging) < LEAST_JUDGED:
        raise DatasetInvalid(f"{len(samples)} images are too few; at least {2 * LEAST_JUDGED} are needed")
    unfinished = output.parent / f".{output.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(bundle.folder, unfinished)
    try:
        _write_network(bundle, ranging, unfinished, read_image, on_image)
        made = _rewrite(unfinished, bundle)
        found = _compare(bundle, made, len(ranging), judging, read_image, on_image, threads)
        _accept(found)
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
    sink_transpositions(network)  # one between a quantizer and its convolution would keep the convolution in f32
    fold_weights(network)
    convolutions = [node for node in network.get_ordered_ops() if node.get_type_name() == "Convolution"]

    def tensor(sample: Sample) -> NDArray[np.float32]:
        on_image()
        return prepare(read_image(sample.path), spec).tensor[np.newaxis]

    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(sys.stderr):  # NNCF draws bars of its own, which are no part of what a command prints
        quantized = nncf.quantize(
            network,
            nncf.Dataset(list(ranging), tensor),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(ranging),
            # the first convolution sees the film itself; OpenVINO computes it in f32 anyway, for its padding
            ignored_scope=nncf.IgnoredScope(
                names=[*(node.get_friendly_name() for node in convolutions[:1]), *_head_of(network)], validate=False
            ),
        )
    openvino.save_model(quantized, folder / NETWORK_FILE, compress_to_fp16=False)


def _head_of(network: Any) -> list[str]:  # noqa: ANN401 - an openvino.Model; openvino carries no types
    """Return the names of all operations after the feature map: of rounded values, the closed form would be another."""
    found = next(result for result in network.get_results() if len(result.get_input_partial_shape(0)) == 4)
    features = found.input_value(0).get_node()
    while features.get_type_name() == "Transpose":  # the head may read it as it was before
        features = features.input_value(0).get_node()
    names: set[str] = set()
    waiting = [features]
    while waiting:
        for output in waiting.pop().outputs():
            for reader in (target.get_node() for target in output.get_target_inputs()):
                if reader.get_type_name() != "Result" and reader.get_friendly_name() not in names:
                    names.add(reader.get_friendly_name())
                    waiting.append(reader)
    return sorted(names)


def _rewrite(folder: Path, bundle: Bundle) -> Bundle:
    """Make the golden output anew and describe the bundle; its digest stays: weights, labels, head, preprocessing."""
    table = tomllib.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    table["compiled"] = {"precision": "int8"}
    table["model"]["name"] = f"{bundle.name}-int8"

    def describe() -> Bundle:
        for name in (NETWORK_FILE, NETWORK_DATA_FILE, GOLDEN_FILE):
            table["files"][name] = file_digest(folder / name)
        write_table(folder, table)
        return load_bundle(folder)

    answer = open_engine(describe(), check_golden=False).run(bundle.golden.tensors)
    write_arrays(
        folder / GOLDEN_FILE,
        {
            "tensors": bundle.golden.tensors.astype(np.float16),
            "logits": answer.logits,
            "activations": answer.activations,
        },
    )
    return describe()


def _write_card(before: Bundle, made: Bundle, found: Quantized) -> None:
    """Say before the card of the network that it was made of what is otherwise in this one, as measured."""
    rows = [f"| {label} | {area:.4f} | {found.auroc_after[label]:.4f} |" for label, area in found.auroc_before.items()]
    left = f" Too few images to judge AUROC by: {', '.join(found.not_judged)}." if found.not_judged else ""
    path = made.folder / CARD_FILE
    of_before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(
        f"# {made.name} {made.version}\n\n"
        f"`{before.name}` with its compiled network in int8, the head in f32: its weights, thresholds and calibration "
        "are the same. What follows below is its card, measured before.\n\n"
        f"{found.calibrated_on} images set the ranges; {found.judged_on} others judged.{left}\n\n"
        "| label | AUROC before | in int8 |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        f"Probabilities moved by {found.mean_move:.4f} on average and {found.high_move:.4f} at the 99th percentile "
        f"(refused above {MEAN_MOVE} and {HIGH_MOVE}; a drop of AUROC above {AUROC_DROP}). On the machine that made it "
        f"{found.speed:.2f} times as fast as {found.precision_before} and {found.speed_over_f32:.2f} times as f32, on "
        f"one thread; weights of {found.size:.2f} times the size.\n\n{of_before}",
        encoding="utf-8",
    )


def _compare(
    before: Bundle,
    after: Bundle,
    calibrated_on: int,
    judging: Sequence[Sample],
    read_image: ReadImage,
    on_image: Callable[[], None],
    threads: int,
) -> Quantized:
    engines = open_engine(before, threads=threads), open_engine(after, threads=threads)
    answers = [measure(engine, before, judging, read_image, on_image) for engine in engines]
    labels = before.label_names
    judged = [judge(each, labels, before.everyone, before.groups, before.distribution) for each in answers]
    areas = [
        {name: auroc(answers[0].targets[:, i], each.probabilities[:, i]) for i, name in enumerate(labels)}
        for each in judged
    ]
    counts = {
        name: min(int((answers[0].targets[:, i] == value).sum()) for value in (0, 1)) for i, name in enumerate(labels)
    }
    known = [name for name in labels if counts[name] >= LEAST_OF_EITHER]
    if not known:
        raise QuantizationRefused(
            f"nothing to judge by: no label of the model is present in at least {LEAST_OF_EITHER} of the "
            f"{len(judging)} images, and absent in as many"
        )
    serving = [open_engine(before, "f32"), open_engine(before), open_engine(after)]
    slowest, usual, fastest = _times(serving, before.golden.tensors[:1])
    moves = np.abs(judged[1].probabilities - judged[0].probabilities)
    return Quantized(
        calibrated_on,
        len(judging),
        {name: areas[0][name] for name in known},
        {name: areas[1][name] for name in known},
        float(moves.mean()),
        float(np.percentile(moves, 99)),
        round(usual / fastest, 2),
        serving[1].precision,
        round(
            (after.folder / NETWORK_DATA_FILE).stat().st_size / (before.folder / NETWORK_DATA_FILE).stat().st_size, 2
        ),
        round(slowest / fastest, 2),
        tuple(name for name in labels if name not in known),
        _likeness_changed(before.distribution, *(each.pooled for each in answers)),
    )


def _times(engines: Sequence[Engine], tensor: NDArray[np.float32], rounds: int = 15) -> list[float]:
    """Return median seconds an image of each, taken in turn, so that another load on the machine slows all."""
    times: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, taken in zip(engines, times, strict=True):
            started = time.perf_counter()
            engine.run(tensor)
            taken.append(time.perf_counter() - started)
    return [float(np.median(taken)) for taken in times]


def _accept(found: Quantized) -> None:
    # figures like 0.95 and 0.945 lie a little more than 0.005 apart in binary
    dropped = {
        name: (before, found.auroc_after[name])
        for name, before in found.auroc_before.items()
        if before - found.auroc_after[name] > AUROC_DROP + 1e-9
    }
    if dropped:
        listed = ", ".join(f"{name} {before:.4f} -> {after:.4f}" for name, (before, after) in dropped.items())
        raise QuantizationRefused(
            f"int8 is refused: AUROC drops by more than {AUROC_DROP} on {found.judged_on} images: {listed}"
        )
    if found.mean_move > MEAN_MOVE or found.high_move > HIGH_MOVE:
        raise QuantizationRefused(
            f"int8 is refused: probabilities move by {found.mean_move:.4g} on average (allowed {MEAN_MOVE}), and by "
            f"{found.high_move:.4g} at the 99th percentile (allowed {HIGH_MOVE})"
        )
    if found.likeness_changed > LIKENESS_CHANGED:
        raise QuantizationRefused(
            f"int8 is refused: for {found.likeness_changed:.1%} of the images it says otherwise whether they are like "
            f"those of the training (allowed {LIKENESS_CHANGED:.0%})"
        )


def _likeness_changed(
    distribution: TrainingDistribution, before: NDArray[np.float32], after: NDArray[np.float32]
) -> float:
    """Return the share of images that are outside the training's by one answer and not by the other."""
    if not distribution.known:
        return 0.0
    return float(((distribution.score(before) > 1) != (distribution.score(after) > 1)).mean())
