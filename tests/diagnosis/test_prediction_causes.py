"""What activations and predictions show, from logits whose verdict is known."""

from functools import cache

import keras
import numpy as np
import pytest
from keras import layers
from scipy.stats import norm
from tiny_classifiers import (
    SIDE,
    case_of,
    colours,
    examined,
    finding_of,
    mean_colour_reader,
    model_of,
    softmax_of,
    three_colour_reader,
    three_colours,
    two_classes,
    verdict,
    with_mistakes,
)

from debugcnn.diagnosis.causes.dead_filters import zeroed_layers
from debugcnn.diagnosis.thresholds import threshold
from debugcnn.statistics import Z_ONE_IN_2000, wilson_interval

IMAGES = np.random.default_rng(0).uniform(0, 255, (1000, SIDE, SIDE, 3)).astype(np.float32)


def predicted(labels, logits, **options):
    """A Case whose model predicts these logits, of two classes or more."""
    classes = np.shape(logits)[1]
    return case_of(softmax_of(classes), IMAGES[: len(labels)], labels, logits, **options)


# ------------------------------------------------------------------------------------ dead_filters


@cache
def with_twenty_channels(is_map):
    inner = layers.Dense(20, activation="relu", name="inner")
    parts = [layers.GlobalAveragePooling2D(), inner]
    if is_map:
        inner = layers.Conv2D(20, 3, activation="relu", name="inner")
        parts = [inner, layers.GlobalAveragePooling2D()]
    return model_of(*parts, layers.Dense(1, name="head"))


def with_channels(is_map=True, dead=0, zero=0):
    """A model with a layer of 20 channels, of which some are dead and some have zeros only."""
    model = with_twenty_channels(is_map)
    inner = model.get_layer("inner")
    kernel = np.random.default_rng(0).normal(0, 0.2, inner.kernel.shape)
    kernel[..., :zero] = 0
    inner.set_weights([kernel, np.where(np.arange(20) < dead, -100, 5)])
    return model


@pytest.mark.parametrize(
    ("is_map", "dead", "wrong", "said"),
    [
        (True, 6, 10, "fine"),
        (True, 7, 10, "suspicious"),
        (True, 13, 10, "suspicious"),
        (True, 14, 10, "fault"),
        (True, 17, 3, "suspicious"),  # of a model that is right on more than 90 %
        (True, 17, 4, "fault"),
        (False, 15, 10, "suspicious"),  # dense units may be dead more often
        (False, 16, 10, "suspicious"),
        (False, 17, 10, "fault"),
    ],
)
def test_dead_channels_are_a_fault_of_a_model_that_errs(is_map, dead, wrong, said):
    images, labels = colours(40)
    model = with_channels(is_map, dead)
    case = case_of(model, images, labels, with_mistakes(labels, wrong))
    report = examined(case, "dead_filters:dead_filters")
    (finding,) = report.findings
    assert (finding.verdict, finding.value) == (said, dead / 20)
    assert finding.message == f"{dead} of 20 channels of inner never change."


@pytest.mark.parametrize(
    ("zero", "wrong", "said"),
    [
        (0, 10, "fine"),
        (2, 10, "suspicious"),  # 10 % is the limit
        (3, 10, "fault"),
        (3, 3, "suspicious"),
        (3, 5, "fault"),
    ],
)
def test_filters_of_zeros_are_a_fault_of_a_model_that_errs(zero, wrong, said):
    images, labels = colours(40)
    case = case_of(with_channels(zero=zero), images, labels, with_mistakes(labels, wrong))
    (finding,) = examined(case, "dead_filters").findings
    assert finding.verdict == said
    message = f"All weights of {zero} of 20 channels of inner are 0."
    assert (finding.message == message) is (zero > 0)


