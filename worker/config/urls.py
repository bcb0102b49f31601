"""The URLs of database and broker in the configuration: checked at the start, shown without passwords."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from pydantic import Secret

_FORMS = {
    "database": ("sqlite:///PATH", "postgresql+psycopg://USER@HOST/NAME"),
    "broker": ("redis://HOST:6379/0", "rediss://HOST:6379/0"),
}
# the options that both of the broker's clients, Celery's and redis', understand; anything else stops a process later
_BROKER_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs")
_CERT_REQS = ("none", "optional", "required")


class SecretUrl(Secret[str]):
    """A URL that may hold a password: `str`, `repr` and JSON mask it, `get_secret_value` does not."""

    def _display(self) -> str:
        shown = re.sub(r"://([^:/@?]*):.*@", r"://\1:***@", self._secret_value)
        shown = re.sub(r"^(rediss?)://[^:/@?]*@", r"\1://***@", shown)  # a password whose colon was forgotten
        return re.sub(r"(?i)(password=)[^&]*", r"\1***", shown)

    def __bool__(self) -> bool:
        return bool(self._secret_value)

    @property
    def has_password(self) -> bool:
        return str(self) != self._secret_value


def url_fault(section: str, url: str) -> str:
    """Return what is wrong with the URL of a section; empty if it is valid or not set.

    Nothing behind ``://`` is quoted: a password may be there.
    """
    scheme, separator, rest = url.partition("://")
    allowed = " and ".join(_FORMS[section])
    if not url:
        return ""
    if not rest or scheme not in {form.partition("://")[0] for form in _FORMS[section]}:
        return f"{scheme[:40] if separator else 'no scheme'} is not supported; allowed are {allowed}"
    if section == "broker":
        return _broker_fault(url, scheme, allowed)
    if scheme != "sqlite" and rest.partition("?")[0].count("@") > 1:
        # SQLAlchemy ends the password at the first one, and takes the rest of it for the host
        return f"{scheme}, but with more than one @: a password's @ is written %40"
    return ""


def _broker_fault(url: str, scheme: str, allowed: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"{scheme}, but its host or port is invalid; allowed are {allowed}"
    options = dict(parse_qsl(parts.query))
    names = _BROKER_OPTIONS if scheme == "rediss" else ()
    if not options.keys() <= set(names):
        return f"{scheme}, but with an option that is not known; allowed are {', '.join(names) or 'none'}"
    if options.get("ssl_cert_reqs", "required") not in _CERT_REQS:
        return f"{scheme}, but its ssl_cert_reqs is invalid; allowed are {', '.join(_CERT_REQS)}"
    return ""
