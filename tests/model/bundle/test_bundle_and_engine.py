"""Bundles: what was changed is refused with the reason; engines answer as the golden output says."""

import hashlib
import logging
import shutil
import tomllib
import zipfile

import numpy as np
import pytest
import tomli_w

from model.bundle.bundle import Bundle, BundleInvalid, builtin_bundles_folder, find_bundles, load_bundle, model_digest
from model.dataset.patient_digests import KEY_FILE
from model.engine.golden_check import check_against_golden
from model.engine.opening import open_engine
from model.engine.protocol import EngineUnsuitable
from model.network.keras_files import ImportRefused
from model.publish.archive import import_bundle
from model.publish.bundle_writer import file_digest, renew_manifest_checksum, write_arrays, write_table
from tests.model.small_bundle import write_small_bundle


@pytest.fixture
def copy(demonstration, tmp_path):
    """A copy of the demonstration bundle that a test may damage."""
    return shutil.copytree(demonstration.folder, tmp_path / "copy")


def test_the_demonstration_bundle_says_what_it_is(demonstration):
    assert demonstration.label_names == ("Pneumonia", "Infiltration", "Atelectasis", "Edema", "Effusion")
    assert demonstration.name == "demonstration"
    assert len(demonstration.digest) == 64
    assert set(demonstration.thresholds) == set(demonstration.label_names)
    assert demonstration.views == ("AP", "PA")
    assert (1, 5) in demonstration.ages
    assert [(code.scheme, code.value) for code in demonstration.labels[0].codes] == [("SCT", "233604007")]
    assert "not for diagnosis" in demonstration.statement


def test_the_card_states_measured_figures_for_children_and_for_adults_and_the_terms(demonstration):
    card = demonstration.card_path.read_text(encoding="utf-8")
    for text in ("not for diagnosis", "### Adults", "### Children", "CC BY 4.0", "NIH Clinical Center", "split.csv"):
        assert text in card
    for domain, cells in demonstration.metrics["test"]["domains"].items():
        for label, cell in cells.items():
            low, high = cell["auroc_interval"]
            assert low <= cell["auroc"] <= high, (domain, label)
            assert f"{cell['auroc']:.2f} ({low:.2f} to {high:.2f})" in card


def test_the_shipped_bundle_stays_small(demonstration):
    assert sum(path.stat().st_size for path in demonstration.folder.iterdir()) < 30_000_000


DIGESTED = sorted(load_bundle(builtin_bundles_folder() / "demonstration").description["files"])


