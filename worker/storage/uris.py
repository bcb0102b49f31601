"""Where bytes lie: ``scheme:place``, such as ``store:aa/bb/HASH.dcm``. Addresses are made and resolved here alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

STORE = "store"


def uri_of(path: Path, root: Path, scheme: str) -> str:
    """Return the address of a file in the folder that a scheme stands for, the inverse of `resolve`."""
    return f"{scheme}:{path.relative_to(root).as_posix()}"


def resolve(uri: str, roots: Mapping[str, Path]) -> Path:
    """Return the local path of an address, whether or not anything is there.

    Parameters
    ----------
    roots
        The folder of each scheme that can be resolved.

    Raises
    ------
    ValueError
        If it has another scheme, or leads out of the folder of its own; the message names it and what is allowed.
    """
    scheme, colon, place = uri.partition(":")
    if not colon or scheme not in roots:
        raise ValueError(f"{uri!r} has no scheme that is known here; allowed: {', '.join(roots)}")
    relative = PurePosixPath(place)
    if not relative.parts or relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{uri!r} leads out of its store; a relative path is allowed after the scheme")
    return roots[scheme] / relative
