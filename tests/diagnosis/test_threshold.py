"""A threshold that favours one class."""

import numpy as np
import pytest
from scipy.stats import norm
from tiny_classifiers import (
    NOISE,
    case_of,
    colours,
    examined,
    finding_of,
    mean_colour_reader,
    normal_logits,
    predicted,
    two_classes,
    verdict,
    with_mistakes,
)

from debugcnn.diagnosis.thresholds import threshold
from debugcnn.statistics import Z_ONE_IN_2000


def test_each_class_counts_the_same_for_the_threshold():
    labels = np.int64(np.random.default_rng(0).random(6000) < 0.2)
    scores = 2.0 * labels - 1 + np.random.default_rng(1).normal(0, 1, 6000)
    fine = threshold(two_classes(scores), labels)
    # Each image counting the same, the best threshold is at log(4) / 2 = 0.69.
    assert abs(fine.gain) < 0.01 and abs(fine.shifts[1]) < 0.5 and not fine.helps
    recall = [np.mean((scores[labels == k] > 0) == k) for k in (0, 1)]
    assert fine.accuracy == pytest.approx(np.mean(recall))
    assert fine.shares == pytest.approx((np.mean(scores <= 0), np.mean(scores > 0)))
    assert fine.excess[1] == pytest.approx(np.mean(scores > 0) - labels.mean())
    shifted = threshold(two_classes(scores - 1.2), labels)
    assert shifted.gain > max(0.1, 4 * shifted.error)
    assert shifted.shifts == pytest.approx((0, 2.4), abs=0.6)
    assert shifted.possible == pytest.approx(fine.possible, abs=0.005)
    plain = np.mean((scores > 0) == labels) - np.mean((scores > 1.2) == labels)
    assert shifted.plain == pytest.approx(plain, abs=0.02)


def test_the_best_threshold_of_normal_scores_is_in_the_middle():
    """With equal variances the best cut is halfway between the means, where Phi(1) are correct."""
    labels = np.arange(4000) % 2
    scores = 2.0 * labels - 1 + np.random.default_rng(0).normal(size=4000) + 3
    better = threshold(two_classes(scores), labels)
    assert better.shifts == pytest.approx((0, -6), abs=0.8)
    assert better.possible == pytest.approx(norm.cdf(1), abs=0.015)
    assert better.accuracy == pytest.approx((norm.cdf(4) + norm.cdf(-2)) / 2, abs=0.01)
    assert better.helps and better.shares[1] > 0.95


def test_the_threshold_is_chosen_on_other_images():
    noise = np.random.default_rng(0).normal(size=(50, 40, 2))
    possible = [threshold(logits, np.arange(40) % 2).possible for logits in noise]
    assert np.mean(possible) < 0.53  # chosen on the images that are counted, it is near 0.6
    noise = np.random.default_rng(0).normal(size=(20, 40, 4))
    possible = [threshold(logits, np.arange(40) % 4).possible for logits in noise]
    assert np.mean(possible) < 0.35


@pytest.mark.parametrize("classes", [2, 3])
def test_the_error_of_the_gain_is_as_it_varies(classes):
    generator = np.random.default_rng(0)
    labels, gains, errors = np.arange(240) % classes, [], []
    for _ in range(25):
        logits = 2.5 * np.eye(classes)[labels] + generator.normal(0, 1, (240, classes))
        better = threshold(logits + np.arange(classes), labels)
        gains.append(better.gain)
        errors.append(better.error)
    assert 0.65 < np.mean(errors) / np.std(gains) < 1.6


def test_biases_of_many_classes():
    labels = np.arange(600) % 4
    logits = 4.0 * np.eye(4)[labels] + np.random.default_rng(0).normal(0, 1, (600, 4))
    off = threshold(logits + [0, 0, 5, -3], labels)
    assert off.possible > 0.95 > 0.7 > off.accuracy and off.shares[2] > 0.5 and off.helps
    assert off.shifts == pytest.approx((0, 0, -5, 3), abs=1)
    for scale in (0.01, 100):  # whatever their scale
        again = threshold((logits + [0, 0, 5, -3]) * scale, labels)
        assert again.possible == pytest.approx(off.possible, abs=0.01)
    fine = threshold(logits, labels)
    assert abs(fine.gain) < 0.02 and fine.gain <= 2 * fine.error and not fine.helps


