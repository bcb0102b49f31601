"""An exception that reaches the command line says by itself how the process ends; nothing keeps a list of names."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest

from worker import __main__
from worker.config.settings import ConfigurationError
from worker.runtime.ports import StartFailed

REPOSITORY = Path(__main__.__file__).parents[1]
ROOMS = ("worker", "dicom_io", "model", "db")
# caught where they matter: one that reaches the command line is a defect, and its traceback is wanted
INTERNAL = {
    "ActionRejected", "BadMultipart", "BudgetExhausted", "CallEnded", "Changed", "DecoderMissing",
    "DestinationUnreachable", "HeadUnsupported", "LeaseLost", "MalformedPdu", "NoObjectPossible", "NoPicture",
    "NotBegun", "NotTranslatable", "NumberTaken", "PictureFailed", "PixelsUnreadable", "ReadByNobody",
    "RecordedElsewhere", "Refused", "SenderDied", "StatedError", "StatementRejected", "StoreRejected",
    "TagNotUnderstood", "TlsProblem", "TooLarge", "_Rested",
}  # fmt: skip


def exception_classes() -> dict[str, ast.ClassDef]:
    """Every exception class of the rooms, read from the sources: importing them would load every library."""
    classes = {
        node.name: node
        for room in ROOMS
        for path in sorted((REPOSITORY / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }

    def is_exception(name: str) -> bool:
        if name in classes:
            return any(is_exception(ast.unparse(base)) for base in classes[name].bases)
        found = getattr(builtins, name, None)
        return isinstance(found, type) and issubclass(found, BaseException)

    return {name: node for name, node in classes.items() if is_exception(name)}


EXCEPTIONS = exception_classes()


def exit_code(name: str) -> int | None:
    """What the class, or the one that it inherits from, declares."""
    for statement in EXCEPTIONS[name].body:
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "exit_code":
            assert statement.value is not None
            return int(ast.literal_eval(statement.value))
    inherited = (exit_code(base) for base in map(ast.unparse, EXCEPTIONS[name].bases) if base in EXCEPTIONS)
    return next(inherited, None)


@pytest.mark.parametrize("name", sorted(EXCEPTIONS))
def test_an_exception_declares_its_exit_code_or_never_reaches_the_command_line(name: str) -> None:
    assert (exit_code(name) is None) == (name in INTERNAL)
    assert exit_code(name) in (None, 1, 2)


def test_the_console_script_names_no_exception_and_imports_no_room() -> None:
    source = Path(__main__.__file__).read_text(encoding="utf-8")
    assert not [name for name in EXCEPTIONS if name in source]


@pytest.mark.parametrize(("error", "code"), [(StartFailed("the port is taken"), 1), (ConfigurationError("no key"), 2)])
def test_one_line_and_the_exit_code_of_the_class(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr("worker.cli.app.app", fails)
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == code
    assert capsys.readouterr().err == f"cxr-triage: {error}\n"