def test_the_channels_of_the_last_layer_are_not_counted():
    images, labels = colours(40)
    model = mean_colour_reader((0, 0, 0))  # one prediction for all, by the head
    case = case_of(model, images, labels, with_mistakes(labels, 20))
    assert verdict(case, "dead_filters:dead_filters") == "fine"
    assert case.channels["head"].constant == 1


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (("not_finite", "not_finite"), "suspicious"),
        (("output_head", "output_head"), "suspicious"),
        (("output_head", "sum_of_probabilities"), "suspicious"),
        (("output_head", "sum_of_sigmoids"), "fault"),
        (("untrained_layer", "last_layer"), "suspicious"),
        (("threshold", "balance_of_training"), "suspicious"),
        (("threshold", "threshold"), "fault"),
        (("leak", "leak"), "fault"),
    ],
)
def test_what_explains_dead_channels(root, said):
    images, labels = colours(40)
    case = case_of(with_channels(dead=17), images, labels, with_mistakes(labels, 20))
    case.faults.add(root)
    assert verdict(case, "dead_filters") == said


def emptied(model, name, zero):
    """The model, the first `zero` channels of one of its layers having zeros only."""
    layer = model.get_layer(name)
    if isinstance(layer, layers.BatchNormalization):
        for weights in (layer.gamma, layer.beta):
            weights.assign(np.where(np.arange(6) < zero, 0, np.asarray(weights) + 0.5))
        return
    kernel, bias = layer.get_weights()
    if isinstance(layer, layers.Conv2DTranspose):
        kernel[:, :, :zero] = 0  # its outputs come before its inputs
    else:
        kernel[..., :zero] = 0
    layer.set_weights([kernel, bias])


def with_many_kinds():
    """A model of all layers that can have empty channels."""
    keras.utils.set_random_seed(1)
    return model_of(
        layers.Conv2D(8, 3, name="conv", activation="relu"),
        layers.Conv2DTranspose(6, 2, strides=2, name="back", activation="relu"),
        layers.BatchNormalization(name="norm"),
        layers.BatchNormalization(name="plain", scale=False),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5, name="dense", activation="relu"),
        layers.Dense(3, name="head"),
    )


def test_filters_whose_weights_are_all_zero():
    model = with_many_kinds()
    assert zeroed_layers(model) == []
    emptied(model, "head", 1)
    assert zeroed_layers(model) == []  # those of the last layer do not count
    assert zeroed_layers(keras.Sequential([model, layers.Softmax()])) == []
    for name, zero in (("conv", 1), ("back", 4), ("norm", 2), ("dense", 4)):
        emptied(model, name, zero)
    expected = [("dense", 4, 5), ("back", 4, 6), ("norm", 2, 6), ("conv", 1, 8)]
    assert zeroed_layers(model) == expected


def test_empty_filters_of_depthwise_and_separable_convolutions():
    model = model_of(
        layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep"),
        layers.SeparableConv2D(5, 3, depth_multiplier=2, name="pair"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, name="head"),
    )
    assert zeroed_layers(model) == []
    kernel, bias = model.get_layer("deep").get_weights()
    kernel[:, :, 1, 0] = 0
    model.get_layer("deep").set_weights([kernel, bias])
    depthwise, pointwise, bias = model.get_layer("pair").get_weights()
    depthwise[:, :, 2:, 1], pointwise[..., :2] = 0, 0
    model.get_layer("pair").set_weights([depthwise, pointwise, bias])
    assert zeroed_layers(model) == [("pair", 2, 5), ("pair", 4, 12), ("deep", 1, 6)]


def test_what_is_zero_in_part_is_no_empty_filter():
    model = with_many_kinds()
    kernel, bias = model.get_layer("back").get_weights()
    kernel[:, :, :, :3] = 0  # some of its inputs are not used
    model.get_layer("back").set_weights([kernel, bias])
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[1:, :, :, 0] = kernel[:, :, 1:, 0] = 0
    model.get_layer("conv").set_weights([kernel, bias])
    model.get_layer("norm").gamma.assign(np.zeros(6))
    model.get_layer("norm").beta.assign(np.ones(6))
    assert zeroed_layers(model) == []


# --------------------------------------------------------------------------------------- exploding