def test_each_of_many_classes_counts_the_same():
    generator = np.random.default_rng(0)
    labels = generator.choice(3, 3000, p=[0.8, 0.1, 0.1])
    logits = 3.0 * np.eye(3)[labels] + generator.normal(0, 1.5, (3000, 3))
    fine = threshold(logits, labels)
    # Each image counting the same, the biases are off by log(8) * 1.5 ** 2 / 3 = 1.6.
    assert abs(fine.gain) < 0.01 and fine.shifts == pytest.approx((0, 0, 0), abs=0.6)
    shifted = threshold(logits + [2.5, 0, 0], labels)
    assert shifted.gain > max(0.1, 4 * shifted.error)
    assert shifted.shifts == pytest.approx((0, 2.5, 2.5), abs=0.6)
    assert shifted.plain < 0 < fine.accuracy and not shifted.helps  # more of class 0 are correct


@pytest.mark.parametrize(
    ("scores", "labels", "shift"),
    [
        ([-1.0, 2, 3, 4, 1], [0, 0, 0, 0, 1], 0),  # by class 1/4 and 1; by image 4 of 5 above 4
        ([-3.0, -2, 2, 4], [0, 0, 1, 1], 0),
        ([-9.0, -8, -4, -2], [0, 0, 1, 1], 6),
    ],
)
def test_the_best_cut_in_closed_form(scores, labels, shift):
    """Both halves hold the same images, so that each chooses the best cut of all."""
    order = np.argsort(labels, kind="stable").repeat(2)
    x, labels = np.array(scores)[order], np.array(labels)[order]
    better = threshold(np.stack([0 * x, x], 1), labels)
    assert better.shifts == pytest.approx((0, shift))


@pytest.mark.parametrize(
    ("shift", "ones", "said"),
    [
        (0.0, 0.5, "fine"),
        (1.5, 0.5, "fault"),
        (-1.5, 0.5, "fault"),
        (0.0, 0.2, "fine"),  # that a class is rare is no fault of the model
        (-1.0, 0.2, "fine"),
        (1.0, 0.2, "fault"),
    ],
)
def test_a_threshold_that_favours_one_class(shift, ones, said):
    labels = np.int64(np.random.default_rng(0).random(800) < ones)
    scores = 2.0 * labels - 1 + np.random.default_rng(1).normal(0, 1, 800) + shift
    (finding,) = examined(predicted(labels, two_classes(scores)), "threshold:threshold").findings
    assert finding.verdict == said
    if said == "fault":
        favoured = int(shift > 0)
        share = np.mean((scores > 0) == favoured)
        assert f"class {favoured} is predicted for {share:.0%} of the images" in finding.message
        assert f"labelled on {np.mean(labels == favoured):.0%}" in finding.message


def test_a_threshold_is_no_matter_of_a_model_that_knows_nothing():
    """Chance finds a better threshold, and the model does not separate the classes."""
    labels = np.arange(400) % 2
    for strength, said in ((0.0, "fine"), (0.25, "fine"), (1.0, "fault")):
        logits = two_classes(normal_logits(labels, strength)[:, 1] + 1.5)
        assert verdict(predicted(labels, logits), "threshold:threshold") == said


