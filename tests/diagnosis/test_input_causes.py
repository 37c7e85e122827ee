"""Causes of the stage "input", on models that are fed wrongly."""

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from tiny_classifiers import (
    INPUT_CAUSES,
    SIDE,
    case_of,
    colours,
    corner_reader,
    examined,
    faults_of,
    fresh,
    mean_colour_reader,
    model_of,
    offered,
    red_halves,
    top_reader,
    verdict,
    with_a_corner,
    with_bars,
)

import debugcnn
from debugcnn.diagnosis.causes.resize import TALLER, WIDER, scaled
from debugcnn.diagnosis.forms import contest
from debugcnn.diagnosis.registry import CAUSES


def best_form(case, cause):
    """The Contest of the forms of one cause, tried on the case as it is fed."""
    options = CAUSES[cause].forms(case, case.given, case.given_logits)
    return contest(case.model, case.given, options, case.labels, case.given_logits)


BARS_OFF = "the bars at their edges cut off"
NEGATIVE = "black and white exchanged"


@pytest.mark.parametrize("wrong", [(0, 255), (0, 1 / 255)])  # all saturated; one prediction
def test_another_value_range_is_found(wrong):
    images, labels = colours()
    case = case_of(mean_colour_reader(bias=0.1), images, labels, value_range=wrong)
    outcome = best_form(case, "input_scale")
    assert outcome.is_better and outcome.tried.name == "pixel values 0 to 1"
    assert outcome.accuracies[0] == 0.5 < 0.9 < outcome.accuracies[1]
    expected = debugcnn.logits(case.model, images / 255)
    np.testing.assert_allclose(outcome.logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cause", INPUT_CAUSES)
def test_a_model_that_is_fed_as_in_training_needs_no_other_form(cause):
    assert not best_form(case_of(mean_colour_reader(), *colours()), cause).is_better


def dark_reader():
    """Predicts 1 for dark reddish images; what is lighter than a quarter is all alike to it."""
    model = fresh(mean_colour_reader)
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([4 * kernel, bias])
    return model


def test_a_negative_is_turned_back():
    images, labels = colours(60)
    dark = images * np.float32(0.2)
    model = dark_reader()
    assert not best_form(case_of(model, dark, labels), "input_scale").is_better
    report = debugcnn.diagnose(model, 255 - dark, labels, value_range=(0, 1))
    assert faults_of(report)[0] == "input_scale"
    assert "black and white exchanged" in report.faults[0].message
    np.testing.assert_allclose(report.case.feed.pixels, dark, atol=1e-4)
    assert report.case.feed.value_range == (0, 1) and report.accuracy > 0.95
    assert not {"class_order", "at_chance", "threshold"} & set(faults_of(report))


def test_exchanged_channels_are_found_and_the_rest_is_examined_without_them():
    images, labels = colours()
    report = debugcnn.diagnose(mean_colour_reader(), images[..., ::-1], labels, value_range=(0, 1))
    assert faults_of(report)[0] == "channel_order"
    assert report.accuracy_as_fed < 0.1 and report.accuracy > 0.9 and report.auc > 0.95
    np.testing.assert_array_equal(report.case.feed.pixels, images)
    outcome = report.faults[0].evidence.details
    assert outcome.tried.name == "red and blue exchanged"
    assert outcome.comparison.before < 0.2 < 0.9 < outcome.comparison.after
    np.testing.assert_allclose(
        report.case.logits,
        debugcnn.logits(mean_colour_reader(), images / 255),
        rtol=1e-4,
        atol=1e-4,
    )


def test_colour_is_taken_away_for_a_model_of_grey_images():
    """Images whose middle is lighter (1) or darker (0), each with a strong tint of its own."""
    generator, labels = np.random.default_rng(0), np.arange(60) % 2
    images = generator.uniform(90, 130, (60, SIDE, SIDE, 1)) + np.zeros(3)
    images[:, 4:-4, 4:-4] += 40 * (2 * labels[:, None, None, None] - 1)
    images += generator.uniform(-60, 60, (60, 1, 1, 1)) * [1, 0, -1]
    images = np.float32(np.clip(images, 0, 255))
    model = mean_colour_reader((200, 100, -100), bias=-200 * 110 / 255)
    case = case_of(model, images, labels)
    outcome = best_form(case, "channel_order")
    assert outcome.is_better and outcome.tried.name == "colour taken away"
    assert outcome.accuracies[1] == 1 > 0.8 > outcome.accuracies[0]
    assert verdict(case, "channel_order") == "fault"
    grey = np.repeat(images.mean(-1, keepdims=True), 3, -1)
    np.testing.assert_allclose(case.feed.pixels, grey, atol=1e-3)
    assert not best_form(case_of(model, grey, labels), "channel_order").is_better


@pytest.mark.parametrize(
    ("quarters", "name"),
    [(0, None), (2, "upside down"), (3, "rotated to the left"), (1, "rotated to the right")],
)
def test_rotated_images_are_found(quarters, name):
    images, labels = red_halves(60)
    case = case_of(top_reader(), np.rot90(images, quarters, (1, 2)), labels)
    report = examined(case, "flipped_or_rotated")
    assert faults_of(report) == (["flipped_or_rotated"] if name else [])
    if name:
        assert f"With the images {name}, accuracy rises" in report.faults[0].message
        np.testing.assert_array_equal(case.feed.pixels, images)


def test_mirrored_images_are_found():
    images, labels = red_halves(60)
    images = np.swapaxes(images, 1, 2)  # redder on the left (1)
    model = top_reader()
    inputs = keras.Input((SIDE, SIDE, 3))
    turned = keras.Model(inputs, model(layers.Permute((2, 1, 3))(inputs)))
    case = case_of(turned, images[:, :, ::-1], labels)
    # Upside down is the same to this model as mirrored: it has the same AUC, and comes first.
    outcome = best_form(case, "flipped_or_rotated")
    assert outcome.is_better and outcome.accuracies == (0, 1)
    mirrored = [offered("flipped_or_rotated", case.given)["the images mirrored"]]
    assert contest(turned, case.given, mirrored, labels, case.given_logits).accuracies == (0, 1)


def test_bars_are_cut_off_for_a_model_that_looks_at_a_corner():
    images, labels = colours()
    part = np.stack([cv2.resize(image, (SIDE, 10)) for image in images])
    barred = with_bars(with_a_corner(part, labels), 3)
    case = case_of(corner_reader(), barred, labels)
    outcome = best_form(case, "resize")
    assert outcome.is_better and outcome.tried.name == BARS_OFF and outcome.accuracies == (0.5, 1)
    variants = {"cropping": with_a_corner(images, labels)}
    other = case_of(corner_reader(), images, labels, resized_variants=variants)
    report = examined(other, "resize")
    assert "With the images resized by cropping" in report.faults[0].message
    np.testing.assert_array_equal(other.feed.pixels, variants["cropping"])
    assert np.mean(other.correct) == 1


def spot_reader(rows, columns):
    """Images with a spot right above the middle (1), scaled; and a model that looks for the spot
    where it is in images that are not: (model, images, labels).
    """
    labels = np.arange(160) % 2
    images = np.random.default_rng(0).normal(100, 12, (160, 24, 24, 1))
    images[labels == 1, 4:6, 18:20] += 60
    head = layers.Dense(1, "sigmoid", name="head")
    model = model_of(layers.Flatten(), head, side=24, channels=1)
    kernel = np.zeros((24, 24))
    kernel[4:6, 18:20] = 20
    head.set_weights([kernel.reshape(-1, 1), np.array([-20 * 4 * 130 / 255])])
    return model, scaled(np.float32(np.clip(images, 0, 255)), rows, columns), labels


@pytest.mark.parametrize(
    ("rows", "columns", "name"), [(1, 1, None), (1, 0.75, WIDER), (0.75, 1, TALLER)]
)
def test_squeezed_images_are_stretched_again(rows, columns, name):
    case = case_of(*spot_reader(rows, columns))
    report = examined(case, "resize")
    assert faults_of(report) == (["resize"] if name else [])
    if name:
        assert f"With {name}" in report.faults[0].message
        stretched = scaled(case.given.pixels, 4 / 3 if rows < 1 else 1, 4 / 3 if columns < 1 else 1)
        np.testing.assert_allclose(case.feed.pixels, stretched)
