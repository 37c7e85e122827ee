"""Value ranges of pixels, and finding out which of them a model takes."""

import keras
import numpy as np
import pytest
from keras import layers
from small_models import SIDES, chain, colour_means, images_for, plain

import debugcnn
from debugcnn.views.range_search import clearly_more_correct


@pytest.mark.parametrize("kind", debugcnn.VALUE_RANGES)
def test_pixels_and_back(kind):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *SIDES, 3)).astype("f4")
    images = debugcnn.from_pixels(pixels, kind)
    np.testing.assert_allclose(debugcnn.to_pixels(images, kind), pixels, atol=1e-3)
    mode = {(-1, 1): "tf", "caffe": "caffe", "torch": "torch"}.get(kind)
    if mode:
        expected = keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=mode)
        np.testing.assert_allclose(images, expected, atol=1e-4)
    else:
        np.testing.assert_allclose([images.min(), images.max()], kind, atol=0.01 * kind[1])


@pytest.mark.parametrize("kind", [(1, 0), "tf", 255, (0, 1, 2)])
def test_no_value_range_gets_a_sentence(kind):
    with pytest.raises(ValueError, match="value_range is the lowest and the highest"):
        debugcnn.from_pixels(np.zeros((1, 2, 2, 3)), kind)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ([layers.Rescaling(1 / 255)], (0, 255)),
        ([layers.Rescaling(1 / 127.5, -1)], (0, 255)),
        ([layers.Rescaling(2, -1)], (0, 1)),
        ([layers.Normalization(mean=[120.0] * 3, variance=[4000.0] * 3)], (0, 255)),
        ([layers.Normalization(mean=[0.45] * 3, variance=[0.05] * 3)], (0, 1)),
        ([layers.ZeroPadding2D(1), layers.Rescaling(1 / 255)], (0, 255)),
    ],
)
def test_a_scaling_inside_the_model_tells_its_value_range(inside, expected):
    model = chain(*inside, layers.Conv2D(4, 3))
    estimate = debugcnn.find_value_range(model, images_for(model))
    assert estimate == (expected, "inside", [])


