"""Images unlike those that the model was trained on."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from keras import layers
from tiny_classifiers import (
    SIDE,
    case_of,
    colours,
    examined,
    faults_of,
    finding_of,
    mean_colour_reader,
    model_of,
    verdict,
    with_mistakes,
)

import debugcnn
from debugcnn.diagnosis import distribution_shift


def step_reader(limit):
    """Knows images with steps between neighbours above a limit from smooth ones."""
    model = model_of(
        layers.Conv2D(2, (1, 2), use_bias=False, activation="relu", name="steps"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid", name="head"),
    )
    kernel = np.zeros((1, 2, 3, 2))
    kernel[0, 0], kernel[0, 1] = np.array([1, -1]) / 3, np.array([-1, 1]) / 3
    model.get_layer("steps").set_weights([kernel])
    model.get_layer("head").set_weights([np.full((2, 1), 400.0), np.array([-400 * limit])])
    return model


def rough(count, seed):
    """Images with much noise (1) or little (0) on large shades."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    shade = np.linspace(-60, 60, SIDE)[:, None] * generator.uniform(0.5, 1, (count, 1, 1))
    spread = np.where(labels, 20, 8)[:, None, None]
    grey = 128 + shade + spread * generator.normal(size=(count, SIDE, SIDE))
    return np.float32(np.clip(np.repeat(grey[..., None], 3, -1), 0, 255)), labels


