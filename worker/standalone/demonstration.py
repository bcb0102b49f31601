"""`up --demonstrate`: sends two real radiographs through the running system over DICOM and prints their results.

The images are those of the PyPI package ``pydicom-data`` (extra ``[demo]``): RG1, an adult's chest, and RG3, an
extremity, which the gate must reject.
"""

from __future__ import annotations

import threading
import time
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from db.records import WorklistItem
from db.views.worklist import object_uris, study_item
from dicom_io.header.instance_header import read_header
from dicom_io.objects.heatmap_pixels import read_heatmap_pixels
from dicom_io.send.storage_scu import Outgoing, send
from worker.config.dicom_peers import own_peer
from worker.installation import Site
from worker.runtime.ports import StartFailed
from worker.runtime.terminal_text import marked
from worker.worklist.priority import is_counted

_RADIOGRAPHS = (("RG1_UNCR.dcm", "an adult's chest"), ("RG3_UNCR.dcm", "an extremity, to be rejected"))
_PATIENCE = 120.0  # seconds; an analysis takes about one


def show(site: Site, console: Console, stop: threading.Event) -> None:
    """Send the images and wait for their results; print flags, findings, rejections, and the heatmap's path."""
    samples = _samples()
    peer = own_peer(site.settings)
    console.rule("demonstration")
    for path, what in samples:
        for outcome in send(peer, [Outgoing(path.name, path)]):
            if outcome.result != "stored":
                raise StartFailed(f"{path.name} was not stored by the listener: {outcome.reason}")
            console.print(f"sent {path.name} ({what}) over DICOM: acknowledged")
    for path, _what in samples:
        item = _await(site, read_header(path).study_instance_uid, stop)
        if item is None:
            return
        _print(site, console, path.name, item)
    console.rule()


def _samples() -> list[tuple[Path, str]]:
    spec = find_spec("data_store")
    folders = [Path(folder) / "data" for folder in (spec.submodule_search_locations or [])] if spec else []
    found = [(folder / name, what) for folder in folders for name, what in _RADIOGRAPHS if (folder / name).is_file()]
    if len(found) != len(_RADIOGRAPHS):
        raise StartFailed("the demonstration's radiographs are missing: pip install 'cxr-triage[demo]'")
    return found


def _await(site: Site, study_instance_uid: str, stop: threading.Event) -> WorklistItem | None:
    deadline = time.monotonic() + _PATIENCE
    while not stop.wait(0.2):
        with site.database.read() as session:
            item = study_item(session, study_instance_uid)
        if item is not None and item.state not in ("pending", "running"):
            return item
        if time.monotonic() > deadline:
            reason = "it is not on the worklist" if item is None else f"it is still {item.state} {item.reason}"
            raise StartFailed(f"a study was not analysed within {_PATIENCE:.0f} s: {reason}; see the logs")
    return None


def _print(site: Site, console: Console, name: str, item: WorklistItem) -> None:
    if item.state != "done":
        console.print(f"\n[bold]{name}[/]: {item.state.replace('_', ' ')}: {marked(item.reason)}")
        return
    labels = ", ".join(finding.label for finding in item.findings if is_counted(finding))
    only = f": looked for {marked(labels)}; nothing else" if item.priority == "LOW" else ""
    console.print(f"\n[bold]{name}[/]: model {marked(item.model)}, priority {item.priority}{only}", soft_wrap=True)
    for flag in item.flags:
        console.print(f"  [yellow]! {marked(flag)}[/]")
    table = Table("finding", "probability", "threshold", "")
    for finding in item.findings:
        mark = "[bold]at or above[/]" if finding.positive else "below"
        table.add_row(marked(finding.label), f"{finding.probability:.3f}", f"{finding.threshold:.3f}", mark)
    console.print(table)
    with site.database.read() as session:
        objects = object_uris(session, item.study_instance_uid)
    for kind, label, uri in objects:
        path = site.store.path(uri)
        picture = site.settings.home / "demonstration" / f"{Path(name).stem}_{label}.png"
        _save_picture(path, picture)
        console.print(f"{kind} of {label}, as a DICOM object: {path}", soft_wrap=True, markup=False)
        console.print(f"{kind} of {label}, as a picture:      {picture}", soft_wrap=True, markup=False)
    looked_for = ", ".join(finding.label for finding in item.findings)
    console.print(
        f"labels of this model: {looked_for}; it finds nothing else, so LOW does not mean normal", soft_wrap=True
    )
    console.print("[dim]AI result: not for diagnosis[/]")


def _save_picture(source: Path, target: Path) -> None:
    from PIL import Image

    target.parent.mkdir(exist_ok=True)
    Image.fromarray(read_heatmap_pixels(source)).save(target)
