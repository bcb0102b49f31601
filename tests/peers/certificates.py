"""A certificate authority of the tests' own: it issues what a hospital's would, and what none should."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from dicom_io.network.tls import TlsFiles


class Authority:
    """Issues certificates into a folder.

    Attributes
    ----------
    ca
        Its own certificate's file.
    """

    def __init__(self, folder: Path, name: str = "Hospital CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key.public_key(), 3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, days: float = 365, host: str = "127.0.0.1") -> TlsFiles:
        """Make a certificate for ``host`` that ends in ``days`` from now (negative: it has ended), and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
        certificate = (
            self._builder(subject, key.public_key(), days)
            .add_extension(addresses, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        files = TlsFiles(self._folder / f"{name}.pem", self._folder / f"{name}.key", self.ca)
        assert files.certificate and files.key
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: float) -> x509.CertificateBuilder:
        until = datetime.now(UTC) + timedelta(days=days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(datetime.now(UTC), until) - timedelta(days=400))
            .not_valid_after(until)
        )


def dcmtk_options(files: TlsFiles) -> list[str]:
    """How a DCMTK program is told to show ``files.certificate`` and to believe ``files.ca``."""
    return ["+tls", str(files.key), str(files.certificate), "+cf", str(files.ca)]
