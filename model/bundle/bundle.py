"""A bundle: the folder of a model with its network, preprocessing, labels, calibration, metrics and checksums.

``model.toml``, the manifest, holds labels, preprocessing, head, thresholds, calibrations, ages, views, the SHA-256 of
every other file, and that of its own contents. Nothing here needs Keras or OpenVINO.
"""

import hashlib
import io
import json
import lzma
import tomllib
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from model.bundle.calibration import CalibratedBy, Calibration, choose_calibration
from model.bundle.heatmap_scale import HeatmapScale
from model.bundle.labels import Code, Label, name_problem
from model.bundle.manifest import CHECKSUM_KEY, FORMAT, READABLE_FORMATS, check_manifest_checksum, check_texts
from model.bundle.training_distribution import TrainingDistribution
from model.explain.head import Head
from model.preprocessing.tensor import Preprocessing

DESCRIPTION_FILE = "model.toml"
WEIGHTS_FILE = "weights.keras"
NETWORK_FILE = "network.xml"
NETWORK_DATA_FILE = "network.bin"
HEAD_FILE = "head.npz"
DISTRIBUTION_FILE = "distribution.npz"
GOLDEN_FILE = "golden.npz"
METRICS_FILE = "metrics.json"
CARD_FILE = "README.md"
UNFINISHED_FILE = "UNFINISHED"
"""Marks a bundle that is still being written: its thresholds and metrics may be placeholders."""
REQUIRED_FILES = (WEIGHTS_FILE, DISTRIBUTION_FILE, GOLDEN_FILE)
CLOSED_FORM_FILES = (NETWORK_FILE, NETWORK_DATA_FILE, HEAD_FILE)
"""Required too unless the head's entry has ``closed_form = false``: such a bundle needs the keras engine."""
# What NumPy and zipfile raise on malformed bytes, such as a header that claims an array of a petabyte.
_ARRAY_ERRORS = (
    *(OSError, EOFError, ValueError, KeyError, MemoryError, RecursionError, RuntimeError, SyntaxError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)


class BundleInvalid(ValueError):
    """A bundle cannot be used; ``reason`` says what is wrong in ``folder`` and how to repair it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"bundle {folder}: {reason}")
        self.folder, self.reason = folder, reason

    def __reduce__(self) -> tuple[type["BundleInvalid"], tuple[Path, str]]:
        """Make the exception picklable: it crosses from the inference process to its caller."""
        return type(self), (self.folder, self.reason)


@dataclass(frozen=True, eq=False)
class Golden:
    """A synthetic input and the network's outputs for it; an engine is compared with them when it is opened.

    Attributes
    ----------
    tensors
        float32 [n, size, size, channels].
    logits
        float32 [n, labels].
    activations
        float32 [n, h, w, channels].
    """

    tensors: NDArray[np.float32]
    logits: NDArray[np.float32]
    activations: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle, its checksums verified.

    Attributes
    ----------
    digest
        SHA-256 over weights, labels, head and preprocessing, as hex: the identity of the model, recorded with results.
    labels
        In the order of the logits.
    head
        None where the head has no closed form: only an engine with gradients can compute its Grad-CAM.
    explanation_layer
        Name of the layer whose feature map Grad-CAM explains.
    everyone
        The calibration, with thresholds, of patients to whom no group applies.
    groups
        Calibrations of training domains that stand for age groups; empty: `everyone` applies to all patients.
    ages
        Age ranges of the training data in completed years, both ends included; empty: any age.
    views
        View positions of the training data ("AP", "PA"); empty: any.
    distribution
        Pooled features of the training data, for the out-of-distribution score.
    metrics
        Contents of ``metrics.json``.
    description
        Contents of ``model.toml``.
    label_ages
        Narrower age ranges of single labels, where training images of other ages had no value for the label.
    heatmap
        The colour scale of heatmaps.
    """

    folder: Path
    name: str
    version: str
    digest: str
    labels: tuple[Label, ...]
    preprocessing: Preprocessing
    head: Head | None
    explanation_layer: str
    everyone: Calibration
    ages: tuple[tuple[float, float], ...]
    views: tuple[str, ...]
    distribution: TrainingDistribution
    metrics: dict[str, Any]
    description: dict[str, Any]
    label_ages: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    groups: tuple[Calibration, ...] = ()
    heatmap: HeatmapScale = field(default_factory=HeatmapScale)

    def calibration_for(self, age_years: float | None, nearest_domain: str) -> tuple[Calibration, CalibratedBy]:
        """Return the calibration for an image and why it was selected; see `choose_calibration`."""
        return choose_calibration(self.everyone, self.groups, age_years, nearest_domain)

    @property
    def has_manifest_checksum(self) -> bool:
        """Whether ``model.toml`` has a checksum of its own contents; format 1 has none."""
        return CHECKSUM_KEY in self.description

    @property
    def thresholds(self) -> dict[str, float]:
        """Thresholds by label where no group applies; an `InferenceResult` holds those that were applied."""
        return self.everyone.thresholds

    @property
    def calibrations(self) -> tuple[Calibration, ...]:
        """Calibrations of the groups; without groups, that of all patients."""
        return self.groups or (self.everyone,)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in the order of the logits."""
        return tuple(label.name for label in self.labels)

    @property
    def card_path(self) -> Path:
        """The model card, Markdown."""
        return self.folder / CARD_FILE

    @property
    def network_path(self) -> Path:
        """The compiled network (OpenVINO IR)."""
        return self.folder / NETWORK_FILE

    @property
    def has_compiled_network(self) -> bool:
        """Whether the bundle has a compiled network for OpenVINO."""
        return {NETWORK_FILE, NETWORK_DATA_FILE} <= set(self.description["files"])

    @property
    def is_quantized(self) -> bool:
        """Whether the compiled network computes in int8."""
        return dict(self.description.get("compiled", {})).get("precision") == "int8"

    @property
    def head_table(self) -> dict[str, Any]:
        """The head's entry in ``model.toml``."""
        return describe_head(self.head, self.explanation_layer)

    @property
    def weights_path(self) -> Path:
        """The Keras model."""
        return self.folder / WEIGHTS_FILE

    @property
    def statement(self) -> str:
        """The line that accompanies every result of the model."""
        return str(self.description["model"].get("statement", "AI result - not for diagnosis"))

    @cached_property
    def golden(self) -> Golden:
        """The golden input and outputs, read at first access."""
        return _read_golden(self.folder)


def builtin_bundles_folder() -> Path:
    """Return the folder of the bundles that ship in the package."""
    return Path(__file__).resolve().parents[1] / "bundles"


def find_bundles(folders: Iterable[Path]) -> list[Bundle | BundleInvalid]:
    """Load every bundle in the folders, in order of folder and name; for an invalid one return its error.

    Hidden folders are skipped: an import writes there, and may have been killed.
    """
    bundles: list[Bundle | BundleInvalid] = []
    for folder in folders:
        for description in sorted(Path(folder).glob(f"[!.]*/{DESCRIPTION_FILE}")):
            try:
                bundles.append(load_bundle(description.parent))
            except BundleInvalid as invalid:
                bundles.append(invalid)
    return bundles


def load_bundle(folder: Path, *, unfinished: bool = False, edited: bool = False) -> Bundle:
    """Load a bundle and verify every checksum in it.

    Parameters
    ----------
    folder
        Of the bundle.
    unfinished
        Load a bundle that is still being written; for the code that writes it.
    edited
        Do not verify the checksum of ``model.toml``: a person edited it on purpose.

    Raises
    ------
    BundleInvalid
        A file is missing, damaged, changed or inconsistent, or the bundle is unfinished.
    """
    folder = Path(folder)
    if not unfinished and (folder / UNFINISHED_FILE).exists():
        raise BundleInvalid(folder, "it is unfinished: the command that makes it still runs or was stopped; repeat it")
    try:
        description = tomllib.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleInvalid(folder, f"{DESCRIPTION_FILE} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # RecursionError: deeply nested brackets
        raise BundleInvalid(folder, f"{DESCRIPTION_FILE} is no TOML: {error}") from error
    if description.get("format") not in READABLE_FORMATS:
        readable = " and ".join(map(str, READABLE_FORMATS))
        raise BundleInvalid(folder, f"its format is {description.get('format')!r}; this version reads {readable}")
    try:
        check_texts(description)
        closed_form = dict(description["head"]).get("closed_form", True)
        contents = _checked_files(folder, description.get("files", {}), closed_form)
        bundle = _assemble(folder, description, contents)
    except BundleInvalid:
        raise
    except KeyError as error:
        raise BundleInvalid(folder, f"{DESCRIPTION_FILE} or an array file lacks {error}") from error
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise BundleInvalid(folder, f"{DESCRIPTION_FILE} is inconsistent: {error}") from error
    # last: the errors above say what is wrong, a checksum only that something is
    if not edited and (CHECKSUM_KEY in description or description["format"] == FORMAT):
        try:
            check_manifest_checksum(description)
        except ValueError as error:
            raise BundleInvalid(folder, f"{DESCRIPTION_FILE} was changed: {error}") from error
    return bundle


def model_digest(
    weights_sha256: str, labels: Iterable[str], head_table: Mapping[str, Any], head_sha256: str, spec: Preprocessing
) -> str:
    """Return the identity of a model: SHA-256 over its weights, labels, head and preprocessing."""
    parts = {
        "weights": weights_sha256,
        "labels": list(labels),
        "head": {**head_table, "sha256": head_sha256},
        "preprocessing": spec.as_table(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def describe_head(head: Head | None, explanation_layer: str) -> dict[str, Any]:
    """Return a head's entry in ``model.toml``; the model's digest covers it too."""
    if head is None:
        return {"closed_form": False, "explanation_layer": explanation_layer}
    return head.as_table()


def _checked_files(folder: Path, digests: Mapping[str, str], closed_form: bool) -> dict[str, bytes]:
    """Verify every file's SHA-256; return the contents of the small ones."""
    required = REQUIRED_FILES + (CLOSED_FORM_FILES if closed_form else ())
    missing = [name for name in required if name not in digests]
    if missing:
        raise BundleInvalid(folder, f"{DESCRIPTION_FILE} has no SHA-256 of {', '.join(missing)}")
    contents = {}
    for name, expected in digests.items():
        if Path(name).name != name:
            raise BundleInvalid(
                folder, f"{DESCRIPTION_FILE} names the file {name!r}; only names in the folder are allowed"
            )
        path = folder / name
        try:
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
            if name in (HEAD_FILE, DISTRIBUTION_FILE, METRICS_FILE):
                contents[name] = path.read_bytes()
        except OSError as error:
            raise BundleInvalid(folder, f"{name} cannot be read: {error.strerror or error}") from error
        if actual != expected:
            raise BundleInvalid(
                folder,
                f"{name} was changed: its SHA-256 is {actual[:12]}..., {DESCRIPTION_FILE} says {expected[:12]}...; "
                "restore the bundle from its source",
            )
    return contents


def _assemble(folder: Path, description: dict[str, Any], contents: Mapping[str, bytes]) -> Bundle:
    model, files = description["model"], description["files"]
    labels = tuple(_label(entry) for entry in description["labels"])
    names = [label.name for label in labels]
    problems = [name_problem(str(model["name"]), of_file=True), *map(name_problem, [*names, str(model["version"])])]
    if any(problems):
        raise ValueError(f"the name {next(filter(None, problems))}")
    spec = Preprocessing.from_table(description["preprocessing"])
    layer = str(description["head"]["explanation_layer"])
    head, logits, head_sha256 = None, 0, ""
    if description["head"].get("closed_form", True):
        head = Head.from_parts(description["head"], _read_arrays(folder / HEAD_FILE, contents[HEAD_FILE], folder))
        logits, head_sha256 = head.outputs, files[HEAD_FILE]
    else:
        logits = _read_golden(folder).logits.shape[-1]
    if not labels or len(set(names)) != len(names) or logits != len(labels):
        raise ValueError(f"{len(names)} labels ({', '.join(names)}) for {logits} logits")
    digest = model_digest(files[WEIGHTS_FILE], names, describe_head(head, layer), head_sha256, spec)
    if digest != model["digest"]:
        raise BundleInvalid(
            folder,
            f"labels, head or preprocessing were changed: the model digest is {digest[:12]}..., "
            f"{DESCRIPTION_FILE} says {str(model['digest'])[:12]}...",
        )
    distribution = TrainingDistribution.from_arrays(
        description["distribution"]["domains"],
        _read_arrays(folder / DISTRIBUTION_FILE, contents[DISTRIBUTION_FILE], folder),
    )
    groups = tuple(
        Calibration.from_table(table, names, str(table["group"])) for table in description.get("calibration", [])
    )
    unknown_groups = [group.group for group in groups if group.group not in distribution.domains]
    if unknown_groups:
        raise ValueError(
            f"calibration of {', '.join(unknown_groups)}: the training domains are {', '.join(distribution.domains)}"
        )
    intended = description.get("intended", {})
    return Bundle(
        folder=folder,
        name=str(model["name"]),
        version=str(model["version"]),
        digest=digest,
        labels=labels,
        preprocessing=spec,
        head=head,
        explanation_layer=layer,
        everyone=Calibration.from_table({"labels": description["labels"]}, names),
        ages=tuple((float(low), float(high)) for low, high in intended.get("ages", [])),
        views=tuple(str(view) for view in intended.get("views", [])),
        distribution=distribution,
        metrics=json.loads(contents[METRICS_FILE]) if METRICS_FILE in contents else {},
        description=description,
        label_ages={
            str(label): tuple((float(low), float(high)) for low, high in ranges)
            for label, ranges in intended.get("label_ages", {}).items()
        },
        groups=groups,
        heatmap=HeatmapScale.from_table(description.get("heatmap", {}), names),
    )


def _label(entry: Mapping[str, Any]) -> Label:
    codes = tuple(Code(code["value"], code["scheme"], code["meaning"]) for code in entry.get("codes", []))
    return Label(str(entry["name"]), codes)


def _read_golden(folder: Path) -> Golden:
    arrays = _read_arrays(folder / GOLDEN_FILE, (folder / GOLDEN_FILE).read_bytes(), folder)
    return Golden(*(arrays[name].astype(np.float32) for name in ("tensors", "logits", "activations")))


def _read_arrays(path: Path, data: bytes, folder: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _ARRAY_ERRORS as error:
        raise BundleInvalid(folder, f"{path.name} holds no arrays: {error}") from error
