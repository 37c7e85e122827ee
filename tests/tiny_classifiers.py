"""Tiny classifiers whose weights are set by hand, images on which their predictions are known, and
the diagnosis of these by some causes only.
"""

from functools import cache
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import softmax

from debugcnn.diagnosis import engine
from debugcnn.diagnosis.case import Case
from debugcnn.diagnosis.registry import CAUSES
from debugcnn.diagnosis.search import Search

SIDE = 16
WIDE = 40
NOISE = np.random.default_rng(0).uniform(0, 255, (1000, SIDE, SIDE, 3)).astype(np.float32)


def model_of(*inner, side=SIDE, channels=3):
    return keras.Sequential([keras.Input((side, side, channels)), *inner])


# ------------------------------------------------------------------------------------------ images


def colours(count=60, seed=0):
    """Noisy images, and whether each is reddish (1) or bluish (0)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = generator.uniform(60, 140, (count, SIDE, SIDE, 3))
    images[..., 0] += 30 * labels[:, None, None]
    images[..., 2] += 30 * (1 - labels[:, None, None])
    images += generator.normal(0, 12, (count, 1, 1, 3))
    return np.float32(np.clip(images, 0, 255)), labels


def red_halves(count, seed=0):
    """Noisy images whose upper half (1) or lower half (0) is redder."""
    labels = np.arange(count) % 2
    images = np.random.default_rng(seed + 1).uniform(60, 140, (count, SIDE, SIDE, 3))
    images[:, : SIDE // 2, :, 0] += 60 * labels[:, None, None]
    images[:, SIDE // 2 :, :, 0] += 60 * (1 - labels[:, None, None])
    return np.float32(images), labels


def red_beside_blue(count=120, seed=0):
    """Grey images (0), and images whose left half is redder and right half bluer (1)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = generator.normal(128, 8, (count, SIDE, SIDE, 3))
    sides = np.where(np.arange(SIDE) < SIDE // 2, 1, -1)[:, None] * np.array([1, 0, -1])
    images += labels[:, None, None, None] * 40 * sides
    return np.float32(np.clip(images, 0, 255)), labels


def with_a_corner(images, labels):
    """The images, those of class 1 with a blue corner at the bottom right."""
    images = images.copy()
    images[labels == 1, -2:, -2:] = [0, 0, 250]
    return images


def textured(count, side=48, seed=0):
    """Images with details of all sizes, each unlike the others."""
    generator = np.random.default_rng(seed)
    images = np.zeros((count, side, side, 3), np.float32)
    for cells, spread in ((5, 60), (12, 40), (24, 30), (48, 12)):
        small = np.float32(generator.normal(0, spread, (count, cells, cells, 3)))
        images += [cv2.resize(s, (side, side), interpolation=cv2.INTER_CUBIC) for s in small]
    return np.clip(images + 128, 0, 255)


def as_jpeg(image, quality):
    data = cv2.imencode(".jpg", np.uint8(image), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.float32(cv2.imdecode(data, cv2.IMREAD_COLOR))


def with_bars(images, above=0, beside=0, colour=(0, 0, 0)):
    """The images with bars at top and bottom, or at left and right."""
    count, height, width, channels = images.shape
    padded = np.zeros((count, height + 2 * above, width + 2 * beside, channels), np.float32)
    padded += np.float32(colour)[:channels]
    padded[:, above : above + height, beside : beside + width] = images
    return padded


# ------------------------------------------------------------------------------------------ models
# Each is built once, since tracing it takes longer than running it. A test that changes weights
# takes a fresh one: `fresh(top_reader)`.


def fresh(builder, *args, **options):
    """A model of one of the functions below that no other test uses."""
    return builder.__wrapped__(*args, **options)


@cache
def mean_colour_reader(weights=(40, 0, -40), bias=0.0, head="sigmoid"):
    """Its logit is the weighted mean of red, green and blue, each from 0 to 1. By default it
    predicts 1 for reddish images.
    """
    model = model_of(
        layers.Conv2D(4, 1, activation="relu6", name="conv"),  # saturates at 1
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation=head, name="head"),
    )
    kernel = np.zeros((1, 1, 3, 4))
    kernel[0, 0, :, :3] = 6 * np.eye(3)
    kernel[0, 0, :, 3] = 2
    model.get_layer("conv").set_weights([kernel, np.full(4, 0.01)])
    weights = np.reshape([*weights, 0.0], (4, 1)) / 6
    model.get_layer("head").set_weights([weights, np.array([bias])])
    return model


@cache
def softmax_of(classes):
    """A softmax over so many classes, for tests that give the logits."""
    return model_of(layers.GlobalAveragePooling2D(), layers.Dense(classes, "softmax"))


@cache
def top_reader(weights=(20, -20)):
    """Its logit is how much redder the upper half is than the lower one."""
    model = model_of(
        layers.Conv2D(1, 1, activation="relu", name="conv"),
        layers.AveragePooling2D((SIDE // 2, SIDE)),
        layers.Flatten(),
        layers.Dense(1, activation="sigmoid", name="head"),
    )
    model.get_layer("conv").set_weights([np.reshape([1.0, 0, 0], (1, 1, 3, 1)), np.array([0.1])])
    model.get_layer("head").set_weights([np.reshape(weights, (2, 1)), np.array([0.01])])
    return model


@cache
def corner_reader():
    """Predicts 1 where the bottom right corner is blue."""
    model = model_of(
        layers.Conv2D(2, 1, name="conv", activation="relu"),
        layers.Cropping2D(((SIDE - 2, 0), (SIDE - 2, 0))),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid", name="head"),
    )
    kernel = np.reshape([[-1.0, 1], [0, 0], [1, -1]], (1, 1, 3, 2))
    model.get_layer("conv").set_weights([kernel, np.zeros(2)])
    model.get_layer("head").set_weights([np.array([[50.0], [-50]]), np.array([-20.0])])
    return model


@cache
def blue_spot_reader():
    """Predicts 1 where something blue is anywhere in an image of WIDE x WIDE pixels."""
    model = model_of(
        layers.Conv2D(2, 1, name="conv", activation="relu"),
        layers.GlobalMaxPooling2D(),
        layers.Dense(1, activation="sigmoid", name="head"),
        side=WIDE,
    )
    kernel = np.reshape([[-1.0, 1], [0, 0], [1, -1]], (1, 1, 3, 2))
    model.get_layer("conv").set_weights([kernel, np.zeros(2)])
    model.get_layer("head").set_weights([np.array([[50.0], [0]]), np.array([-25.0])])
    return model


def without_blue(count):
    """Images of WIDE x WIDE pixels in which nothing is blue, and labels that nothing shows."""
    small, labels = colours(count)
    images = np.tile(small, (1, 3, 3, 1))[:, :WIDE, :WIDE]
    images[..., 2] = np.minimum(images[..., 2], images[..., 0] + 60)
    return images, labels


@cache
def three_colour_reader():
    """A softmax over the three colours."""
    model = model_of(layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax", name="head"))
    model.get_layer("head").set_weights([40 * np.eye(3), np.zeros(3)])
    return model


def three_colours(count=90, seed=0):
    """Images whose middle has one of three colours, and labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = generator.uniform(60, 140, (count, SIDE, SIDE, 3))
    images[:, 4:-4, 4:-4] += 100 * np.eye(3)[labels][:, None, None]
    return np.float32(images), labels


@cache
def normalized_reader(mean=0.0, spread=0.17):
    """Predicts 1 for reddish images, through batch normalization with these stored statistics; for
    `colours` from 0 to 1, those are about 0 and 0.17.
    """
    model = model_of(
        layers.Conv2D(1, 1, use_bias=False, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid", name="head"),
    )
    model.get_layer("conv").set_weights([np.reshape([1.0, 0, -1], (1, 1, 3, 1))])
    norm = model.get_layer("norm")
    norm.moving_mean.assign([mean])
    norm.moving_variance.assign([spread**2])
    model.get_layer("head").set_weights([np.array([[20.0]]), np.array([-8.0])])
    return model


@cache
def variation_reader(activation=None):
    """Knows `red_beside_blue` if a ReLU cuts off at 0 what its second layer returns, red less blue;
    without that activation the mean is 0 for both classes.
    """
    model = model_of(
        layers.Conv2D(3, 1, activation="relu", name="first"),
        layers.Conv2D(1, 1, use_bias=False, name="second"),
        *([layers.Activation(activation)] if activation else []),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid", name="head"),
    )
    model.get_layer("first").set_weights([np.eye(3)[None, None], np.full(3, 0.01)])
    model.get_layer("second").set_weights([np.reshape([1.0, 0, -1], (1, 1, 3, 1))])
    model.get_layer("head").set_weights([np.array([[60.0]]), np.array([-4.0])])
    return model


@keras.saving.register_keras_serializable("tests")
class AlwaysDropout(layers.Dropout):
    """Dropout that was called with training=True."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


# --------------------------------------------------------------------------------------- diagnosis


def two_classes(scores):
    """Logits (n, 2) of one score for each image, above 0 for class 1."""
    return np.stack([-scores, scores], 1)


def with_mistakes(labels, count, scale=4.0):
    """Logits of two classes that are wrong for the first `count` images."""
    scores = scale * (2.0 * labels - 1) * np.linspace(0.5, 1.5, len(labels))
    scores[:count] *= -1
    return two_classes(scores)


def normal_logits(labels, strength, seed=0):
    """Scores with unit noise whose AUC is Phi(strength / sqrt 2)."""
    noise = np.random.default_rng(seed).normal(size=len(labels))
    return two_classes(strength * (labels - 0.5) + noise)


def case_of(model, images, labels, logits=None, **options):
    """A Case of images from 0 to 1, before any measurement. With `logits` (n, classes), these are
    what the model predicts, and no other input is searched for.
    """
    case = Case(model, images, labels, **({"value_range": (0, 1)} | options))
    if logits is not None:
        logits = np.asarray(logits)
        case.given_outputs = logits, softmax(logits, 1)
        case.search = Search(case.given, logits)
    return case


def predicted(labels, logits, **options):
    """A Case whose model predicts these logits, of two classes or more."""
    classes = np.shape(logits)[1]
    return case_of(softmax_of(classes), NOISE[: len(labels)], labels, logits, **options)


def examined(case, *references):
    """The Report of the measurements that references name, and of no others."""
    ordered = engine.in_order()
    chosen = set(engine.meant(references, ordered))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "in_order", lambda: [m for m in ordered if m in chosen])
        return engine.examine(case)


def finding_of(report, cause):
    return next(finding for finding in report.findings if finding.cause == cause)


def verdict(case, cause, *others):
    """The verdict on a cause, measured together with others: "cause" or "cause:measurement"."""
    return finding_of(examined(case, cause, *others), cause.partition(":")[0]).verdict


def faults_of(report):
    return [finding.cause for finding in report.faults]


INPUT_CAUSES = "input_scale", "channel_order", "flipped_or_rotated", "resize"


def offered(cause, feed, labels=None, logits=None):
    """{name: Form} that a cause offers for a feed."""
    case = SimpleNamespace(labels=labels)
    return {form.name: form for form in CAUSES[cause].forms(case, feed, logits)}
