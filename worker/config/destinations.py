"""Destinations of made objects, one class a kind; ``kind`` says which, and is ``dicom`` where it is absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from worker.config.ae_titles import AETitle
from worker.config.section import Section
from worker.config.tls import PeerTls


class Destination(Section):
    """What every kind of destination has."""

    name: str = Field(min_length=1, max_length=64)
    send: tuple[Literal["heatmap", "report"], ...] = ("heatmap", "report")


class DicomDestination(Destination):
    """A PACS or workstation that made objects are sent to."""

    kind: Literal["dicom"] = "dicom"
    ae_title: AETitle
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    commitment: Literal[False] = False  # storage commitment is not requested yet
    tls: PeerTls | None = None

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return f"{self.ae_title} at {self.host}:{self.port}"


DESTINATION_KINDS: dict[str, type[Section]] = {"dicom": DicomDestination}


def _kind(given: Any) -> str:  # noqa: ANN401 - whatever was written there
    if isinstance(given, Destination):
        return str(getattr(given, "kind", ""))
    return str(given.get("kind", "dicom")) if isinstance(given, Mapping) else "dicom"


# a second kind is added as "Annotated[A, Tag(...)] | Annotated[B, Tag(...)]"
AnyDestination: TypeAlias = Annotated[DicomDestination, Tag("dicom"), Discriminator(_kind)]
