"""What native libraries print while they are loaded is left out; everything else that is written meanwhile is not."""

import os

import pytest

from model.network.keras_backend import start_backend
from model.network.native_messages import without_loading_messages

NOISE = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1795967750.451853   14134 port.cc:153] oneDNN custom operations are on.\n"
)


def test_messages_of_loading_are_left_out_and_others_stay_also_where_loading_fails(capfd):
    with pytest.raises(ImportError), without_loading_messages():
        os.write(2, NOISE + b"a library's last words\n")
        raise ImportError
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "a library's last words\nafterwards\n"


@pytest.mark.train
@pytest.mark.usefixtures("needs_tensorflow")
def test_training_computes_the_same_bits_on_a_graphics_card(monkeypatch):
    """No card here: what TensorFlow is told is compared."""
    import tensorflow as tf

    told = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: ["card"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda card, _on: told.append(card))
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: told.append("deterministic"))
    start_backend()
    assert told == ["card"]
    start_backend(deterministic=True)
    assert told == ["card", "deterministic", "card"]
