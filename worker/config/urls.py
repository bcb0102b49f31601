"""The addresses of database and broker in the configuration: of a kind that is spoken, or the start stops."""

from __future__ import annotations

from urllib.parse import urlsplit

_FORMS = {
    "database": ("sqlite:///PATH", "postgresql+psycopg://USER@HOST/NAME"),
    "broker": ("redis://HOST:6379/0", "rediss://HOST:6379/0"),
}


def url_fault(section: str, url: str) -> str:
    """Return what is wrong with the url of a section; empty where nothing is, as with an empty one.

    Nothing behind ``://`` is quoted: a password may be there.
    """
    scheme, separator, rest = url.partition("://")
    understood = not url or (bool(rest) and scheme in {form.partition("://")[0] for form in _FORMS[section]})
    if understood and section == "broker":
        try:
            _ = urlsplit(url).port
        except ValueError:
            understood, scheme = False, f"{scheme}, but its host or port is none"
    if understood:
        return ""
    return f"{scheme[:40] if separator else 'no scheme'} is not understood; allowed are {' and '.join(_FORMS[section])}"