@cache
def with_one_channel():
    conv = layers.Conv2D(1, 1, name="conv", use_bias=False)
    return model_of(conv, layers.GlobalAveragePooling2D(), layers.Dense(1, name="head"))


@pytest.mark.parametrize(
    ("scale", "said"),
    [(1.0, "fine"), (9e3, "fine"), (1.1e4, "suspicious"), (9e5, "suspicious"), (1.1e6, "fault")],
)
def test_huge_activations(scale, said):
    """The highest activation is the brightest pixel, in units of 255, times the weight."""
    images, labels = colours(40)
    images[3, 2, 2] = 255
    model = with_one_channel()
    model.get_layer("conv").set_weights([np.reshape([0, -scale, 0], (1, 1, 3, 1))])  # negative
    model.get_layer("head").set_weights([np.array([[0.001 / scale]]), np.array([0.1])])
    case = case_of(model, images, labels, with_mistakes(labels, 4))
    (finding,) = examined(case, "exploding").findings
    assert (finding.verdict, finding.value) == (said, pytest.approx(scale))
    assert finding.message == f"The activations of conv reach {scale:.2g}."


# --------------------------------------------------------- class_order, at_chance, constant_answer


@pytest.mark.parametrize(
    ("wrong", "said"), [(0, "fine"), (100, "fine"), (114, "fine"), (190, "fault"), (200, "fault")]
)
def test_two_classes_in_the_wrong_order_have_an_auc_below_chance(wrong, said):
    labels = np.arange(200) % 2
    case = predicted(labels, with_mistakes(labels, wrong))
    (finding,) = examined(case, "class_order").findings
    assert finding.verdict == said and finding.value == pytest.approx(case.auc.high)
    assert (case.auc.high < 0.4) is (said == "fault")


@pytest.mark.parametrize(
    ("correct", "paired", "said"),
    [(0.3, 0.6, "fault"), (0.3, 0.4, "fine"), (0.4, 0.57, "fine"), (0.2, 0.47, "fault")],
)
def test_classes_are_renamed_where_many_more_are_correct_then(correct, paired, said):
    labels = np.arange(90) % 3
    predictions = labels.copy()
    for k in range(3):
        own = np.flatnonzero(labels == k)
        first, second = round(correct * len(own)), round(paired * len(own))
        predictions[own[first:]] = (k + 2) % 3
        predictions[own[first : first + second]] = (k + 1) % 3
    report = examined(predicted(labels, 5.0 * np.eye(3)[predictions]), "class_order")
    (finding,) = report.findings
    assert finding.verdict == said
    assert finding.value == pytest.approx(paired - correct, abs=0.02)
    assert f"accuracy from {correct:.1%}" in finding.message or said == "fine"


def normal_logits(labels, strength, seed=0):
    """Scores with unit noise whose AUC is Phi(strength / sqrt 2)."""
    noise = np.random.default_rng(seed).normal(size=len(labels))
    return two_classes(strength * (labels - 0.5) + noise)


@pytest.mark.parametrize(
    ("strength", "count", "said"),
    [
        (0.0, 400, "fault"),
        (0.1, 400, "fault"),
        (1.0, 400, "fine"),
        (0.4, 400, "fine"),  # weak, but beyond chance
        (0.0, 40, "suspicious"),  # too few to exclude an AUC of 0.65
        (-1.0, 400, "fine"),  # that is the order of the classes
    ],
)
def test_predictions_no_better_than_guessing(strength, count, said):
    labels = np.arange(count) % 2
    report = examined(
        predicted(labels, normal_logits(labels, strength)), "at_chance", "class_order"
    )
    finding = finding_of(report, "at_chance")
    assert finding.verdict == said
    auc = report.case.auc
    upper = auc.value + norm.ppf(0.975) * (auc.high - auc.value) / Z_ONE_IN_2000
    assert finding.value == pytest.approx(upper, abs=1e-4)
    assert finding_of(report, "class_order").verdict == ("fault" if strength < 0 else "fine")


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (("dead_filters", "zeroed"), "suspicious"),
        (("not_finite", "not_finite"), "suspicious"),
        (("missing_activation", "activation_inserted"), "suspicious"),
        (("resize", "unlike_training"), "suspicious"),
        (("threshold", "balance_of_training"), "suspicious"),
        (("memorised", "memorised"), "suspicious"),
        (("threshold", "threshold"), "fault"),
        (("resize", "resize"), "fault"),
        (("leak", "leak"), "fault"),
    ],
)
def test_what_explains_guesses_and_one_prediction_for_all(root, said):
    labels = np.arange(400) % 2
    guesses = two_classes(normal_logits(labels, 0)[:, 1] - 9)  # always class 0
    case = predicted(labels, guesses)
    case.faults.add(root)
    report = examined(case, "at_chance", "constant_answer")
    assert finding_of(report, "at_chance").verdict == said
    constant = "fault" if root[0] == "memorised" else said
    assert finding_of(report, "constant_answer").verdict == constant


