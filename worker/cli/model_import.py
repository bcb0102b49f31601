"""`model import` and `model export`: imports foreign networks and bundles, exports our own."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.options import Config, Home, Json, print_json
from worker.installation import open_site

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from worker.model_registry.installer import Arrival


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module in the group `model`."""
    group.command("import")(import_model)
    group.command("export")(export)


def import_model(
    file: Annotated[
        Path,
        typer.Argument(
            help="A Keras network (.keras, .h5), PyTorch weights of a DenseNet (.pt, .pth), or a bundle (.zip, .tar, "
            "folder).",
            metavar="FILE",
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", help="The model's name.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            help="Labels of its outputs, in order, separated by commas; an output with an empty label is ignored.",
            metavar="A,B,C",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            help="Labels, thresholds and preprocessing of a public model: chexnet, or torchxrayvision's "
            "densenet121-res224-all (-nih, -pc, -chex, -rsna, -mimic_nb, -mimic_ch).",
        ),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option("--range", help="Pixel values it was trained with: LOW..HIGH, imagenet, or caffe."),
    ] = None,
    geometry: Annotated[
        str | None, typer.Option("--geometry", help="How an image becomes square: squash, crop or pad.")
    ] = None,
    interpolation: Annotated[
        str | None, typer.Option("--interpolation", help="area, or gaussian (scikit-image's anti-aliasing).")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Rows and columns, if the network accepts any size.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option("--channels", help="1 or 3, if the network accepts any number of channels.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="The layer that heatmaps explain; by default the last feature map.")
    ] = None,
    thresholds: Annotated[
        str | None,
        typer.Option(
            "--thresholds", help="One for all labels, one per label in order, or LABEL=VALUE,...; default 0.5."
        ),
    ] = None,
    answer: Annotated[
        str | None, typer.Option("--answer", help="sigmoid or softmax, if the network ends in logits.")
    ] = None,
    no_finding: Annotated[
        str | None,
        typer.Option(
            "--no-finding",
            help="Classes that are not findings; by default those named normal, no finding and the like.",
        ),
    ] = None,
    ages: Annotated[
        str | None, typer.Option("--ages", help="Ages in years it was trained for, such as 1-5,18-90.")
    ] = None,
    views: Annotated[str | None, typer.Option("--views", help="View positions it was trained for: AP,PA.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            help="Folder of images like its training images; images out of distribution are then flagged.",
        ),
    ] = None,
    version: Annotated[str, typer.Option("--model-version", help="Its version.")] = "1",
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe", help="Run the code in a Keras file's Lambda layers. Only for files that you made yourself."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the bundle (default: among the home's).", metavar="DIR")
    ] = None,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Import a foreign network, or an exported bundle; it is used after `model activate`."""
    from worker.model_registry.installer import add_model, is_bundle

    if not file.exists():
        raise typer.BadParameter(f"{file} does not exist", param_hint="FILE")
    if not (file.is_file() or file.is_dir()):
        raise typer.BadParameter(f"{file} is neither a file nor a folder", param_hint="FILE")
    settings = open_site(home, config).settings
    said = {
        "--labels": labels, "--like": like, "--range": value_range, "--geometry": geometry, "--size": size,
        "--interpolation": interpolation, "--channels": channels, "--layer": layer, "--thresholds": thresholds,
        "--answer": answer, "--no-finding": no_finding, "--ages": ages, "--views": views, "--reference": reference,
        "--name": name,
    }  # fmt: skip
    if is_bundle(file):
        from model.publish.archive import import_bundle

        given = [option for option, value in said.items() if value is not None]
        if given:
            raise typer.BadParameter(
                f"a bundle already contains the values of {', '.join(given)}: leave these options out",
                param_hint="FILE",
            )
        arrival = add_model(settings, file, out, lambda folder: import_bundle(file, folder))
    else:
        from model.network.keras_backend import start_converting
        from worker.model_registry.import_options import make_bundle

        start_converting()
        with _status(f"importing {file.name}"):
            images = _reference_images(reference)
            arrival = add_model(
                settings, file, out, lambda folder: make_bundle(file, said, version, unsafe, images, folder)
            )
    _tell(arrival, json)


def export(
    name: Annotated[
        str, typer.Argument(help="A model's name, the start of its digest, or a bundle's folder.", metavar="NAME")
    ],
    to: Annotated[
        Path,
        typer.Option(
            "--to",
            help="What to write: a bundle (.zip, .tar, .tar.gz, or a folder), its Keras network (.keras, .h5), or its "
            "OpenVINO network (.xml).",
            metavar="FILE|DIR",
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    home: Home = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Write a model to a file: as a bundle for another machine, or as a network for other programs."""
    from model.network.keras_backend import start_converting
    from model.publish.export_formats import export_bundle
    from worker.model_registry.bundles import find_bundle

    bundle = find_bundle(open_site(home, config).settings, name)
    if to.exists() and not (force and to.is_file()):
        raise typer.BadParameter(f"{to} already exists", param_hint="--to")
    start_converting()
    with _status(f"writing {to.name}"):
        export_bundle(bundle, to)
    facts = {"name": bundle.name, "digest": bundle.digest, "path": str(to)}
    if json:
        print_json(facts)
    else:
        print(f"{to}: {bundle.name} {bundle.digest[:12]}")


def _status(text: str) -> AbstractContextManager[object]:
    from rich.console import Console

    return Console(stderr=True).status(text)


def _reference_images(folder: Path | None) -> Iterator[NDArray[np.float32]] | None:
    """Read what can be read of a folder of images, one at a time: an image takes 20 MB."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a folder", param_hint="--reference")
    return _readable(sorted(path for path in folder.rglob("*") if path.is_file()))


def _readable(paths: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    from model.preprocessing.image_files import UnreadableImage
    from worker.model_registry.training_images import read_image

    for path in paths:
        try:
            yield read_image(path)
        except UnreadableImage:
            continue


def _tell(arrival: Arrival, json: bool) -> None:
    bundle = arrival.bundle
    if json:
        facts: dict[str, Any] = {"name": bundle.name, "digest": bundle.digest, "folder": str(bundle.folder)}
        facts |= {"labels": list(bundle.label_names), "thresholds": bundle.thresholds}
        print_json({**facts, "explanation_layer": bundle.explanation_layer, "notes": list(arrival.notes)})
        return
    print(f"{bundle.name} {bundle.digest[:12]}{' was there already' if arrival.known else ''}: {bundle.folder}")
    print(f"labels: {', '.join(bundle.label_names)}")
    for note in arrival.notes:
        print(f"note: {note}")
    print(f"to use it for new studies: cxr-triage model activate {bundle.name}")