def coloured(count):
    """Noise with more of one colour, and its number."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    pixels = rng.uniform(20, 170, (count, 12, 16, 3)).astype("f4")
    pixels[np.arange(count), :, :, labels] += rng.uniform(10, 80, (count, 1, 1))
    return pixels, labels


@pytest.mark.parametrize("value_range", debugcnn.VALUE_RANGES)
def test_statistics_of_the_first_normalization_decide(value_range):
    body = [layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(momentum=0)]
    model = chain(*body, sides=(12, 16))
    pixels, _ = coloured(60)
    model(debugcnn.from_pixels(pixels, value_range), training=True)  # which stores the statistics
    estimate = debugcnn.find_value_range(model, pixels[:40])
    assert (estimate.value_range, estimate.reason) == (value_range, "tried")
    assert [trial.value_range for trial in estimate.trials] == list(debugcnn.VALUE_RANGES)
    assert estimate.trials[0].accuracy is None


def test_labels_tell_the_value_range():
    model = colour_means(30 * np.eye(3), [4, 0, -4], "softmax", sides=(12, 16))
    pixels, labels = coloured(100)
    estimate = debugcnn.find_value_range(model, pixels, labels)
    accuracy = {trial.value_range: trial.accuracy for trial in estimate.trials}
    by_hand = {
        kind: (model(debugcnn.from_pixels(pixels, kind)).numpy().argmax(1) == labels).mean()
        for kind in debugcnn.VALUE_RANGES
    }
    assert accuracy == pytest.approx(by_hand) and len(set(accuracy.values())) > 1
    assert accuracy[estimate.value_range] == max(accuracy.values())


def test_a_constant_prediction_leaves_the_value_range_undecided():
    model = chain(layers.Conv2D(4, 3), channels=1)
    model.layers[-1].kernel.assign(np.zeros((4, 3)))
    estimate = debugcnn.find_value_range(model, images_for(model))
    assert (estimate.value_range, estimate.reason) == ((0, 1), "undecided")
    assert [trial.value_range for trial in estimate.trials] == [(0, 255), (0, 1), (-1, 1)]


def entropy(*shares):
    shares = np.array(shares)
    return -(shares * np.log2(shares)).sum(0)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_trials_hold_what_they_say(activation):
    rng = np.random.default_rng(0)
    kernel, pixels = rng.normal(0, 0.01, (3, 3)), rng.uniform(0, 255, (20, 4, 6, 3)).astype("f4")
    model = colour_means(kernel, [0.1, 0, -0.1], activation, normalised=True)
    mean, variance = np.float32([3, 2, 1]), np.float32([5, 4, 6])
    model.get_layer("norm").moving_mean.assign(mean)
    model.get_layer("norm").moving_variance.assign(variance)
    labels = rng.integers(0, 3, 20)
    for trial in debugcnn.find_value_range(model, pixels, labels).trials:
        images = debugcnn.from_pixels(pixels, trial.value_range)
        p = np.float64(model(images))
        assert trial.accuracy == pytest.approx((p.argmax(1) == labels).mean())
        shift = abs(images.mean((0, 1, 2)) - mean) / np.sqrt(variance + 1e-3)
        ratio = abs(np.log((images.var((0, 1, 2)) + 1e-3) / (variance + 1e-3)))
        assert trial.mismatch == pytest.approx((shift + ratio).mean(), rel=1e-3)
        if activation == "softmax":
            information = entropy(*p.mean(0)) - entropy(*p.T).mean()
            confidence = p.max(1).mean()
        else:
            each = entropy(p, 1 - p).sum(1).mean()
            information = entropy(p.mean(0), 1 - p.mean(0)).sum() - each
            confidence = np.maximum(p, 1 - p).mean()
        expected = pytest.approx((confidence, information), rel=1e-3, abs=1e-5)
        assert (trial.confidence, trial.information) == expected


def test_a_range_with_which_predictions_are_all_alike_does_not_fit():
    model = colour_means([[0.05, 0], [-0.05, 0], [0, 0]], [0, 0], "softmax")
    pixels = plain([140, 100, 100], [100, 140, 140])  # alike in BGR: the last two are one number
    assert debugcnn.find_value_range(model, pixels).reason == "undecided"  # so few pixels
    estimate = debugcnn.find_value_range(model, np.repeat(pixels, 16, axis=0))
    assert (estimate.value_range, estimate.reason) == ((0, 255), "tried")
    assert [t.value_range for t in estimate.trials if t.information > 0.05] == [(0, 255)]


def test_a_range_with_which_all_predictions_are_confident_does_not_fit():
    model = colour_means(np.full((3, 1), 20 / 3), [-10], "sigmoid")  # brighter than 0.5 or not
    pixels = plain([90, 90, 90], [165, 165, 165])
    assert debugcnn.find_value_range(model, pixels).reason == "undecided"  # so few pixels
    estimate = debugcnn.find_value_range(model, np.repeat(pixels, 16, axis=0))
    assert (estimate.value_range, estimate.reason) == ((0, 1), "tried")
    assert [t.value_range for t in estimate.trials if t.confidence < 0.98] == [(0, 1)]
    assert sum(trial.information > 0.05 for trial in estimate.trials) > 1


def test_of_several_ranges_the_one_with_the_highest_accuracy_is_the_guess():
    model = colour_means([[6], [-6], [0]], [1.2], "sigmoid")
    pixels = plain([140, 100, 100], [100, 140, 140])
    estimate = debugcnn.find_value_range(model, pixels, [1, 0])
    assert (estimate.value_range, estimate.reason) == ((-1, 1), "undecided")
    accuracy = {trial.value_range: trial.accuracy for trial in estimate.trials}
    assert (accuracy[0, 1], accuracy[-1, 1]) == (0.5, 1)


def test_statistics_between_those_of_two_ranges_decide_nothing():
    model = colour_means(np.eye(3), [0, 0, 0], "softmax", normalised=True)
    pixels = np.random.default_rng(0).uniform(0, 255, (20, 4, 6, 3)).astype("f4")
    bytes_, caffe = (debugcnn.from_pixels(pixels, kind) for kind in ((0, 255), "caffe"))
    mean = 0.45 * bytes_.mean((0, 1, 2)) + 0.55 * caffe.mean((0, 1, 2))
    model.get_layer("norm").moving_mean.assign(mean)
    model.get_layer("norm").moving_variance.assign(caffe.var((0, 1, 2)))
    estimate = debugcnn.find_value_range(model, pixels)
    assert (estimate.value_range, estimate.reason) == ("caffe", "undecided")
    model.get_layer("norm").moving_mean.assign(caffe.mean((0, 1, 2)))
    estimate = debugcnn.find_value_range(model, pixels)
    assert (estimate.value_range, estimate.reason) == ("caffe", "tried")


def test_a_normalization_that_was_never_trained_tells_nothing():
    model = colour_means(np.eye(3), [0, 0, 0], "softmax", normalised=True)
    estimate = debugcnn.find_value_range(model, plain([140, 100, 100], [100, 140, 140]))
    assert [trial.mismatch for trial in estimate.trials] == [None] * 5


def test_ranges_are_tried_on_images_from_the_whole_collection():
    model = colour_means([[0.1], [0.1], [0.1]], [-30], "sigmoid")  # brighter than 100 or not
    pixels = plain(*[[50, 50, 50]] * 300, *[[150, 150, 150]] * 300)
    estimate = debugcnn.find_value_range(model, pixels, np.arange(600) >= 300)
    accuracy = {trial.value_range: trial.accuracy for trial in estimate.trials}
    assert (accuracy[0, 255], accuracy[0, 1]) == (1, 0.5)


@pytest.mark.parametrize(
    ("won", "lost", "times", "clearly"),  # by tables of the binomial distribution
    [
        *((5, 0, 1, False), (6, 0, 1, True), (0, 6, 1, False), (8, 2, 1, False), (9, 1, 1, True)),
        *((0, 0, 1, False), (7, 0, 4, False), (8, 0, 4, True)),  # 2 / 2^7 and 2 / 2^8, by 0.0125
    ],
)
def test_more_correct_predictions_are_clear_by_a_sign_test(won, lost, times, clearly):
    alike = np.tile([True, False], 20)
    correct = np.r_[alike, np.ones(won, bool), np.zeros(lost, bool)]
    other = np.r_[alike, np.zeros(won, bool), np.ones(lost, bool)]
    assert clearly_more_correct(correct, other, times) is clearly
