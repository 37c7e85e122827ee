"""Finding out which values a model takes for pixels."""

from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import binomtest

from .kinds import role_of
from .methods import Output, ValueRange
from .predictions import classifier_head, probabilities
from .tracing import BATCH, check_images, image_shape, in_batches, record
from .value_ranges import VALUE_RANGES, from_pixels, limits

BY_FREQUENCY = ((0, 1), (0, 255), (-1, 1), "caffe", "torch")  # the most common first
MAX_IMAGES = 4 * BATCH  # on which each range is tried
# The values below were set by hand on the models of the tests.
WIDTH_INSIDE = 2  # between black and white behind a scaling inside a model, about
CLEAR_MISMATCH = 0.5  # times the mismatch of the second best range, below which the best is clear
MIN_INFORMATION, MAX_CONFIDENCE = 0.05, 0.98  # bits, probability: what a fitting range lies between
FEW_IMAGES = 32  # with fewer, these two decide nothing
SIGNIFICANCE = 0.05  # of a sign test between two ranges


class Trial(NamedTuple):
    """How a model predicts images within one value range."""

    value_range: ValueRange
    confidence: float  # mean probability of the most probable class
    information: float  # bits: mutual information of image and predicted class
    mismatch: float | None  # of the statistics stored in the first batch normalization
    accuracy: float | None  # where there are labels


class RangeEstimate(NamedTuple):
    """The values that a model seems to take for pixels."""

    value_range: ValueRange
    reason: Literal["inside", "tried", "undecided"]  # "inside": the model scales pixels itself
    trials: list[Trial]


def find_value_range(
    model: keras.Model, pixels: Any, labels: Any = None, output: Output = None
) -> RangeEstimate:
    """The values that the model takes for pixels, as far as they can be told.

    `pixels` are images (n, h, w, c), RGB from 0 to 255; `labels` their class numbers (n,), if they
    are known; `output` is the name or number of one of several outputs. A model that rescales
    pixels before its first convolution shows by that which values it takes. For any other model,
    each of VALUE_RANGES is tried on up to 128 images. Within the right one, the first batch
    normalization meets the statistics that it stored in training; more labelled images are
    classified correctly; and predictions are neither all alike (values too small) nor nearly all
    confident (values too large).

    The reason is "undecided" if several ranges do about as well, or if there are too few images to
    tell. The range is then a guess: the one with the highest accuracy, or else the most common one.
    Raises ValueError for images that the model does not take, and for a model that is no
    classifier.

    >>> import debugcnn, keras, numpy as np
    >>> body = [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), *body, keras.layers.Dense(2)])
    >>> debugcnn.find_value_range(model, np.zeros((1, 8, 8, 3)))
    RangeEstimate(value_range=(0, 255), reason='inside', trials=[])
    """
    pixels = check_images(model, pixels)
    indices = np.linspace(0, len(pixels) - 1, min(len(pixels), MAX_IMAGES)).astype(int)
    pixels = pixels[indices]
    labels = None if labels is None else np.asarray(labels)[indices]
    inside = _range_of_scaling(model)
    if inside:
        return RangeEstimate(inside, "inside", [])
    ranges = VALUE_RANGES if pixels.shape[3] == 3 else VALUE_RANGES[:3]
    results = [_try(model, pixels, labels, value_range, output) for value_range in ranges]
    trials, correct = [trial for trial, _ in results], [correct for _, correct in results]
    mismatches = np.array([trial.mismatch for trial in trials], float)
    if np.isfinite(mismatches).all():
        best, second = np.argsort(mismatches)[:2]
        decided = mismatches[best] < CLEAR_MISMATCH * mismatches[second]
    else:
        best, decided = _best_by_predictions(trials, np.array(correct), labels is not None)
    reason = "tried" if decided else "undecided"
    return RangeEstimate(trials[best].value_range, reason, trials)


def _range_of_scaling(model):
    """The range whose width the scaling inside the model brings to WIDTH_INSIDE; None where the
    model does not scale.
    """
    gain = _gain(model)
    if abs(gain - 1) <= 1e-3:
        return None

    def misfit(value_range):
        low, high = limits(value_range)
        return abs(np.log(max(gain, 1e-9) * (high - low) / WIDTH_INSIDE))

    return min(VALUE_RANGES[:3], key=misfit)