def test_a_gain_needs_less_certainty_where_nearly_all_get_one_prediction():
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 2
    scores = 0.35 * (2.0 * labels - 1) + generator.normal(0, 1, 200) - 1.2
    better = threshold(two_classes(scores), labels)
    assert 1.96 * better.error < better.gain < Z_ONE_IN_2000 * better.error
    assert np.mean(scores < 0) == 0.845 and better.helps  # 0.345 more than labelled so
    scores = 0.5 * (2.0 * labels - 1) + np.random.default_rng(25).normal(0, 1, 200) - 0.55
    better = threshold(two_classes(scores), labels)
    assert 1.96 * better.error < better.gain < Z_ONE_IN_2000 * better.error
    assert max(better.excess) < 0.25 and not better.helps


@pytest.mark.parametrize("root", ["missing_activation", "dead_filters", "batch_statistics", "leak"])
def test_what_explains_a_threshold(root):
    labels = np.arange(400) % 2
    case = predicted(labels, two_classes(normal_logits(labels, 2)[:, 1] + 1.5))
    case.faults.add((root, CAUSES_MEASUREMENT[root]))
    said = "fault" if root == "leak" else "suspicious"
    assert verdict(case, "threshold:threshold") == said


CAUSES_MEASUREMENT = {
    "missing_activation": "activation_inserted",
    "dead_filters": "zeroed",
    "batch_statistics": "statistics_of_these_images",
    "leak": "leak",
}


@pytest.mark.parametrize(
    ("scale", "bias", "off", "constant"),
    [
        (40, 12, "fault", "suspicious"),  # it separates them, and only its threshold is off
        (0.4, 0.5, "fault", "fault"),  # all predictions are nearly the same
        (40, 0.1, "fine", "fine"),
    ],
)
def test_one_prediction_for_all_by_a_threshold(scale, bias, off, constant):
    images, labels = colours(200)
    case = case_of(mean_colour_reader((scale, 0, -scale), bias=bias), images, labels)
    report = examined(case, "threshold:threshold", "constant_answer")
    assert finding_of(report, "threshold").verdict == off
    assert finding_of(report, "constant_answer").verdict == constant
    assert report.auc > 0.9


def test_one_prediction_for_all_of_a_model_that_separates_nothing():
    images, labels = colours(200)
    case = case_of(mean_colour_reader((0, 40, 0), bias=-7), images, labels)  # varies, too
    report = examined(case, "threshold:threshold", "constant_answer")
    assert finding_of(report, "threshold").verdict == "fine"
    assert finding_of(report, "constant_answer").verdict == "fault"


@pytest.mark.parametrize(
    ("trained", "here", "said"),
    [
        (0.9, 0.5, "fault"),
        (0.7, 0.5, "fine"),
        (0.5, 0.5, "fine"),
        (0.9, 0.85, "fine"),  # as many as there are here
    ],
)
def test_a_class_that_is_nearly_all_there_was_in_training(trained, here, said):
    labels = np.int64(np.arange(120) % 20 >= 20 * here)
    scores = np.tile([-1.8, -1.2], 60)  # the same for both classes
    train = NOISE[:200], np.int64(np.arange(200) >= 200 * trained)
    case = predicted(labels, two_classes(scores), train=train)
    report = examined(case, "threshold:balance_of_training", "constant_answer", "at_chance")
    assert finding_of(report, "threshold").verdict == said
    constant = finding_of(report, "constant_answer").verdict
    assert constant == ("suspicious" if said == "fault" else "fault")


def test_the_balance_of_training_explains_one_prediction_only():
    labels = np.arange(120) % 2
    train = NOISE[:200], np.int64(np.arange(200) >= 180)
    for logits, reason in (
        (with_mistakes(labels, 30), "The model predicts more than one class."),
        (two_classes(np.full(120, -2.0)), None),
    ):
        case = predicted(labels, logits, train=train)
        (finding,) = examined(case, "threshold:balance_of_training").findings
        if reason:
            assert (finding.verdict, finding.message) == ("not examined", reason)
        else:
            assert finding.verdict == "fault" and finding.value == pytest.approx(0.9 - 0.5)
            assert "it is 90% of the training images and 50% of these" in finding.message
    (finding,) = examined(predicted(labels, logits), "threshold:balance_of_training").findings
    assert finding.message == "No training images were given."
