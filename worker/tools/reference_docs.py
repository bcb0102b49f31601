"""Writes the reference pages of ``docs/`` from the program itself: ``python -m worker.tools.reference_docs``.

Keys, defaults and allowed values come from the settings classes; the meaning of a key is its field's description, or
else its comment in ``deploy/cxr-triage.toml``. Commands come from the command line's definitions. A test compares the
committed pages with the output of this module.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from worker.config.settings import ENVIRONMENT_PREFIX, Settings, section_of
from worker.config.urls import SecretUrl

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE = REPOSITORY / "deploy" / "cxr-triage.toml"
_MADE = "<!-- made by `python -m worker.tools.reference_docs`; do not edit -->\n"


_CONFIGURATION = """\
One TOML file configures every process: `--config FILE`, else `$CXR_TRIAGE_CONFIG`, else `cxr-triage.toml` in the home
folder, if it exists. Each key is also an environment variable, which overrides the file; `--home` overrides both. A
wrong key or value stops the start with its name, its value and what is allowed. `cxr-triage config` prints the
configuration in force; [`deploy/cxr-triage.toml`](../deploy/cxr-triage.toml) is a file with every key."""


def main(folder: Path = REPOSITORY / "docs") -> None:
    """Write every page."""
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {"configuration.md": configuration_page(), "cli.md": cli_page()}


# Keys without a comment in the sample file.
_MEANINGS = {
    ("dicom", "ae_title"): "our AE title; associations that call another AE title are rejected",
    ("dicom", "host"): "the address to listen on; 0.0.0.0: all addresses",
    ("dicom", "port"): "0: any free one",
    ("destinations", "name"): "its name in the program and its metrics; unique",
    ("destinations", "ae_title"): "its AE title",
    ("destinations", "host"): "its host name or address",
    ("destinations", "port"): "its DICOM port",
    ("peers", "ae_title"): "its calling AE title",
    ("peers", "host"): "its host name or address",
    ("peers", "port"): "its DICOM port",
    ("destinations", "kind"): "how objects get there: `dicom` by C-STORE",
    ("destinations", "commitment"): "storage commitment is not requested yet",
    ("web", "host"): "the address to listen on; the pages have no login",
    ("web", "port"): "0: any free one",
    ("gate", "accept_secondary_capture"): "whether grayscale Secondary Captures are analysed as well",
}


# Configuration -------------------------------------------------------------------------------------------------------


def configuration_page() -> str:
    """Return the page of all keys."""
    comments = sample_comments(SAMPLE.read_text(encoding="utf-8"))
    lines = [
        _MADE,
        "# Configuration",
        "",
        *_CONFIGURATION.splitlines(),
        "",
    ]
    for name, field in Settings.model_fields.items():
        section = section_of(field.annotation)
        assert section is not None, f"[{name}] is not a section"
        is_list = get_origin(field.annotation) is tuple
        lines += _section(name, section, comments.get(name, {}), "list" if is_list else "table")
        for key, inner in section.model_fields.items():
            nested = section_of(inner.annotation)
            if nested is not None:
                many = get_origin(inner.annotation) is tuple
                lines += _section(f"{name}.{key}", nested, {}, "nested list" if many else "nested")
    return "\n".join(lines).rstrip() + "\n"


def _section(
    name: str,
    section: type[BaseModel],
    comments: dict[str, str],
    kind: Literal["table", "list", "nested", "nested list"],
) -> Iterator[str]:
    yield f"## `[[{name}]]`" if kind in ("list", "nested list") else f"## `[{name}]`"
    yield ""
    meaning = _own_docstring(section) or comments.get("", "")
    if meaning:
        yield _sentence(meaning)
        yield ""
    if kind == "list":
        variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
        yield f"As an environment variable: `{variable}`, a JSON list of objects with these keys."
        yield ""
    is_table = kind == "table"
    yield "| key | default | allowed | meaning | environment |" if is_table else "| key | default | allowed | meaning |"
    yield "|---|---|---|---|---|" if is_table else "|---|---|---|---|"
    for key, field in section.model_fields.items():
        if section_of(field.annotation) is not None:
            many = get_origin(field.annotation) is tuple
            how = f" in TOML, a JSON {'list' if many else 'object'} in the environment" if is_table else ""
            place = f"[[{name}.{key}]]" if many else f"[{name}.{key}]"
            cells = [
                f"`{key}`",
                "none" if many else "absent",
                f"{'tables' if many else 'a table'}{how}",
                f"see `{place}`",
            ]
        else:
            cells = [f"`{key}`", _default(field), _allowed(field), _key_meaning(name, key, field, comments)]
        if is_table:
            cells.append(f"`{ENVIRONMENT_PREFIX}{name.upper()}_{key.upper()}`")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _key_meaning(section: str, key: str, field: FieldInfo, comments: dict[str, str]) -> str:
    return field.description or comments.get(key) or _MEANINGS.get((section, key), "")


def sample_comments(text: str) -> dict[str, dict[str, str]]:
    """Return the comment behind each key of a TOML file, by section; ``""`` is the section's own."""
    comments: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in text.splitlines():
        # destinations are comments in the sample: none is configured by default
        shown = re.sub(r"^# (?=\[\[|\w+ = )", "", line)
        header = re.match(r"\[\[?(\w+)\]?\]\s*(?:#\s*(.*))?$", shown)
        entry = re.match(r"(\w+) = (?:\"[^\"]*\"|\[[^\]]*\]|[^\s#]+)\s*(?:#\s*(.*))?$", shown)
        if header:
            section = comments.setdefault(header[1], {})
            section[""] = header[2] or ""
        elif entry:
            section[entry[1]] = entry[2] or ""
    return comments