@pytest.mark.parametrize("name", DIGESTED)
@pytest.mark.parametrize("damage", ["a bit at the start", "a bit in the middle", "a bit at the end", "cut", "emptied"])
def test_a_changed_or_truncated_file_is_refused_by_name(copy, name, damage):
    data = bytearray((copy / name).read_bytes())
    at = {"a bit at the start": 0, "a bit in the middle": len(data) // 2, "a bit at the end": -1}
    if damage in at:
        data[at[damage]] ^= 1
    (copy / name).write_bytes(data[: len(data) // 2] if damage == "cut" else b"" if damage == "emptied" else data)
    with pytest.raises(BundleInvalid, match=f"{name} was changed"):
        load_bundle(copy)


def test_every_file_of_the_bundle_but_those_for_people_is_under_a_digest(demonstration):
    for_people = {"README.md", "curves.png", "model.toml"}
    others = {path.name for path in demonstration.folder.iterdir()} - for_people
    # the key to the patients may be away, and the split's own column tells whether it is the right one
    assert others - {KEY_FILE} <= set(DIGESTED)


def test_a_file_of_another_bundle_is_refused(copy, demonstration):
    (copy / "head.npz").write_bytes((demonstration.folder / "distribution.npz").read_bytes())
    with pytest.raises(BundleInvalid, match=r"head.npz was changed"):
        load_bundle(copy)


def test_a_missing_file_is_refused_by_name(copy):
    (copy / "network.bin").unlink()
    with pytest.raises(BundleInvalid, match=r"network.bin cannot be read: No such file"):
        load_bundle(copy)


def rewritten(copy, change):
    path = copy / "model.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    change(table)
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    return copy


CHANGES = [
    (lambda t: t["labels"][0].update(name="Fracture"), "labels, head or preprocessing were changed"),
    (lambda t: t["labels"].reverse(), "labels, head or preprocessing were changed"),
    (lambda t: t["preprocessing"].update(geometry="pad"), "labels, head or preprocessing were changed"),
    (lambda t: t["preprocessing"].update(geometry="bend"), "allowed are squash, crop, pad"),
    (lambda t: t["labels"].pop(), "4 labels .* for 5 logits"),
    (lambda t: t["labels"][0].update(threshold=1.5), "must be within 0 and 1"),
    (lambda t: t.update(format=99), "its format is 99; this version reads 1 and 2"),
    (lambda t: t["model"].update(statement="\u202edesrever"), "under 'model' has characters that cannot be printed"),
    (lambda t: t["intended"].update(views=["PA\x1b[2J"]), "under 'intended' has characters that cannot be printed"),
    (lambda t: t["files"].pop("head.npz"), "has no SHA-256 of head.npz"),
    (lambda t: t["files"].update({"../outside": "0"}), "only names in the folder are allowed"),
    (lambda t: t["model"].pop("digest"), "lacks 'digest'"),
    (lambda t: t.update(intended=5), "is inconsistent"),
    (lambda t: t["model"].update(name="../../elsewhere"), "begins with a dot or has a slash"),
    (lambda t: t["model"].update(name="red \x1b[31m"), "characters that cannot be printed"),
    (lambda t: t["model"].update(name="a" * 65), "has 65 characters; allowed are 1 to 64"),
    (lambda t: t["labels"][0].update(name="Pneumo\nnia"), "characters that cannot be printed"),
    (lambda t: t.update(labels="all"), "is inconsistent"),
    (lambda t: t["head"].update(activations=[]), "is inconsistent"),
    (lambda t: t["preprocessing"].update(size=float("inf")), "is inconsistent"),
    (lambda t: t["labels"][0].update(threshold=10**400), "is inconsistent"),
    (lambda t: t["distribution"]["domains"].append("limbs"), "the distribution of 3 training domains has arrays of"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_description_that_was_changed_or_cannot_be_is_refused_with_its_reason(copy, change, message):
    with pytest.raises(BundleInvalid, match=message):
        load_bundle(rewritten(copy, change))


DECIDES = {
    "a threshold": lambda t: t["labels"][0].update(threshold=0.125),
    "a group's threshold": lambda t: t["calibration"][0]["labels"][0].update(threshold=0.125),
    "a temperature": lambda t: t["labels"][0].update(temperature=2.0),
    "a bias": lambda t: t["calibration"][1]["labels"][0].update(bias=-9.0),
    "a code": lambda t: t["labels"][0]["codes"][0].update(value="1"),
    "ages": lambda t: t["intended"].update(ages=[]),
    "views": lambda t: t["intended"].update(views=["LATERAL"]),
    "what it says of itself": lambda t: t["model"].update(statement="for diagnosis"),
    "a missing digest": lambda t: t.pop("description_sha256"),
}


@pytest.mark.parametrize("what", DECIDES)
def test_whatever_a_bundle_decides_by_is_under_a_digest(copy, what):
    with pytest.raises(BundleInvalid, match=r"model\.toml was changed: .*accept it: cxr-triage model seal FOLDER"):
        load_bundle(rewritten(copy, DECIDES[what]))


def test_the_order_and_layout_of_a_description_may_change(copy, demonstration):
    text = (copy / "model.toml").read_text(encoding="utf-8")
    (copy / "model.toml").write_text("# a remark\n" + text.replace(" = ", "   =   "), encoding="utf-8")
    assert load_bundle(copy).description == demonstration.description


def test_thresholds_changed_on_purpose_are_accepted_and_it_stays_the_same_model(copy, demonstration):
    rewritten(copy, DECIDES["a threshold"])
    changed = renew_manifest_checksum(copy)
    assert changed.thresholds["Pneumonia"] == load_bundle(copy).thresholds["Pneumonia"] == 0.125
    assert changed.digest == demonstration.digest
    assert {path.name for path in copy.iterdir()} == {path.name for path in demonstration.folder.iterdir()}


def test_sealing_accepts_no_other_network(copy):
    path = rewritten(copy, lambda t: t["preprocessing"].update(geometry="pad")) / "model.toml"
    before = path.read_bytes()
    with pytest.raises(BundleInvalid, match="labels, head or preprocessing were changed"):
        renew_manifest_checksum(copy)
    assert path.read_bytes() == before


def test_a_bundle_of_the_format_before_is_read_and_is_known_to_be_without_a_seal(copy, demonstration):
    def earlier(table):
        table.pop("description_sha256")
        table.update(format=1)

    old = load_bundle(rewritten(copy, earlier))
    assert (old.has_manifest_checksum, demonstration.has_manifest_checksum) == (False, True)
    assert old.digest == demonstration.digest
    assert renew_manifest_checksum(copy).description == demonstration.description


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleInvalid, match=r"model.toml cannot be read"):
        load_bundle(tmp_path)
    for nonsense in ("= nonsense", "format = " + "9" * 5000, "a = " + "[" * 5000):
        (tmp_path / "model.toml").write_text(nonsense)
        with pytest.raises(BundleInvalid, match="is no TOML"):
            load_bundle(tmp_path)


def test_arrays_that_are_none_or_too_many_are_refused_before_they_take_memory(copy):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1125899906842624,), }".ljust(117) + b"\n"
    huge = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    for data in (huge, b"not an array"):
        with zipfile.ZipFile(copy / "head.npz", "w") as archive:
            archive.writestr("0.kernel.npy", data)
        digest = hashlib.sha256((copy / "head.npz").read_bytes()).hexdigest()
        with pytest.raises(BundleInvalid, match=r"head.npz holds no arrays|lacks .0.bias."):
            load_bundle(rewritten(copy, lambda t, digest=digest: t["files"].update({"head.npz": digest})))


def test_finding_bundles_lists_the_broken_ones_too(copy, tmp_path):
    (copy / "head.npz").unlink()
    good, broken = find_bundles([builtin_bundles_folder(), tmp_path, tmp_path / "missing"])
    assert isinstance(good, Bundle)
    assert isinstance(broken, BundleInvalid)
    assert broken.folder == copy


def test_what_an_import_is_still_writing_is_no_bundle(copy, tmp_path):
    copy.rename(tmp_path / ".model-unfinished")
    assert find_bundles([tmp_path]) == []


def test_full_precision_agrees_with_the_golden_output_closely(demonstration):
    engine = open_engine(demonstration, precision="f32")
    logits, activations = check_against_golden(engine, demonstration)
    assert logits < 1e-3
    assert activations < 1e-3
    assert engine.precision == "f32"
    assert engine.name.startswith("openvino ")


def native_bf16():
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_auto_takes_bf16_where_the_processor_has_it_and_it_agrees_with_the_golden_output(demonstration):
    engine = open_engine(demonstration)
    assert engine.precision == ("bf16" if native_bf16() else "f32")
    check_against_golden(engine, demonstration)


def test_auto_falls_back_to_f32_where_bf16_differs_from_the_golden_output_and_says_so(tmp_path, caplog, monkeypatch):
    """Large weights that cancel each other leave of bf16's eight bits nothing but their rounding."""
    logger = logging.getLogger("model.engine.opening")
    for name, value in (("disabled", False), ("propagate", False), ("handlers", [caplog.handler])):
        monkeypatch.setattr(logger, name, value)  # other tests may have configured logging
    bundle = write_small_bundle(tmp_path / "cancelling", cancelling=3e4)
    engine = open_engine(bundle)
    assert engine.precision == "f32"
    check_against_golden(engine, bundle)
    if native_bf16():
        assert len(caplog.messages) == 1
        assert "in bf16 differs from the golden output of small" in caplog.messages[0]
        assert "falling back to f32" in caplog.messages[0]
        with pytest.raises(EngineUnsuitable, match="in bf16 differs from the golden output"):
            open_engine(bundle, "bf16")


def test_a_network_that_differs_from_the_golden_output_is_refused(demonstration):
    engine = open_engine(demonstration, precision="f32", check_golden=False)

    class Shifted:
        name, precision = "shifted", "f32"

        def run(self, batch):
            output = engine.run(batch)
            return type(output)(output.logits + 0.5, output.activations)

    with pytest.raises(EngineUnsuitable, match="differs from the golden output of demonstration: logits by"):
        check_against_golden(Shifted(), demonstration)


def test_a_head_that_is_not_its_networks_is_refused(small, tmp_path):
    """Every digest is right, but the maps would show the opposite."""
    folder = shutil.copytree(small.folder, tmp_path / "flipped")
    arrays = small.head.to_arrays()
    write_arrays(folder / "head.npz", {**arrays, "0.kernel": arrays["0.kernel"] * -3})
    files = {**small.description["files"], "head.npz": file_digest(folder / "head.npz")}
    digest = model_digest(
        files["weights.keras"], small.label_names, small.head_table, files["head.npz"], small.preprocessing
    )
    model = {**small.description["model"], "digest": digest}
    write_table(folder, {**small.description, "files": files, "model": model})
    with pytest.raises(
        EngineUnsuitable, match=r"the head of small is not its network's: .* differ from the golden ones by"
    ):
        open_engine(load_bundle(folder), "f32")
    with pytest.raises(ImportRefused, match="the head of small is not its network's"):
        import_bundle(folder, tmp_path / "imported")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"precision": "int4"}, "allowed are auto, f32, bf16"), ({"threads": 0}, "threads is 0; at least 1")],
)
def test_an_engine_asked_for_what_it_cannot_says_what_it_can(demonstration, arguments, message):
    with pytest.raises(EngineUnsuitable, match=message):
        open_engine(demonstration, **arguments)


def test_a_batch_gives_the_same_outputs_as_its_images_one_by_one(predictor):
    batch = np.random.default_rng(0).normal(size=(3, 224, 224, 3)).astype(np.float32)
    together = predictor.engine.run(batch)
    for index in range(3):
        alone = predictor.engine.run(batch[index : index + 1])
        assert np.array_equal(alone.logits[0], together.logits[index])
        assert np.array_equal(alone.activations[0], together.activations[index])


@pytest.mark.parametrize("shape", [(1, 224, 224, 1), (224, 224, 3), (0, 224, 224, 3), (1, 200, 224, 3)])
def test_a_batch_that_does_not_fit_is_refused_with_what_does(predictor, shape):
    with pytest.raises(ValueError, match=r"\[n, 224, 224, 3\] does"):
        predictor.engine.run(np.zeros(shape, np.float32))


def test_the_engines_logits_are_the_heads(predictor):
    output = predictor.engine.run(predictor.bundle.golden.tensors)
    head = predictor.bundle.head
    for logits, activations in zip(output.logits, output.activations, strict=True):
        assert head.logits(head.pooled(activations)) == pytest.approx(
            logits, abs=2e-3 * (1 + float(np.abs(logits).max()))
        )
