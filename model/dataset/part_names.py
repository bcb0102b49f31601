"""Names of parts of a split, as folders, tables and columns of collections spell them."""

import re

_WORDS = {
    "training": ("train", "training", "trainset", "trn"),
    "validation": ("val", "valid", "validation", "validate", "valset", "dev", "devel", "development", "tune", "tuning"),
    "test": ("test", "testing", "testset", "tst", "holdout", "heldout"),
}
_PART_OF = {word: part for part, words in _WORDS.items() for word in words}
_FILLERS = frozenset(
    {"set", "data", "dataset", "image", "images", "img", "imgs", "part", "split", "folder", "label", "labels"}
)


def part_of(name: str) -> str:
    """Return the part that a name such as ``Train``, ``valid``, ``test_set`` or ``holdout`` means; empty for others."""
    words = [word for word in re.findall(r"[^\W\d_]+", name.casefold()) if word not in _FILLERS]
    return _PART_OF.get("".join(words), "")
