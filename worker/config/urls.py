"""The URLs of database and broker in the configuration: checked at the start, shown without passwords."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import Secret

_FORMS = {
    "database": ("sqlite:///PATH", "postgresql+psycopg://USER@HOST/NAME"),
    "broker": ("redis://HOST:6379/0", "rediss://HOST:6379/0"),
}


class SecretUrl(Secret[str]):
    """A URL that may hold a password: `str`, `repr` and JSON mask it, `get_secret_value` does not."""

    def _display(self) -> str:
        shown = re.sub(r"://([^:/@?]*):.*@", r"://\1:***@", self._secret_value)
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
    understood = not url or (bool(rest) and scheme in {form.partition("://")[0] for form in _FORMS[section]})
    if understood and section == "broker":
        try:
            _ = urlsplit(url).port
        except ValueError:
            return f"{scheme}, but its host or port is invalid; allowed are {' and '.join(_FORMS[section])}"
    if understood:
        return ""
    return f"{scheme[:40] if separator else 'no scheme'} is not supported; allowed are {' and '.join(_FORMS[section])}"
