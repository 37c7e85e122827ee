"""For each cause a tiny model and images with that fault, and their diagnoses."""

from functools import cache
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from tiny_classifiers import (
    SIDE,
    AlwaysDropout,
    colours,
    corner_reader,
    fresh,
    mean_colour_reader,
    model_of,
    normalized_reader,
    red_beside_blue,
    red_halves,
    three_colour_reader,
    three_colours,
    top_reader,
    variation_reader,
    with_a_corner,
)

import debugcnn
from debugcnn.diagnosis.report import Report


def blank():
    images, labels = red_beside_blue()
    images[:12] = 0
    return variation_reader("relu"), images, labels, {}


def not_finite():
    model = fresh(mean_colour_reader)
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[0, 0, 0, 1] = np.nan
    model.get_layer("conv").set_weights([kernel, bias])
    return model, *colours(40), {}


def single_softmax():
    head = layers.Dense(1, "softmax")
    model = model_of(layers.GlobalAveragePooling2D(), head)
    head.bias.assign([0.1])
    return model, *colours(60), {}


def untrained():
    keras.utils.set_random_seed(3)
    hidden = layers.Dense(8, activation="relu")
    return model_of(layers.Flatten(), hidden, layers.Dense(1, "sigmoid")), *colours(60), {}


def always_dropout():
    model = mean_colour_reader()
    inputs = keras.Input((SIDE, SIDE, 3))
    x = AlwaysDropout(0.3)(model.get_layer("conv")(inputs))
    for layer in model.layers[1:]:
        x = layer(x)
    return keras.Model(inputs, x), *colours(60), {}


def upside_down():
    images, labels = red_halves(60)
    return top_reader(), images[:, ::-1], labels, {}


def resized():
    images, labels = colours(60)
    variants = {"cropping": with_a_corner(images, labels)}
    return corner_reader(), images, labels, {"resized_variants": variants}


def dead():
    """A quarter of the channels read colours, which is not enough for 90 %; the others are dead."""
    images, labels = colours(200)
    conv, head = layers.Conv2D(16, 1, activation="relu", name="conv"), layers.Dense(1, "sigmoid")
    model = model_of(conv, layers.GlobalAveragePooling2D(), head)
    kernel = np.zeros((1, 1, 3, 16))
    kernel[0, 0, 0, :2], kernel[0, 0, 2, 2:4] = 1, 1
    kernel[0, 0, :, 4:] = -1
    conv.set_weights([kernel, np.full(16, 0.01)])
    head.set_weights([np.r_[[20, 20, -6, -6], np.zeros(12)][:, None], np.array([-14.5])])
    return model, images, labels, {}


def exploding():
    images, labels = red_halves(60)
    model = fresh(top_reader)
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([kernel * 1e7, bias * 1e7])
    kernel, bias = model.get_layer("head").get_weights()
    model.get_layer("head").set_weights([kernel / 1e7, bias])
    return model, images, labels, {}


def classes_renamed():
    images, labels = three_colours()
    return three_colour_reader(), images, np.array([1, 2, 0])[labels], {}


def with_noise(count):
    """`red_halves`, of which 84 % can be told: the upper half has a random level of its own."""
    images, labels = red_halves(count)
    images[:, : SIDE // 2, :, 0] += np.random.default_rng(0).normal(0, 60, (count, 1, 1))
    return np.clip(images, 0, 255), labels


def certain_mistakes():
    return top_reader((150, -150)), *with_noise(300), {}


def too_confident():
    return top_reader((21, -21)), *with_noise(800), {}


def trained_on():
    return top_reader(), *red_halves(60), {"train": red_halves(60)}


def memorized():
    """A linear model that fits 120 random images exactly."""
    generator = np.random.default_rng(0)
    images, labels = generator.uniform(0, 255, (240, 8, 8, 3)), np.arange(240) % 2
    flat = images[:120].reshape(120, -1) / 255
    flat = np.c_[flat, np.ones(120)]
    weights = np.linalg.lstsq(flat, 6.0 * labels[:120] - 3, rcond=None)[0]
    head = layers.Dense(1, "sigmoid")
    model = model_of(layers.Flatten(), head, side=8)
    head.set_weights([weights[:-1, None], weights[-1:]])
    return model, images[120:], labels[120:], {"train": (images[:120], labels[:120])}


def wrong_labels():
    images, labels = red_halves(200)
    wrong = np.random.default_rng(0).random(200) < 0.12
    return top_reader(), images, np.where(wrong, 1 - labels, labels), {}


def with_corner():
    images, labels = red_halves(60)
    return corner_reader(), with_a_corner(images, labels), labels, {}


FAULTS = {
    "blank_photos": blank,
    "not_finite": not_finite,
    "output_head": single_softmax,
    "missing_activation": lambda: (variation_reader(), *red_beside_blue(), {}),
    "untrained_layer": untrained,
    "random_answer": always_dropout,
    "input_scale": lambda: (
        mean_colour_reader(bias=0.1),
        *colours(60),
        {"value_range": (0, 1 / 255)},
    ),
    "channel_order": lambda: (mean_colour_reader(), colours(60)[0][..., ::-1], colours(60)[1], {}),
    "flipped_or_rotated": upside_down,
    "resize": resized,
    "batch_statistics": lambda: (normalized_reader(3.0), *colours(60), {}),
    "dead_filters": dead,
    "class_order": classes_renamed,
    "constant_answer": lambda: (mean_colour_reader((0, 40, 0), bias=90), *colours(60), {}),
    "at_chance": lambda: (mean_colour_reader((0, 90, 0), bias=-35), *colours(400), {}),
    "threshold": lambda: (mean_colour_reader(bias=3), *colours(200), {}),
    "saturated_answer": certain_mistakes,
    "overconfident": too_confident,
    "exploding": exploding,
    "leak": trained_on,
    "memorised": memorized,
    "label_noise": wrong_labels,
    "shortcut": with_corner,
}


class Diagnosed(NamedTuple):
    """A case, its report, and copies of what it had before."""

    model: keras.Model
    arrays: list[np.ndarray]
    report: Report
    weights: list[np.ndarray]
    calls: dict
    copies: list[np.ndarray]


@cache
def diagnosed(name):
    """The diagnosis of a case with one fault; cached, since many tests look at it."""
    keras.utils.set_random_seed(0)
    model, images, labels, options = FAULTS[name]()
    arrays = [images, labels, *options.get("train", ())]
    weights = [np.array(weight) for weight in model.get_weights()]
    calls = {layer.name: layer.call for layer in model.layers}
    copies = [array.copy() for array in arrays]
    report = debugcnn.diagnose(model, images, labels, **({"value_range": (0, 1)} | options))
    return Diagnosed(model, arrays, report, weights, calls, copies)


def report_of(name):
    return diagnosed(name).report
