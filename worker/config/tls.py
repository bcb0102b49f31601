"""The tables of TLS in the configuration, and what every table of it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from worker.config.section import Section


def _expanded(value: Path) -> Path:
    return value.expanduser()


PemFile = Annotated[Path, AfterValidator(_expanded)]


class ListenerTls(Section):
    """TLS of the listener, 1.2 and 1.3; without this table DICOM is received in plain. PEM files all."""

    certificate: PemFile = Field(description="ours, followed by those between it and its authority")
    key: PemFile = Field(description="of the certificate, not encrypted")
    ca: PemFile | None = Field(default=None, description="the authorities whose client certificates are believed")
    require_client_certificate: bool = Field(default=True, description="a caller without one of `ca` is refused")

    @model_validator(mode="after")
    def _names_authority(self) -> ListenerTls:
        if self.require_client_certificate and self.ca is None:
            raise ValueError("with require_client_certificate = true, ca must name who issues client certificates")
        return self


class PeerTls(Section):
    """TLS to a peer, 1.2 and 1.3; without this table it is talked to in plain. PEM files all."""

    ca: PemFile | None = Field(
        default=None, description="the authorities whose certificate it may show; absent: the system's"
    )
    certificate: PemFile | None = Field(default=None, description="ours, shown where it asks for one")
    key: PemFile | None = Field(default=None, description="of the certificate, not encrypted")
    check_hostname: bool = Field(default=True, description="its certificate must name `host`")

    @model_validator(mode="after")
    def _pair(self) -> PeerTls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together: give both, or neither")
        return self