def _gain(model):
    """By how much the first convolution's input changes with the pixels, at most."""
    shape = image_shape(model)

    def first_input(images):
        runs = record(model, images)[1]
        roles = {"convolution", "dense"}
        tensor = next((run.input for run in runs if role_of(run.layer) in roles), images)
        middle = [size // 2 for size in tensor.shape[1:-1]]
        return tf.cast(tensor[(slice(None), *middle)], tf.float32)

    extremes = np.stack([np.zeros(shape, np.float32), np.full(shape, 255, np.float32)])
    black, white = in_batches(first_input, extremes)
    return float(np.abs(white - black).max() / 255)


def _best_by_predictions(trials, correct, labelled):
    """(index of the best trial, whether it is clear), by accuracy, information and confidence."""
    candidates = list(range(len(trials)))
    if labelled:
        best = correct[int(np.argmax(correct.mean(1)))]
        others = len(trials) - 1
        candidates = [i for i in candidates if not clearly_more_correct(best, correct[i], others)]
    by_labels = len(candidates) == 1
    plausible = [
        i
        for i in candidates
        if trials[i].information > MIN_INFORMATION and trials[i].confidence < MAX_CONFIDENCE
    ]
    candidates = plausible or candidates
    best = min(
        candidates,
        key=lambda i: (-correct[i].mean(), BY_FREQUENCY.index(trials[i].value_range)),
    )
    enough = correct.shape[1] >= FEW_IMAGES or by_labels
    return best, len(candidates) == 1 and bool(plausible) and enough


def _try(model, pixels, labels, value_range, output):
    """A Trial, and which images are classified correctly, (n,) bool."""
    images = from_pixels(pixels, value_range)
    shares = probabilities(model, images, output)
    bounded = np.clip(shares, 1e-7, 1 - 1e-7)
    independent = classifier_head(model, output).kind == "labels"

    def entropy(p):
        bits = -p * np.log2(p)
        return (bits - (1 - p) * np.log2(1 - p) if independent else bits).sum(-1)

    confidence = np.maximum(shares, 1 - shares).mean() if independent else shares.max(1).mean()
    information = entropy(bounded.mean(0)) - entropy(bounded).mean()
    correct = np.zeros(len(pixels), bool) if labels is None else shares.argmax(1) == labels
    accuracy = None if labels is None else float(correct.mean())
    mismatch = _mismatch(model, images)
    return Trial(value_range, float(confidence), float(information), mismatch, accuracy), correct


def _mismatch(model, images):
    """How far the first batch normalization's stored statistics are from those of the images, in
    standard deviations plus the logarithm of the variances' ratio; None where there are none.
    """
    normalizations = []

    def moments(batch):
        for run in record(model, batch)[1]:
            if isinstance(run.layer, keras.layers.BatchNormalization):
                normalizations.append(run.layer)
                axes = list(range(run.input.shape.rank - 1))
                values = tf.cast(run.input, tf.float32)
                mean, square = (tf.reduce_mean(x, axes) for x in (values, tf.square(values)))
                return mean[None], square[None]
        return tf.zeros((1, 0)), tf.zeros((1, 0))

    means, squares = in_batches(moments, images, batch=len(images))
    if not normalizations:
        return None
    layer = normalizations[0]
    stored_mean, stored_variance = (
        np.asarray(variable, np.float32) for variable in (layer.moving_mean, layer.moving_variance)
    )
    if not stored_mean.any() and (stored_variance == 1).all():
        return None  # never updated
    variance = squares[0] - means[0] ** 2
    shift = np.abs(means[0] - stored_mean) / np.sqrt(stored_variance + layer.epsilon)
    ratio = np.abs(np.log((variance + layer.epsilon) / (stored_variance + layer.epsilon)))
    return float(np.mean(shift + ratio))


def clearly_more_correct(correct: np.ndarray, other: np.ndarray, comparisons: int = 1) -> bool:
    """Whether more images are classified correctly in one trial than in another, (n,) bool each.

    An exact sign test at 5 % over that many `comparisons` (Bonferroni).
    """
    won, lost = int(np.sum(correct & ~other)), int(np.sum(other & ~correct))
    return won > lost and bool(binomtest(won, won + lost).pvalue < SIGNIFICANCE / comparisons)
