"""The TLS tables of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from worker.config.section import Section


def _expanded(value: Path) -> Path:
    return value.expanduser()


PemFile = Annotated[Path, AfterValidator(_expanded)]


class ListenerTls(Section):
    """TLS of the listener, 1.2 and 1.3; without this table DICOM is received unencrypted. All files are PEM."""

    certificate: PemFile = Field(description="our certificate, followed by the intermediate certificates")
    key: PemFile = Field(description="the certificate's private key, not encrypted")
    ca: PemFile | None = Field(default=None, description="the authorities whose client certificates are accepted")
    require_client_certificate: bool = Field(
        default=True, description="a caller without a certificate issued by `ca` is rejected"
    )

    @model_validator(mode="after")
    def _names_authority(self) -> ListenerTls:
        if self.require_client_certificate and self.ca is None:
            raise ValueError(
                "with require_client_certificate = true, ca must name the authority that issues client certificates"
            )
        return self


class PeerTls(Section):
    """TLS to a peer, 1.2 and 1.3; without this table the connection is unencrypted. All files are PEM."""

    ca: PemFile | None = Field(
        default=None, description="the authorities that may have issued its certificate; absent: the system's"
    )
    certificate: PemFile | None = Field(default=None, description="our certificate, presented if the peer requests one")
    key: PemFile | None = Field(default=None, description="the certificate's private key, not encrypted")
    check_hostname: bool = Field(default=True, description="its certificate must name `host`")

    @model_validator(mode="after")
    def _pair(self) -> PeerTls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both, or neither")
        return self
