"""A bundle: a folder with everything a network needs to be run, explained, judged and trusted.

``model.toml`` names the labels, preprocessing, head, thresholds, calibration, ages, views, the SHA-256 of each other
file, and that of itself. Nothing here needs Keras or OpenVINO.
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

from model.bundle.calibration import Calibration, ChosenBy, choose_calibration
from model.bundle.labels import Code, Label, unfit_as_name
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
"""Where this lies, what makes the bundle has not ended: thresholds and figures may be placeholders."""
REQUIRED_FILES = (WEIGHTS_FILE, DISTRIBUTION_FILE, GOLDEN_FILE)
CLOSED_FORM_FILES = (NETWORK_FILE, NETWORK_DATA_FILE, HEAD_FILE)
"""Required too unless the head says ``closed_form = false``: such a bundle is for the keras engine."""
# What NumPy and zipfile raise on bytes that are not what they claim to be, such as an array of a petabyte.
_ARRAY_ERRORS = (
    *(OSError, EOFError, ValueError, KeyError, MemoryError, RecursionError, RuntimeError, SyntaxError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)


class BundleInvalid(ValueError):
    """A bundle cannot be used. ``folder`` is where it lies, ``reason`` what is wrong and how to mend it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"bundle {folder}: {reason}")
        self.folder, self.reason = folder, reason

    def __reduce__(self) -> tuple[type["BundleInvalid"], tuple[Path, str]]:
        """Let it cross from the process that reads to the one that asked."""
        return type(self), (self.folder, self.reason)


@dataclass(frozen=True, eq=False)
class Golden:
    """A synthetic input and what the network answers to it.

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
    """What a bundle's folder says, checked.

    Attributes
    ----------
    head
        None where the head has no closed form, so that only an engine with gradients can explain it.
    digest
        SHA-256 over weights, labels, head and preprocessing, as hex: the identity of the model behind a result.
    everyone
        The calibration and the thresholds where no group applies.
    groups
        Calibrations of training domains that stand for ages; empty: `everyone` is for all.
    ages
        Ranges in completed years, both ends included, that the network was trained for; empty: any.
    views
        View positions it was trained for ("AP", "PA"); empty: any.
    label_ages
        Narrower ranges of single labels, where the training images of other ages did not know the label.
    metrics
        What evaluation measured, as ``metrics.json`` holds it.
    description
        All of ``model.toml``.
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

    def calibration_for(self, age_years: float | None, nearest_domain: str) -> tuple[Calibration, ChosenBy]:
        """Return the calibration for an image, and why it is that one; see `choose_calibration`."""
        return choose_calibration(self.everyone, self.groups, age_years, nearest_domain)

    @property
    def is_sealed(self) -> bool:
        """Whether what ``model.toml`` says is under a digest itself; that of an older format is not."""
        return CHECKSUM_KEY in self.description

    @property
    def thresholds(self) -> dict[str, float]:
        """The thresholds where no group applies; a `Reading` says which were used."""
        return self.everyone.thresholds

    @property
    def calibrations(self) -> tuple[Calibration, ...]:
        """The calibrations in use: those of the groups, or the one for everyone where there are none."""
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
        """Whether the bundle holds a compiled network, under its digests."""
        return {NETWORK_FILE, NETWORK_DATA_FILE} <= set(self.description["files"])

    @property
    def is_quantized(self) -> bool:
        """Whether the compiled network computes in int8."""
        return dict(self.description.get("compiled", {})).get("precision") == "int8"

    @property
    def head_table(self) -> dict[str, Any]:
        """What ``model.toml`` says of the head."""
        return describe_head(self.head, self.explanation_layer)

    @property
    def weights_path(self) -> Path:
        """The Keras model."""
        return self.folder / WEIGHTS_FILE

    @property
    def statement(self) -> str:
        """The one line that stands wherever the model's answers do."""
        return str(self.description["model"].get("statement", "AI result - not for diagnosis"))

    @cached_property
    def golden(self) -> Golden:
        """The golden input and output, read when asked for."""
        return _read_golden(self.folder)


def builtin_bundles_folder() -> Path:
    """Return the folder of the bundles that ship in the package."""
    return Path(__file__).resolve().parents[1] / "bundles"


def find_bundles(folders: Iterable[Path]) -> list[Bundle | BundleInvalid]:
    """Load every bundle that lies in one of the folders, in order of folder and name; what is broken says so itself.

    Hidden folders are left out: what an import is still writing, or was killed over.
    """
    found: list[Bundle | BundleInvalid] = []
    for folder in folders:
        for description in sorted(Path(folder).glob(f"[!.]*/{DESCRIPTION_FILE}")):
            try:
                found.append(load_bundle(description.parent))
            except BundleInvalid as invalid:
                found.append(invalid)
    return found


def load_bundle(folder: Path, *, unfinished: bool = False, edited: bool = False) -> Bundle:
    """Read a bundle and check every digest in it.

    Parameters
    ----------
    folder
        Of the bundle.
    unfinished
        Read it even while it is being made, as only its maker may.
    edited
        Take ``model.toml`` as it is, though it is not what was written: a person changed it and means it.

    Raises
    ------
    BundleInvalid
        A file is missing, was changed, or says what cannot be, or the bundle is unfinished.
    """
    folder = Path(folder)
    if not unfinished and (folder / UNFINISHED_FILE).exists():
        raise BundleInvalid(folder, "it is unfinished: what makes it is still at work, or was stopped; run that again")
    try:
        description = tomllib.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleInvalid(folder, f"{DESCRIPTION_FILE} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # endless digits and brackets too
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
        raise BundleInvalid(folder, f"{DESCRIPTION_FILE} says what cannot be: {error}") from error
    # last, so that what is wrong with a description is said where it can be
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
    """Return what ``model.toml`` says of a head, and what the digest covers of it beside its arrays."""
    if head is None:
        return {"closed_form": False, "explanation_layer": explanation_layer}
    return head.as_table()


def _checked_files(folder: Path, digests: Mapping[str, str], closed_form: bool) -> dict[str, bytes]:
    """Compare every file with its digest; return the contents of the small ones."""
    required = REQUIRED_FILES + (CLOSED_FORM_FILES if closed_form else ())
    missing = [name for name in required if name not in digests]
    if missing:
        raise BundleInvalid(folder, f"{DESCRIPTION_FILE} names no digest of {', '.join(missing)}")
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
    unfit = [unfit_as_name(str(model["name"]), of_file=True), *map(unfit_as_name, [*names, str(model["version"])])]
    if any(unfit):
        raise ValueError(f"the name {next(filter(None, unfit))}")
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
