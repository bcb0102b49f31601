"""A listener that lasts for a module, for the many tests that need nothing special of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dicom_io.wire import Served, Witness, listening


@pytest.fixture(scope="module")
def _listener_of_the_module() -> Iterator[Served]:
    witness = Witness()
    with listening(witness) as listener:
        yield witness, listener


@pytest.fixture
def served(_listener_of_the_module: Served) -> Served:
    """A running listener, and what it received since this test began."""
    witness, listener = _listener_of_the_module
    witness.received.clear()
    witness.rejected.clear()
    return witness, listener
