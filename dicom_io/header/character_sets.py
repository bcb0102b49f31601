"""Bytes to text: Specific Character Set as senders spell it, code extensions, and what cannot be decoded.

pydicom's decoder leaves the escape sequences of ISO-IR 58 in the text, ignores undeclared ones, and reads bytes that no
character set was declared for as Latin-1: names came out garbled without a sign. Here text is decoded, or it is said
that it cannot be. What Python decodes (UTF-8, GB18030, KS X 1001 ...) is left to Python.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from pydicom.valuerep import TEXT_VR_DELIMS

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# Defined terms (PS3.3 C.12.1.1.2) by their ISO-IR registration number. Where Windows extends a set (KS X 1001, GB 2312)
# its superset is taken: it reads the standard's characters the same. None: no characters beyond ASCII, or only behind
# an escape sequence.
_BY_REGISTRATION: dict[int, str | None] = {
    6: None, 13: "shift_jis", 14: None, 58: "gb18030", 87: None, 100: "latin_1", 101: "iso8859_2", 109: "iso8859_3",
    110: "iso8859_4", 126: "iso8859_7", 127: "iso8859_6", 138: "iso8859_8", 144: "iso8859_5", 148: "iso8859_9",
    149: "cp949", 159: None, 166: "iso8859_11", 192: "utf_8", 203: "iso8859_15",
}  # fmt: skip
# What some senders write instead, without spaces and signs.
_BY_NAME = {
    "UTF8": "utf_8", "UNICODE": "utf_8", "UNICODEUTF8": "utf_8", "GB18030": "gb18030", "GBK": "gb18030",
    "GB2312": "gb18030", "EUCKR": "cp949", "KSC5601": "cp949", "KSX1001": "cp949", "SHIFTJIS": "cp932", "SJIS": "cp932",
    "EUCJP": "euc_jp", "BIG5": "big5", "LATIN1": "latin_1", "LATIN2": "iso8859_2", "KOI8R": "koi8_r",
}  # fmt: skip
_STANDS_ALONE = {"utf_8", "gb18030"}  # no code extensions beside it (PS3.3 Table C.12-5)

# Escape sequences (PS3.3 Tables C.12-3 and C.12-4) -> the half that they set, its codec, the prefix of a character
# there. The left half (G0) is read with the high bit set. The last three are not DICOM's, but ISO 2022's.
_ESCAPES: dict[bytes, tuple[int, str | None, bytes]] = {
    b"(B": (0, None, b""), b"(J": (0, None, b""), b")I": (1, "shift_jis", b""), b"$B": (0, "euc_jp", b""),
    b"$(D": (0, "euc_jp", b"\x8f"), b"$)C": (1, "cp949", b""), b"$)A": (1, "gb18030", b""),
    **{b"-" + final: (1, _BY_REGISTRATION[number], b"") for final, number in (
        (b"A", 100), (b"B", 101), (b"C", 109), (b"D", 110), (b"F", 126), (b"G", 127), (b"H", 138), (b"L", 144),
        (b"M", 148), (b"T", 166), (b"b", 203),
    )},
    b"$@": (0, "euc_jp", b""), b"$A": (0, "gb18030", b""), b"$(C": (0, "cp949", b""),
}  # fmt: skip
_ESCAPE = re.compile(rb"\x1b([\x20-\x2f]+[\x30-\x7e])")
_RUNS = re.compile(rb"[\x80-\xff]+|[\x21-\x7e]+|[\x00-\x20\x7f]+")
# Each of them ends the designations within its value (PS3.5 6.1.2.5.3); ^ and = do so in a name.
_LINE_ENDS = frozenset(TEXT_VR_DELIMS)
_NAME_ENDS = frozenset(b"\\^=")
_PADDING = b"\0 \t\r\n"
_INNER_PADDING = re.compile("\0+(?=[\\\\=]|$)")
# C1, which no character set of DICOM has; and with it C0 but for TAB, LF, FF, CR (PS3.5 6.1.3), and DEL
_C1 = re.compile("[\x80-\x9f]")
# Signs of Latin-1 that stand in no name: UTF-8, GB 2312 and KS X 1001 read as Latin-1 have them.
_SIGNS = re.compile("[\xa1-\xa7\xa9\xab\xac\xae-\xb3\xb5\xb6\xb9\xbb-\xbf\xd7\xf7]")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")


def decode(value: bytes, terms: Sequence[str], *, is_name: bool = False) -> tuple[str, bool]:
    """Decode a text.

    Parameters
    ----------
    value
        The encoded value, several of them separated by backslashes.
    terms
        The values of SpecificCharacterSet; none: undeclared.
    is_name
        Whether it is a Person Name: its delimiters end code extensions too.

    Returns
    -------
    tuple of str and bool
        The text without padding and escape sequences, and whether all of it could be decoded without doubt. What could
        not is replaced by U+FFFD; so are control characters, which are no text.
    """
    value = value.strip(_PADDING)
    codecs = _codecs(tuple(terms))
    decoded = _with_escapes(value, codecs, is_name) if b"\x1b" in value else _whole(value, codecs, is_name)
    return _checked(*decoded)


def _whole(value: bytes, codecs: tuple[str | None, ...], is_name: bool) -> tuple[str, bool]:
    """Decode by the first declared character set that has all the bytes, else as UTF-8."""
    declared = [codec for codec in codecs if codec is not None]
    for codec in (*declared, "utf_8"):
        text = _strict(value, codec)
        if text is not None and not _C1.search(text):
            return text, codec != "latin_1" or value.isascii() or not _is_doubtful(value, text, is_name)
    return value.decode(declared[0] if declared else "ascii", "replace"), False


def _is_doubtful(value: bytes, latin: str, is_name: bool) -> bool:
    """Whether what is declared to be Latin-1, which has any bytes, is likely something else."""
    return _strict(value, "utf_8") is not None or (is_name and _SIGNS.search(latin) is not None)


def _strict(value: bytes, codec: str) -> str | None:
    try:
        return value.decode(codec)
    except UnicodeDecodeError:
        return None


def _with_escapes(value: bytes, codecs: tuple[str | None, ...], is_name: bool) -> tuple[str, bool]:
    """Decode ISO 2022: each escape sequence says what the left (G0) or right (G1) half of the code table means."""
    initial = codecs[0]
    left: tuple[str | None, bytes] = (None, b"")
    right = next((codec for codec in codecs if codec is not None), None)
    parts: list[str] = []
    complete = True
    for index, piece in enumerate(_ESCAPE.split(value)):
        if index % 2:  # an escape sequence, without its first byte
            half, codec, prefix = _ESCAPES.get(piece, (-1, None, b""))
            if half == 0:
                left = codec, prefix
            elif half == 1:
                right = codec
            else:
                parts.append(_REPLACEMENT)
                complete = False
            continue
        for run in _RUNS.findall(piece):
            is_left = 0x21 <= run[0] <= 0x7E
            if is_left and left[0] is not None:
                text, whole = _double_bytes(run, left[0], left[1])
            elif run[0] >= 0x80:
                text, whole = _by(run, right or "utf_8")
            else:
                text, whole = run.decode("ascii"), True
                if not _LINE_ENDS.isdisjoint(run) or (is_name and not _NAME_ENDS.isdisjoint(run)):
                    left = None, b""
                    right = initial or right  # without an initial one, senders let the last one go on
            parts.append(text)
            complete = complete and whole
    return "".join(parts), complete


def _double_bytes(run: bytes, codec: str, prefix: bytes) -> tuple[str, bool]:
    pairs = [prefix + bytes(byte | 0x80 for byte in run[at : at + 2]) for at in range(0, len(run), 2)]
    return _by(b"".join(pairs), codec)


def _by(value: bytes, codec: str) -> tuple[str, bool]:
    text = _strict(value, codec)
    return (value.decode(codec, "replace"), False) if text is None else (text, True)


def _checked(text: str, complete: bool) -> tuple[str, bool]:
    text = _INNER_PADDING.sub("", text.removeprefix("\ufeff"))
    replaced = _CONTROLS.sub(_REPLACEMENT, text)
    return replaced, complete and replaced == text


@lru_cache(64)
def _codecs(terms: tuple[str, ...]) -> tuple[str | None, ...]:
    """Python's codecs of the terms, None for ASCII and for what is unknown; at least one."""
    codecs = tuple(_codec(term) for term in terms) or (None,)
    return codecs[:1] if codecs[0] in _STANDS_ALONE else codecs


def _codec(term: str) -> str | None:
    name = re.sub(r"[^A-Z0-9]", "", term.upper())
    if match := re.fullmatch(r"(?:ISO)?(?:IR|2022IR|2022)([0-9]{1,3})", name):
        return _BY_REGISTRATION.get(int(match[1]))
    if match := re.fullmatch(r"(?:ISO)?8859(1[013-6]|[1-9])", name):
        return "latin_1" if match[1] == "1" else f"iso8859_{match[1]}"
    if match := re.fullmatch(r"(?:WINDOWS|CP)(125[0-8])", name):
        return f"cp{match[1]}"
    return _BY_NAME.get(name.removeprefix("ISO2022"))
