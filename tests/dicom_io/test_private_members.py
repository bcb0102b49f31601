"""The private members of pynetdicom and pydicom that dicom_io uses: all listed here, and there as they are expected."""

from __future__ import annotations

import ast
import inspect
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket, RequestHandler

import dicom_io

ATTRIBUTES: dict[type, dict[str, type]] = {
    AE: {"_servers": list},
    Association: {
        "_accepted_cx": dict,
        "_dul_ready": threading.Event,
        "_reactor_checkpoint": threading.Event,
    },
    AssociationSocket: {"_is_connected": bool},
    DULServiceProvider: {"_kill_thread": bool, "_run_loop_delay": float},
}
METHODS: dict[type, dict[str, list[str]]] = {
    AssociationSocket: {"_shutdown_socket": ["self"]},
    queue.Queue: {"_put": ["self", "item"]},
    DULServiceProvider: {"_decode_pdu": ["self", "bytestream"], "_is_transport_event": ["self"]},
    RequestHandler: {"_create_association": ["self"]},
}
SETTINGS = {
    "LOG_HANDLER_LEVEL": str,
    "LOG_REQUEST_IDENTIFIERS": bool,
    "LOG_RESPONSE_IDENTIFIERS": bool,
    "STORE_SEND_CHUNKED_DATASET": bool,
}
OWN = {"self", "inner"}  # `inner` is a walk over a data set within another
MODULES = {"pynetdicom._config", "pydicom.sr._snomed_dict"}


@pytest.fixture
def owners() -> Iterator[dict[type, object]]:
    association = Association(AE(), "acceptor")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = (association.ae, association, AssociationSocket(association, client_socket=ours), association.dul)
        yield {type(each): each for each in made}


def test_the_attributes_are_there_and_of_their_type(owners: dict[type, object]) -> None:
    for owner, attributes in ATTRIBUTES.items():
        for name, kind in attributes.items():
            assert isinstance(getattr(owners[owner], name), kind), f"{owner.__name__}.{name}"
    assert {name: type(getattr(_config, name)) for name in SETTINGS} == SETTINGS


def test_the_methods_that_are_overridden_are_there_with_their_parameters() -> None:
    for owner, methods in METHODS.items():
        assert {name: list(inspect.signature(getattr(owner, name)).parameters) for name in methods} == methods


def test_no_other_private_member_is_used() -> None:
    listed = {name for members in (*ATTRIBUTES.values(), *METHODS.values()) for name in members}
    used: set[str] = set()
    modules: set[str] = set()
    for path in Path(dicom_io.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used |= set(_foreign_private_names(tree))
        modules |= {name for node in ast.walk(tree) for name in _imported(node) if "._" in name and "__" not in name}
    assert used == listed
    assert modules == MODULES


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{each.name}" for each in node.names if node.module == "pynetdicom")]
    return [each.name for each in node.names] if isinstance(node, ast.Import) else []


def _foreign_private_names(tree: ast.Module) -> Iterator[str]:
    """Private names that are used of anything but ``self``, or that a subclass has from its library's class."""
    libraries = {
        each.asname or each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("pynetdicom", "pydicom"))
        for each in node.names
    }
    inherited = {name for owner in METHODS for name in dir(owner)} | {
        name for attributes in ATTRIBUTES.values() for name in attributes
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and ast.unparse(node.value) not in OWN:
            yield node.attr
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & libraries:
            for each in ast.walk(node):
                name = each.name if isinstance(each, ast.FunctionDef) else getattr(each, "attr", "")
                if _is_private(name) and name in inherited:
                    yield name


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