@pytest.mark.parametrize(
    ("others", "ones", "said"),
    [
        (0, 0.5, "fault"),
        (1, 0.5, "fault"),  # of 400
        (3, 0.5, "fine"),
        (0, 0.89, "fault"),
        (0, 0.91, "fine"),  # nearly all labels are of this class
    ],
)
def test_one_prediction_for_everything(others, ones, said):
    labels = np.int64(np.arange(400) < 400 * ones)
    scores = 3 + np.random.default_rng(0).uniform(0, 0.1, 400)
    scores[np.flatnonzero(labels == 0)[:others]] = -3
    (finding,) = examined(predicted(labels, two_classes(scores)), "constant_answer").findings
    assert (finding.verdict, finding.value) == (said, 1 - others / 400)


# --------------------------------------------------------------------------------------- threshold


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
    train = IMAGES[:200], np.int64(np.arange(200) >= 200 * trained)
    case = predicted(labels, two_classes(scores), train=train)
    report = examined(case, "threshold:balance_of_training", "constant_answer", "at_chance")
    assert finding_of(report, "threshold").verdict == said
    constant = finding_of(report, "constant_answer").verdict
    assert constant == ("suspicious" if said == "fault" else "fault")


def test_the_balance_of_training_explains_one_prediction_only():
    labels = np.arange(120) % 2
    train = IMAGES[:200], np.int64(np.arange(200) >= 180)
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


# --------------------------------------------------------------- saturated_answer, overconfident


def with_confidence(confidence, correct):
    """(labels, logits) of two classes: each image predicted with a confidence, correct or not."""
    confidence, correct = np.broadcast_arrays(confidence, correct)
    labels = np.arange(len(confidence)) % 2
    scores = np.log(confidence / (1 - confidence)) / 2
    sign = np.where(correct, 1, -1) * (2 * labels - 1)
    return labels, two_classes(scores * sign)


@pytest.mark.parametrize(
    ("confidence", "wrong", "count", "said"),
    [
        (0.9995, 50, 200, "fault"),
        (0.9995, 5, 200, "fine"),  # as published models do
        (0.9985, 50, 200, "fine"),  # not that certain
        (0.9995, 30, 200, "fault"),
        (0.9995, 20, 200, "fine"),  # 10 % of 200 may be 5 %
        (0.9995, 9, 22, "fault"),
    ],
)
def test_certain_and_wrong(confidence, wrong, count, said):
    labels, logits = with_confidence(np.full(count, confidence), np.arange(count) >= wrong)
    (finding,) = examined(predicted(labels, logits), "saturated_answer").findings
    assert finding.verdict == said
    certain = count if confidence > 0.999 else 0
    assert finding.message.startswith(f"{certain} predictions are at least 99.9 % certain")
    if certain:
        # Wilson's lower bound at 99.9 %, from that at 95 % in closed form.
        z, share = norm.ppf(0.9995), wrong / count
        centre = share + z**2 / (2 * count)
        half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
        assert finding.value == pytest.approx((centre - half) / (1 + z**2 / count), rel=1e-6)
        assert finding.value < wilson_interval(wrong, count)[0]
        np.testing.assert_array_equal(finding.evidence.details, np.arange(wrong))


