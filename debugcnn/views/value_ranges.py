"""Which values of pixels a model takes, and how to give it those."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import binomtest

from .kinds import role_of
from .predictions import classifier_head, probabilities
from .tracing import BATCH, check_images, image_shape, in_batches, record

# As Keras' preprocess_input for weights from Caffe (BGR, less the means) and from PyTorch.
CAFFE_MEANS = np.array([103.939, 116.779, 123.68], np.float32)
TORCH_MEANS = np.array([0.485, 0.456, 0.406], np.float32)
TORCH_SPREADS = np.array([0.229, 0.224, 0.225], np.float32)
VALUE_RANGES = ((0, 255), (0, 1), (-1, 1), "caffe", "torch")
USUAL = 2  # difference between black and white behind a model's own scaling, about
CLEARLY = 0.5  # times the mismatch of the next best
SPREAD, SURE = 0.05, 0.98  # bits, probability: what a fitting range exceeds, and stays below
FEW = 32  # photos, below which the two alone decide nothing
LIKELY = ((0, 1), (0, 255), (-1, 1), "caffe", "torch")  # most common first, where several fit


def limits(value_range):
    """The lowest and the highest value that each channel takes, as the model counts them."""
    if isinstance(value_range, str):
        if value_range == "caffe":
            return -CAFFE_MEANS, 255 - CAFFE_MEANS
        if value_range == "torch":
            return -TORCH_MEANS / TORCH_SPREADS, (1 - TORCH_MEANS) / TORCH_SPREADS
    elif np.shape(value_range) == (2,) and np.all(np.diff(value_range) > 0):
        return tuple(np.asarray(value_range, np.float32))
    raise ValueError(
        f"value_range is the lowest and the highest value of a pixel, such as (0, 255), or 'caffe' "
        f"or 'torch', not {value_range!r}."
    )


def from_pixels(photos, value_range):
    """Photos (n, h, w, c), RGB from 0 to 255, as a model takes them: float32 within `value_range`.

    'caffe' is BGR less the means of ImageNet, 'torch' RGB from 0 to 1, less the means and divided
    by the spreads of ImageNet, as in keras.applications' preprocess_input.
    """
    low, high = limits(value_range)
    photos = np.asarray(photos, np.float32)
    photos = photos[..., ::-1] if value_range == "caffe" else photos
    images = np.multiply(photos, (high - low) / np.float32(255), order="C")
    images += low
    return images


def to_pixels(images, value_range):
    """The reverse of `from_pixels`: float32, RGB, 0 to 255."""
    low, high = limits(value_range)
    photos = (np.asarray(images, np.float32) - low) / (high - low) * 255
    return photos[..., ::-1] if value_range == "caffe" else photos


class Trial(NamedTuple):
    """How a model answers photos within one value range."""

    value_range: tuple | str
    sure: float  # mean probability of the most probable class
    spread: float  # bits by which the answers to different photos differ
    mismatch: float | None  # of the statistics stored in the first batch normalisation
    accuracy: float | None  # where there are labels


class FoundRange(NamedTuple):
    """The values that a model seems to take."""

    value_range: tuple | str
    reason: str  # "inside": the model scales pixels itself; "tried"; "undecided"
    trials: list


def find_value_range(model, photos, labels=None, output=None):
    """A `FoundRange`: the values of pixels that the model takes, as far as it can be told.

    `photos` are (n, h, w, c), RGB from 0 to 255; `labels` their classes (n,), if they are known. A
    model that changes the scale of pixels before its first convolution tells by that. For any other
    one, each of VALUE_RANGES is tried on up to 128 photos. With the right one, a net's first batch
    normalisation meets the statistics that it stored in training; of photos with labels more are
    right; and the answers are neither all alike (values too small) nor nearly all sure (too large).

    The reason is "undecided" where several ranges do about as well, or where there are too few
    photos to tell; the range is then a guess, the one with the most right answers, or else the most
    common one.
    """
    photos = check_images(model, photos)
    some = np.linspace(0, len(photos) - 1, min(len(photos), 4 * BATCH)).astype(int)
    photos = photos[some]
    labels = None if labels is None else np.asarray(labels)[some]
    gain = _gain(model)
    if abs(gain - 1) > 1e-3:
        widths = {kind: limits(kind)[1] - limits(kind)[0] for kind in ((0, 255), (0, 1), (-1, 1))}
        fits = min(widths, key=lambda kind: abs(np.log(max(gain, 1e-9) * widths[kind] / USUAL)))
        return FoundRange(fits, "inside", [])
    kinds = VALUE_RANGES if photos.shape[3] == 3 else VALUE_RANGES[:3]
    tried = [_try(model, photos, labels, kind, output) for kind in kinds]
    trials, right = [trial for trial, _ in tried], np.array([hits for _, hits in tried])
    mismatches = np.array([trial.mismatch for trial in trials], float)
    if np.isfinite(mismatches).all():
        best, second = np.argsort(mismatches)[:2]
        decided = mismatches[best] < CLEARLY * mismatches[second]
        return FoundRange(trials[best].value_range, "tried" if decided else "undecided", trials)
    able = range(len(trials))
    if labels is not None:
        best = int(np.argmax(right.mean(1)))
        able = [i for i in able if not _clearly_better(right[best], right[i], len(trials) - 1)]
    by_labels = len(able)
    lively = [i for i in able if trials[i].spread > SPREAD and trials[i].sure < SURE]
    able = lively or able
    common = [LIKELY.index(trials[i].value_range) for i in range(len(trials))]
    guess = min(able, key=lambda i: (-right[i].mean(), common[i]))
    enough = len(photos) >= FEW or by_labels == 1
    decided = len(able) == 1 and bool(lively) and enough
    return FoundRange(trials[guess].value_range, "tried" if decided else "undecided", trials)


def _first_convolution(runs):
    roles = {"convolution", "dense"}
    return next((run for run in runs if role_of(run.layer) in roles), None)


def _gain(model):
    """By how much the first convolution's input changes with the pixels, at most."""
    shape = image_shape(model)

    def look(images):
        run = _first_convolution(record(model, images)[1])
        given = run.input if run else images
        middle = [size // 2 for size in given.shape[1:-1]]
        return tf.cast(given[(slice(None), *middle)], tf.float32)

    extremes = np.stack([np.zeros(shape, np.float32), np.full(shape, 255, np.float32)])
    black, white = in_batches(look, extremes)
    return float(np.abs(white - black).max() / 255)


def _try(model, photos, labels, value_range, output):
    images = from_pixels(photos, value_range)
    answer = probabilities(model, images, output)
    bounded = np.clip(answer, 1e-7, 1 - 1e-7)
    several = classifier_head(model, output).kind == "labels"

    def bits(p):
        entropy = -p * np.log2(p)
        return (entropy - (1 - p) * np.log2(1 - p) if several else entropy).sum(-1)

    sure = np.maximum(answer, 1 - answer).mean() if several else answer.max(1).mean()
    spread = bits(bounded.mean(0)) - bits(bounded).mean()
    hits = np.zeros(len(photos)) if labels is None else answer.argmax(1) == labels
    accuracy = None if labels is None else float(hits.mean())
    mismatch = _mismatch(model, images)
    return Trial(value_range, float(sure), float(spread), mismatch, accuracy), hits


def _mismatch(model, images):
    """How far the first batch normalisation's stored statistics are from those of the images."""
    found = []

    def look(batch):
        for run in record(model, batch)[1]:
            if isinstance(run.layer, keras.layers.BatchNormalization):
                found.append(run.layer)
                axes = list(range(run.input.shape.rank - 1))
                given = tf.cast(run.input, tf.float32)
                mean, square = (tf.reduce_mean(x, axes) for x in (given, tf.square(given)))
                return mean[None], square[None]
        return tf.zeros((1, 0)), tf.zeros((1, 0))

    means, squares = in_batches(look, images, batch=len(images))
    if not found:
        return None
    stored_mean, stored_variance = (
        np.asarray(v, np.float32) for v in (found[0].moving_mean, found[0].moving_variance)
    )
    if not stored_mean.any() and (stored_variance == 1).all():
        return None  # never updated
    epsilon = found[0].epsilon
    variance = squares[0] - means[0] ** 2
    shift = np.abs(means[0] - stored_mean) / np.sqrt(stored_variance + epsilon)
    ratio = np.abs(np.log((variance + epsilon) / (stored_variance + epsilon)))
    return float(np.mean(shift + ratio))


def _clearly_better(right, other, times=1):
    """Whether more photos are right than under another range, by an exact sign test at 5 % of any
    error where it is asked that many `times` (Bonferroni).
    """
    won, lost = int(np.sum(right & ~other)), int(np.sum(other & ~right))
    return won > lost and bool(binomtest(won, won + lost).pvalue < 0.05 / times)
