"""Foreign text made safe to print: it can neither move the cursor nor alter the text beside it."""

from __future__ import annotations

import unicodedata

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reverse the text that follows


def visible(text: str) -> str:
    """Replace control characters, direction overrides and undecodable bytes of file names.

    >>> visible("A\\x1b[31mB")
    'A\N{REPLACEMENT CHARACTER}[31mB'
    """
    return "".join(
        _REPLACEMENT if unicodedata.category(each) in ("Cc", "Cs") or each in _TURNING else each for each in text
    )


def marked(text: str) -> str:
    """Return ``text`` so that Rich prints it as it is, whatever brackets it holds."""
    from rich.markup import escape

    return escape(visible(text))
