"""What activations show: dead and empty channels, huge values."""

from functools import cache

import keras
import numpy as np
import pytest
from keras import layers
from tiny_classifiers import (
    case_of,
    colours,
    examined,
    mean_colour_reader,
    model_of,
    verdict,
    with_mistakes,
)

from debugcnn.diagnosis.causes.dead_filters import zeroed_layers

# ------------------------------------------------------------------------------------- dead_filters


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


# ---------------------------------------------------------------------------------------- exploding


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
