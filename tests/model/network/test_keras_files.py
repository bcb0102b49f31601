"""Keras files of others: what is read of them before anything is known is bounded."""

import json
import random
import shutil
import zipfile

import h5py
import pytest

from model.network.keras_files import (
    MOST_CONFIGURATION,
    MOST_NESTED,
    ImportRefused,
    load_keras_file,
    read_configuration,
)
from tests.model import networks


def test_a_configuration_that_unpacks_to_more_than_any_network_needs_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(MOST_CONFIGURATION + 1))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ImportRefused, match=r"its config\.json has 67108865 bytes; allowed are 67108864"):
        read_configuration(path)


@pytest.mark.parametrize("levels", [MOST_NESTED + 1, 100_000])
def test_a_configuration_nested_too_deeply_is_refused(tmp_path, levels):
    path = tmp_path / "deep.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", '{"config":' * levels + "1" + "}" * levels)
    with pytest.raises(ImportRefused, match="nested more than 100 levels deep"):
        read_configuration(path)


def test_what_is_no_text_where_hdf5_describes_the_network_is_refused(tmp_path):
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = 7
    with pytest.raises(ImportRefused, match="damaged or truncated"):
        read_configuration(path)


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_whose_description_says_nonsense_is_loaded_or_refused_and_nothing_else(tmp_path, suffix):
    """One value of the network's description at a time is replaced by one of another kind."""
    whole = tmp_path / f"whole{suffix}"
    networks.classifier(1).save(whole)
    chance, path, refused = random.Random(5), tmp_path / f"odd{suffix}", 0
    for _ in range(60):
        description = read_configuration(whole)
        places = list(_places(description))
        holder, key = chance.choice(places)
        holder[key] = chance.choice([None, 3, -1, 0.5, "x", [], {}, True, [[1]], {"class_name": 4}])
        _save_with(whole, path, description)
        try:
            load_keras_file(path)
        except ImportRefused as error:
            refused += 1
            assert str(path) in str(error)
            assert "\n" not in str(error)
    assert refused > 10


def _places(value):
    """Every place of a JSON document whose value could be another."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _save_with(whole, path, description):
    shutil.copy(whole, path)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = json.dumps(description)
        return
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            text = json.dumps(description).encode() if name == "config.json" else source.read(name)
            target.writestr(name, text)
