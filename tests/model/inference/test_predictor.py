"""Results of the predictor, and the flags of images outside the training domain."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from model.bundle.bundle import builtin_bundles_folder, load_bundle
from model.inference.domain_flags import OUTSIDE, domain_flags, untrained_labels
from model.preprocessing.tensor import prepare

KNOWN = {"age_years": 40.0, "view": "PA", "ood_score": 0.5}

FLAGS = [
    ({}, ()),
    ({"age_years": 1.0}, ()),
    ({"age_years": 5.9}, ()),
    ({"age_years": 18.0, "view": "AP"}, ()),
    ({"view": "pa"}, ()),
    ({"age_years": 6.0}, (OUTSIDE, "age 6 outside 1-5 and 18-90")),
    ({"age_years": 0.4}, (OUTSIDE, "age 0 outside 1-5 and 18-90")),
    ({"age_years": 17.99}, (OUTSIDE, "age 17 outside 1-5 and 18-90")),
    ({"age_years": 91.0}, (OUTSIDE, "age 91 outside 1-5 and 18-90")),
    ({"age_years": None}, ("age unknown",)),
    ({"age_years": float("nan")}, ("age unknown",)),
    ({"view": None}, ("view unknown",)),
    ({"view": ""}, ("view unknown",)),
    ({"view": "LATERAL"}, (OUTSIDE, "view LATERAL is none of AP, PA")),
    ({"ood_score": 1.0}, ()),
    ({"ood_score": 1.84}, (OUTSIDE, "out of distribution (score 1.8)")),
    ({"ood_score": float("nan")}, (OUTSIDE, "out of distribution (score nan)")),
    ({"ood_score": None}, ()),
    (
        {"age_years": None, "view": "LL", "ood_score": 3.0},
        (OUTSIDE, "view LL is none of AP, PA", "out of distribution (score 3.0)", "age unknown"),
    ),
]


@pytest.fixture
def intended(demonstration):
    return dataclasses.replace(demonstration, ages=((1, 5), (18, 90)), views=("AP", "PA"), label_ages={})


@pytest.mark.parametrize(("metadata", "flags"), FLAGS)
def test_flags_say_outside_first_and_then_what_exactly(intended, metadata, flags):
    assert domain_flags(intended, **{**KNOWN, **metadata}) == flags


def test_a_bundle_for_any_age_and_view_asks_for_neither(demonstration):
    anyone = dataclasses.replace(demonstration, ages=(), views=(), label_ages={})
    assert domain_flags(anyone, None, None, 0.2) == ()


CONTRADICTION = "age contradictory: two years apart"
DEPENDING_ON_AGE = [
    ({"ages": ((18, 90),), "groups": (), "label_ages": {}}, True),
    ({"ages": (), "label_ages": {}}, True),  # thresholds of its groups
    ({"ages": (), "groups": (), "label_ages": {"Effusion": ((18, 90),)}}, True),
    ({"ages": (), "groups": (), "label_ages": {}}, False),
]


@pytest.mark.parametrize(("changes", "outside"), DEPENDING_ON_AGE)
def test_contradictory_age_is_outside_just_where_the_bundle_depends_on_the_age(demonstration, changes, outside):
    bundle = dataclasses.replace(demonstration, **changes)
    flags = domain_flags(bundle, None, "PA", 0.5, age_contradiction=CONTRADICTION)
    assert flags == ((OUTSIDE, CONTRADICTION) if outside else ())


def test_a_result_holds_every_label_and_its_maps_sum_to_the_logits(predictor):
    spec = predictor.bundle.preprocessing
    image = np.random.default_rng(1).random((300, 260), dtype=np.float32)
    results = predictor.predict([prepare(image, spec), prepare(np.flip(image, 0).copy(), spec)])
    assert len(results) == 2
    for result in results:
        assert result.logits.shape == result.probabilities.shape == (5,)
        assert result.ood_score > 0
        constants = predictor.bundle.head.layers[-1].bias
        for index in range(5):
            temperature = float(predictor.bundle.everyone.temperatures[index])
            total = temperature * result.maps.contribution(index).sum() + constants[index]
            assert total == pytest.approx(result.logits[index], abs=5e-3 * (1 + float(np.abs(result.logits).max())))


def test_no_images_give_no_results(predictor):
    assert predictor.predict([]) == []


def test_noise_is_out_of_distribution(predictor):
    noise = np.random.default_rng(2).random((512, 512), dtype=np.float32)
    (result,) = predictor.predict([prepare(noise, predictor.bundle.preprocessing)])
    assert result.ood_score > 1.0


SERVING = """
import sys
import model, model.inference.predictor, model.rendering.overlay, model.bundle.bundle, model.preprocessing.image_files
heavy = {"tensorflow", "keras", "torch", "openvino", "cv2", "matplotlib", "sklearn", "pandas", "PIL"}
assert not heavy & set(sys.modules), sorted(heavy & set(sys.modules))
import numpy as np
from model.bundle.bundle import builtin_bundles_folder
from model.preprocessing.tensor import prepare
from model.inference.predictor import Predictor, domain_flags
from model.rendering.overlay import draw_overlay, legend_for
predictor = Predictor.open(builtin_bundles_folder() / "demonstration")
prepared = prepare(np.zeros((64, 64), np.float32), predictor.bundle.preprocessing)
(result,) = predictor.predict([prepared])
legend = legend_for(predictor.bundle, result, 0, domain_flags(predictor.bundle, 4, "AP", result.ood_score))
draw_overlay(np.zeros((64, 64), np.float32), result.maps.contribution(0), prepared.affine, 224, legend, 256)
assert not {"tensorflow", "keras", "torch", "matplotlib", "sklearn", "pandas"} & set(sys.modules), sorted(sys.modules)
import psutil
print(psutil.Process().memory_info().rss // 2**20)
"""


def test_serving_loads_neither_keras_nor_tensorflow_and_stays_under_400_mb():
    done = subprocess.run([sys.executable, "-c", SERVING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400


def test_label_that_was_not_trained_at_an_age_is_named_there_and_nowhere_else() -> None:
    bundle = load_bundle(builtin_bundles_folder() / "demonstration")
    adults_only = ("Infiltration", "Atelectasis", "Edema", "Effusion")
    assert untrained_labels(bundle, 3.5) == adults_only
    assert untrained_labels(bundle, 40) == ()
    assert untrained_labels(bundle, None) == ()
    flags = domain_flags(bundle, 3.5, "PA", 0.5)
    assert flags == ("label not validated for this age group; not counted: Infiltration, Atelectasis, Edema, Effusion",)
    # of unknown age and like the children's: read with their calibration, of whom those labels were not known either
    children, adults = (next(each for each in bundle.groups if each.group == name) for name in ("children", "adults"))
    assert untrained_labels(bundle, None, children) == adults_only
    assert untrained_labels(bundle, None, adults) == untrained_labels(bundle, 40, children) == ()
    flags = domain_flags(bundle, None, "PA", 0.5, children)
    named = "Infiltration, Atelectasis, Edema, Effusion"
    assert flags == (
        "age unknown",
        f"label not validated for children, whose images this one resembles; not counted: {named}",
    )