def light(count, seed):
    """Images that are light (1) or dark (0)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = generator.normal(120, 20, (count, SIDE, SIDE, 3)) + 40 * labels[:, None, None, None]
    return np.float32(np.clip(images, 0, 255)), labels


def blurred(images):
    return np.stack([cv2.GaussianBlur(image, (0, 0), 1.2) for image in images])


def noised(images):
    noise = np.random.default_rng(5).normal(0, 40, images.shape)
    return np.clip(images + noise, 0, 255)


def paler(images):
    grey = images.mean(-1, keepdims=True)
    return grey + 0.2 * (images - grey)


TINT = np.array([50.0, 0, -50])
SHIFTS = [
    ("light", light, lambda: mean_colour_reader((20,) * 3, -60 * 140 / 255), lambda p: p * 0.7),
    (
        "contrast",
        light,
        lambda: mean_colour_reader((20,) * 3, -60 * 155 / 255),
        lambda p: p * 0.2 + 112,
    ),
    ("tint", colours, mean_colour_reader, lambda p: np.clip(p + TINT, 0, 255)),
    ("colour", colours, lambda: mean_colour_reader(bias=-3.0), paler),
    ("sharpness", rough, lambda: step_reader(11 / 255), blurred),
    ("sharpness", rough, lambda: step_reader(11 / 255), noised),
]


@pytest.mark.parametrize(("name", "images_of", "model", "change"), SHIFTS)
def test_images_unlike_those_trained_on(name, images_of, model, change):
    (trained, trained_labels), (images, labels) = images_of(300, 1), images_of(300, 2)
    model, train = model(), (trained, trained_labels)
    case = case_of(model, images, labels, train=train)
    assert distribution_shift.shifts_of(case, case.given) == []
    changed = np.float32(change(images))
    case = case_of(model, changed, labels, train=train)
    shifts = distribution_shift.shifts_of(case, case.given)
    lows = [shift.loss.low for shift in shifts]
    assert lows == sorted(lows, reverse=True)
    shift = next(shift for shift in shifts if shift.name == name)
    assert shift.auc > 0.75 and shift.loss.low > 0.2 and shift.loss.accuracy > 0.85
    imitated = shift.imitate(trained)
    correct = debugcnn.logits(model, imitated / 255).argmax(1) == trained_labels
    assert shift.loss.left == pytest.approx(correct.mean())
    wanted, before, after = (
        np.median(distribution_shift.properties(p)[name]) for p in (changed, trained, imitated)
    )
    assert abs(after - wanted) < 0.35 * abs(before - wanted)


def test_properties_in_closed_form():
    image = np.zeros((1, 4, 4, 3), np.float32) + [130.0, 90, 80]
    amounts = {name: values[0] for name, values in distribution_shift.properties(image).items()}
    assert amounts == {"light": 100, "contrast": 0, "tint": 50, "colour": 50, "sharpness": 0}
    image[:, :, ::2] += 60  # stripes: steps of 60, a standard deviation of 30
    amounts = {name: values[0] for name, values in distribution_shift.properties(image).items()}
    assert amounts == {"light": 130, "contrast": 30, "tint": 50, "colour": 50, "sharpness": 2}
    grey = distribution_shift.properties(image[..., :1])
    assert (grey["tint"], grey["colour"], grey["light"]) == (0, 0, 160)


def test_a_shift_is_reported_under_the_cause_that_it_belongs_to():
    train, (images, labels) = colours(300, 1), colours(300, 2)
    tinted = np.float32(np.clip(images + TINT, 0, 255))
    options = dict(train=train, value_range=(0, 1))
    report = debugcnn.diagnose(mean_colour_reader(), tinted, labels, **options)
    assert faults_of(report) == ["channel_order"]
    finding = report.faults[0]
    assert finding.fix == distribution_shift.FIX
    assert "of another tint than those trained on" in finding.message
    measured = {(m.cause, m.measurement): m.verdict for m in report.measurements}
    assert measured["input_scale", "unlike_training"] == "fine"
    assert measured["resize", "unlike_training"] == "fine"
    assert finding_of(report, "memorised").verdict == "fine"  # compared with images made alike
    assert finding_of(report, "label_noise").verdict == "not examined"


def test_differences_that_cost_nothing_are_left_alone():
    train, (images, labels) = colours(300, 1), colours(300, 2)
    case = case_of(mean_colour_reader(), images * np.float32(0.6), labels, train=train)
    shift = distribution_shift.shifts_of(case, case.given)[0]
    assert shift.auc > 0.9 and shift.loss.low < 0.05
    assert distribution_shift.explanation(case, case.given, case.given_logits) is None
    worse = with_mistakes(labels, 90)  # 70 % are correct, for another reason
    assert distribution_shift.explanation(case, case.given, worse) is None


def test_a_shift_explains_only_what_is_wrong():
    train, (images, labels) = colours(300, 1), colours(300, 2)
    case = case_of(mean_colour_reader(), np.clip(images + TINT, 0, 255), labels, train=train)
    assert distribution_shift.explanation(case, case.given, case.given_logits).name == "tint"
    right = with_mistakes(labels, 0)  # yet all are correct
    assert distribution_shift.explanation(case, case.given, right) is None


def test_a_shift_is_not_looked_for_without_training_images_or_after_a_form():
    images, labels = colours(300, 2)
    tinted = np.float32(np.clip(images + TINT, 0, 255))
    case = case_of(mean_colour_reader(), tinted, labels)
    report = examined(case, "channel_order:unlike_training")
    assert report.findings[0].verdict == "not examined"
    assert report.findings[0].message == "No training images were given."
    case = case_of(mean_colour_reader(), images[..., ::-1], labels, train=colours(300, 1))
    assert verdict(case, "channel_order:channel_order") == "fault" and case.search.shift is None


def test_classes_count_as_they_are_among_the_images():
    """Shares of classes that differ are no shift: as many of each class are compared."""
    (trained, trained_labels), (images, labels) = colours(300, 1), colours(80)
    for chosen in (labels == 1, labels == 0):  # only reddish ones, only bluish ones
        case = case_of(mean_colour_reader(), images, labels, train=(trained, trained_labels))
        case.labels = labels[chosen]
        feed = replace(case.given, pixels=images[chosen])
        assert distribution_shift.shifts_of(case, feed) == []
    case = case_of(mean_colour_reader(), images, labels, train=(trained, trained_labels))
    case.labels = labels + 5  # no class in common
    assert distribution_shift.shifts_of(case, case.given) == []


def test_a_tint_is_no_other_light():
    train, (images, labels) = colours(300, 1), colours(300, 2)
    changed = np.float32(np.clip(images + np.array([60.0, 0, -20]), 0, 255))
    case = case_of(mean_colour_reader(), changed, labels, train=train)
    shifts = distribution_shift.shifts_of(case, case.given)
    tint = next(shift for shift in shifts if shift.name == "tint")
    assert tint.imitate(train[0]).mean() == pytest.approx(train[0].mean(), abs=3)
