"""Keras files of others: what is read of them before anything is known is bounded."""

import zipfile

import pytest

from model.keras_file import MOST_CONFIGURATION, ImportRefused, read_configuration


def test_a_configuration_that_unpacks_to_more_than_any_network_needs_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(MOST_CONFIGURATION + 1))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ImportRefused, match=r"its config\.json has 67108865 bytes; allowed are 67108864"):
        read_configuration(path)
