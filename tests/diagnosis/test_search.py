"""The search for how a model should be fed: which explanation is adopted first."""

from dataclasses import replace

import numpy as np
import pytest
from keras import layers
from tiny_classifiers import (
    INPUT_CAUSES,
    SIDE,
    case_of,
    colours,
    examined,
    faults_of,
    finding_of,
    fresh,
    mean_colour_reader,
    model_of,
    normalized_reader,
    red_halves,
    three_colour_reader,
    three_colours,
    top_reader,
)

import debugcnn
from debugcnn.diagnosis import forms
from debugcnn.diagnosis.forms import Contest, Form
from debugcnn.diagnosis.registry import CAUSES
from debugcnn.diagnosis.search import renamed_accuracy
from debugcnn.statistics import Comparison


def test_two_faults_of_the_input_are_found_one_after_the_other():
    """Upside down and with channels exchanged, the model sees only a weak difference in blue."""
    images, labels = red_halves(200)
    images[:, : SIDE // 2, :, 2] += 2 * labels[:, None, None]
    images[:, SIDE // 2 :, :, 2] += 2 * (1 - labels[:, None, None])
    fed = images[:, ::-1, ::-1, ::-1]
    report = debugcnn.diagnose(top_reader(), fed, labels, value_range=(0, 1))
    assert set(faults_of(report)) == {"channel_order", "flipped_or_rotated"}
    assert report.accuracy == 1 > 0.5 > report.accuracy_as_fed
    np.testing.assert_array_equal(report.case.feed.pixels, images)


def made_up_contest(gain, name="form", is_better=True, handicap=0.0, logits=None):
    """A Contest that brings `gain` of AUC, and as much accuracy."""
    comparison = Comparison(0.5, 0.5 + gain, 0.01, 0.01)
    options = Form(name, lambda feed: feed, handicap)
    return Contest(options, is_better, comparison, (0.5, 0.5 + gain), logits)


@pytest.fixture
def contests(monkeypatch):
    """Contests of causes with made-up results: {cause: gain}; what is missing brings nothing."""
    gains = {}

    def made_up(model, feed, options, labels, logits, output=None):
        cause = next(
            (c for c in CAUSES if CAUSES[c].forms and c in gains and _offers(c, options)), None
        )
        outcome = made_up_contest(gains.get(cause, 0.0), is_better=cause in gains, logits=logits)
        return replace(outcome, tried=replace(options[0], apply=lambda feed: replace(feed)))

    def _offers(cause, options):
        words = {
            "input_scale": "pixel",
            "channel_order": "red and blue",
            "batch_statistics": "each batch",
            "flipped_or_rotated": "upside down",
        }
        return words[cause] in options[0].name

    monkeypatch.setattr(forms, "contest", made_up)
    return gains


@pytest.mark.parametrize(
    ("gains", "faults"),
    [
        ({}, []),
        ({"input_scale": 0.2}, ["input_scale"]),
        ({"input_scale": 0.2, "channel_order": 0.3}, ["channel_order", "input_scale"]),
        ({"batch_statistics": 0.2}, ["batch_statistics"]),
        ({"batch_statistics": 0.2, "input_scale": 0.1}, ["batch_statistics"]),
        ({"batch_statistics": 0.2, "input_scale": 0.18}, ["input_scale", "batch_statistics"]),
        ({"batch_statistics": 0.1, "input_scale": 0.2}, ["input_scale", "batch_statistics"]),
    ],
)
def test_the_strongest_explanation_is_adopted_first(contests, gains, faults):
    """A fault of the model comes first only if it explains clearly more than the input."""
    contests.update(gains)
    images, labels = colours(60)
    case = case_of(normalized_reader(), images, labels)
    case.global_losses = []  # no property of the whole image is read
    assert [name for name, e in case.search.evidence.items() if _is_fault(e)] == faults
    if faults == ["batch_statistics"] and len(gains) > 1:
        reason = "Another cause explains the predictions already."
        assert case.search.evidence["channel_order"] == reason


def _is_fault(evidence):
    return not isinstance(evidence, str) and evidence.clear


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_classes_in_a_wrong_order_come_before_any_form(order):
    images, labels = three_colours()
    case = case_of(three_colour_reader(), images, np.array(order)[labels])
    report = examined(case, "class_order", *INPUT_CAUSES)
    # Red and blue exchanged would undo (2, 1, 0) as well.
    assert faults_of(report) == ([] if order == (0, 1, 2) else ["class_order"])
    message = finding_of(report, "channel_order").message
    assert ("classes are in another order" in message) is (order != (0, 1, 2))


def test_a_form_that_explains_more_than_another_order_comes_first():
    """Red, yellow and blue: with channels exchanged, yellow is taken for blue under any order."""
    labels = np.arange(180) % 3
    colour = np.array([[100, 0, 0], [100, 100, 0], [0, 0, 100]])[labels]
    images = np.random.default_rng(0).uniform(60, 100, (180, SIDE, SIDE, 3))
    images[:, 4:-4, 4:-4] += colour[:, None, None]
    model = model_of(layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax", name="head"))
    kernel = np.array([[40.0, 20, 0], [0, 40, 0], [0, -20, 40]])
    model.get_layer("head").set_weights([kernel, np.zeros(3)])
    case = case_of(model, images[..., ::-1], labels)
    correct, renamed = renamed_accuracy(case.given_logits, labels)
    assert (correct, renamed) == (0, pytest.approx(2 / 3))
    report = examined(case, "class_order", "channel_order")
    assert faults_of(report) == ["channel_order"] and report.accuracy == 1


def test_renamed_accuracy_in_closed_form():
    logits = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    assert renamed_accuracy(logits, np.array([1, 2, 0, 1, 2, 2])) == (1 / 6, 5 / 6)


@pytest.mark.parametrize(
    ("model", "images", "reason"),
    [
        (lambda: model_of(layers.Flatten(), layers.Dense(2)), None, "have not been trained"),
        (lambda: with_nan(fresh(mean_colour_reader)), None, "logits are not finite"),
    ],
)
def test_no_form_is_searched_for_where_it_makes_no_sense(model, images, reason):
    case = case_of(model(), *colours(60))
    assert all(reason in evidence for evidence in case.search.evidence.values())
    assert set(case.search.evidence) == {name for name, c in CAUSES.items() if c.forms}
    assert case.feed is case.given


def with_nan(model):
    model.get_layer("head").bias.assign([np.nan])
    return model