def _own_docstring(section: type[BaseModel]) -> str:
    return " ".join((section.__dict__.get("__doc__") or "").split())


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "none: must be given"
    return "absent" if field.default is None else f"`{_toml(field.default)}`"


def _allowed(field: FieldInfo) -> str:
    """Describe the allowed values, from the type and its bounds."""
    bounds = {type(bound): bound for bound in field.metadata}
    low = next((f"from {bounds[kind].ge}" for kind in (Ge,) if kind in bounds), "")
    low = low or next((f"above {bounds[kind].gt}" for kind in (Gt,) if kind in bounds), "")
    high = next((f"to {bounds[kind].le}" for kind in (Le,) if kind in bounds), "")
    high = high or next((f"below {bounds[kind].lt}" for kind in (Lt,) if kind in bounds), "")
    if MinLen in bounds or MaxLen in bounds:
        low = f"of {bounds[MinLen].min_length} to {bounds[MaxLen].max_length} characters"
    return " ".join(part for part in (_type_words(field.annotation, field.metadata), low, high) if part)


def _type_words(kind: Any, metadata: list[Any]) -> str:  # noqa: ANN401 - an annotation
    if get_origin(kind) is Literal:
        return " or ".join(f"`{_toml(value)}`" for value in get_args(kind))
    if get_origin(kind) is tuple:
        item, *_ = get_args(kind)
        inner, *more = get_args(item) if get_origin(item) not in (None, Literal) else (item,)
        return f"a list of {_type_words(inner, more)}"
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is Annotated:
        kind, *metadata = get_args(kind)
    if any("_expanded" in getattr(getattr(part, "func", None), "__name__", "") for part in metadata):
        return "a file"
    if any("ae_title" in getattr(getattr(part, "func", None), "__name__", "") for part in metadata):
        return "an AE title: 1 to 16 printable ASCII characters, no backslash"
    words: dict[object, str] = {
        str: "text",
        SecretStr: "text",
        SecretUrl: "text",
        int: "whole number",
        float: "number",
        bool: "`true` or `false`",
        Path: "folder",
    }
    return words.get(kind, str(kind))


def _toml(value: object) -> str:
    if isinstance(value, (SecretStr, SecretUrl)):
        value = value.get_secret_value()
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


# Command line --------------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """Return the page of all commands."""
    from worker.cli.app import app

    root = typer.main.get_command(app)
    lines = [
        _MADE,
        "# Command line",
        "",
        f"{(root.help or '').strip()}",
        "",
        "Exit code 0: success; 1: the work failed; 2: wrong usage or configuration. `--json` prints the same facts for",
        "machines.",
        "",
    ]
    for words, command in _commands(root, ("cxr-triage",)):
        lines += _command(words, command)
    return "\n".join(lines).rstrip() + "\n"


# Typer's command classes are its own copy of click's in some versions and click's in others: their attributes are alike


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401
    for name, child in sorted(command.commands.items()):
        if hasattr(child, "commands"):
            yield from _commands(child, (*words, name))
        else:
            yield (*words, name), child


def _command(words: tuple[str, ...], command: Any) -> Iterator[str]:  # noqa: ANN401
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    pieces = [_metavar(argument) if argument.required else f"[{_metavar(argument)}]" for argument in arguments]
    yield f"## `{' '.join(words)}`"
    yield ""
    yield " ".join((command.help or "").split())
    yield ""
    yield f"    {' '.join([*words, *pieces, '[OPTIONS]'])}"
    yield ""
    yield "| | |"
    yield "|---|---|"
    for argument in arguments:
        yield f"| `{_metavar(argument)}` | {_meaning(argument)} |"
    for option in options:
        names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
        value = "" if option.is_flag else f" `{_metavar(option)}`"
        yield f"| {names}{value} | {_meaning(option)} |"
    yield ""


def _meaning(parameter: Any) -> str:  # noqa: ANN401
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    default = parameter.default
    if default in (None, False, "", (), []) or callable(default):
        return text
    return f"{text} Default: `{default}`."


def _metavar(parameter: Any) -> str:  # noqa: ANN401
    return str(parameter.metavar or parameter.name).upper()


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:2]))