def test_few_certain_predictions_are_not_judged():
    confidence = np.where(np.arange(100) < 19, 0.9999, 0.7)
    labels, logits = with_confidence(confidence, np.arange(100) > 12)
    assert verdict(predicted(labels, logits), "saturated_answer") == "fine"
    confidence[19] = 0.9999
    labels, logits = with_confidence(confidence, np.arange(100) > 12)
    assert verdict(predicted(labels, logits), "saturated_answer") == "fault"


@pytest.mark.parametrize(
    ("confidence", "wrong", "said"),
    [
        (0.95, 80, "fault"),
        (0.95, 20, "fine"),
        (0.75, 100, "fine"),
        (0.95, 60, "suspicious"),
        (0.6, 20, "fine"),  # underconfident
    ],
)
def test_more_confident_than_correct(confidence, wrong, said):
    labels, logits = with_confidence(np.full(400, confidence), np.arange(400) >= wrong)
    (finding,) = examined(predicted(labels, logits), "overconfident").findings
    assert finding.verdict == said
    share = 1 - wrong / 400
    error = np.sqrt(share * (1 - share) / 400)
    assert finding.value == pytest.approx(confidence - share - Z_ONE_IN_2000 * error, abs=1e-6)
    assert f"confidence is {confidence:.1%}, and its accuracy {share:.1%}" in finding.message


@pytest.mark.parametrize(
    ("root", "certain", "confident"),
    [
        (("missing_activation", "activation_inserted"), "suspicious", "suspicious"),
        (("class_order", "class_order"), "suspicious", "suspicious"),
        (("at_chance", "at_chance"), "suspicious", "suspicious"),
        (("channel_order", "unlike_training"), "suspicious", "suspicious"),
        (("constant_answer", "constant_answer"), "suspicious", "fault"),
        (("threshold", "threshold"), "fault", "suspicious"),
        (("channel_order", "channel_order"), "fault", "fault"),
        (("leak", "leak"), "fault", "fault"),
    ],
)
def test_what_explains_confidence_that_is_too_high(root, certain, confident):
    labels, logits = with_confidence(np.full(200, 0.9999), np.arange(200) >= 60)
    case = predicted(labels, logits)
    case.faults.add(root)
    report = examined(case, "saturated_answer", "overconfident")
    assert finding_of(report, "saturated_answer").verdict == certain
    assert finding_of(report, "overconfident").verdict == confident


# ---------------------------------------------------------------------------------- not a number


def test_nothing_is_said_of_predictions_that_are_not_finite():
    labels = np.arange(40) % 2
    logits = with_mistakes(labels, 4)
    logits[3] = np.nan
    causes = "at_chance", "class_order", "constant_answer", "threshold", "overconfident"
    report = examined(predicted(labels, logits), *causes, "saturated_answer")
    assert {f.verdict for f in report.findings} == {"not examined"}
    assert (report.accuracy, report.accuracy_as_fed, report.auc) == (None, None, None)
    assert str(report).startswith("40 images; the predictions are not finite")


def test_accuracy_counts_what_is_predicted():
    labels = np.arange(200) % 2
    report = examined(predicted(labels, with_mistakes(labels, 37)), "at_chance")
    assert report.accuracy == report.accuracy_as_fed == 1 - 37 / 200 and report.images == 200
    report = examined(case_of(three_colour_reader(), *three_colours()), "at_chance")
    assert (report.accuracy, report.auc) == (1, 1)


def test_a_model_that_reads_is_not_changed_by_reading_it():
    case = case_of(mean_colour_reader(), *colours(40))
    before = [np.array(w) for w in case.model.get_weights()]
    examined(case, "at_chance", "dead_filters", "exploding", "not_finite")
    assert all(np.array_equal(a, b) for a, b in zip(before, case.model.get_weights()))
