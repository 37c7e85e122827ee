"""What a layer responds to: its objective, its responses and its measured receptive field."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from small_models import (
    SIDES,
    chain,
    classifier,
    images_for,
    layer_of,
    noise,
    randomise_trainable,
    sequential,
)

import debugcnn


def test_the_response_is_the_highest_sum_before_the_activation():
    model, images = classifier(build="functional in functional"), noise()
    normalized = debugcnn.activations(model, images, ["norm"])["norm"].max((1, 2))
    for layer in ("first", "norm", "relu", layer_of(model, "relu")):
        np.testing.assert_allclose(debugcnn.responses(model, images, layer), normalized, rtol=1e-5)
    last = layer_of(model, "last")
    pooled = debugcnn.activations(model, images, ["pool"])["pool"]
    sums = keras.ops.conv(pooled, last.kernel, padding="same") + last.bias
    before = debugcnn.responses(model, images, "last")
    np.testing.assert_allclose(before, np.max(sums, (1, 2)), rtol=1e-4)
    assert (before < 0).any()
    objectives = [debugcnn.objective(model, layer) for layer in ("first", "relu", "last", "pool")]
    assert objectives == [("norm", False), ("relu", True), ("last", True), ("pool", False)]


def test_only_a_normalization_right_behind_the_convolution_counts():
    body = [
        layers.Conv2D(2, 1, name="apart"),
        layers.Conv2D(2, 1, name="fused", activation="relu"),
        layers.BatchNormalization(name="norm"),
    ]
    model = sequential([*body, layers.GlobalAveragePooling2D(), layers.Dense(1)])
    assert debugcnn.objective(model, "apart") == ("apart", False)
    assert debugcnn.objective(model, "fused") == ("fused", True)


ACTIVATIONS = [  # layers with names of their own, since an operation may be numbered like one
    *(layers.ReLU(name="of_relu"), layers.LeakyReLU(name="of_leaky"), layers.PReLU(name="of_p")),
    *(layers.ELU(name="of_elu"), layers.Activation("tanh", name="of_tanh")),
    *(layers.Activation("swish", name="of_swish"), layers.Activation("gelu", name="of_gelu")),
    lambda x: ops.threshold(x, 1, 0),
    *(ops.celu, ops.elu, ops.gelu, ops.hard_sigmoid, ops.hard_silu, ops.hard_tanh, ops.leaky_relu),
    *(ops.log_sigmoid, ops.relu, ops.relu6, ops.selu, ops.sigmoid, ops.silu, ops.softplus),
    *(ops.softsign, ops.sparse_plus, ops.tanh, ops.tanh_shrink),
]


def test_the_input_of_an_activation_layer_is_its_objective():
    images = keras.Input((*SIDES, 3))
    maps = layers.Conv2D(4, 3, name="look")(images)
    activated = [activation(maps) for activation in ACTIVATIONS]
    names = [keras.Model(maps, output).operations[-1].name for output in activated]
    model = randomise_trainable(keras.Model(images, activated))
    objectives = [debugcnn.objective(model, name) for name in names]
    assert objectives == [(name, True) for name in names]
    assert debugcnn.objective(model, "look") == ("look", False)
    images = images_for(model)
    expected = debugcnn.responses(model, images, "look")
    for name in (*names[:6], names[-1]):
        np.testing.assert_array_equal(debugcnn.responses(model, images, name), expected)


@pytest.mark.parametrize("activation", ["relu", "swish", "gelu", "elu", "tanh", "softplus"])
def test_the_input_of_a_convolutions_own_activation_is_its_objective(activation):
    model = chain(layers.Conv2D(4, 3, activation=activation, name="look"))
    convolution, images = model.get_layer("look"), images_for(model)
    assert debugcnn.objective(model, "look") == ("look", True)
    expected = np.max(ops.conv(images, convolution.kernel) + convolution.bias, (1, 2))
    np.testing.assert_allclose(debugcnn.responses(model, images, "look"), expected, rtol=1e-5)
    (maps,) = debugcnn.activations(model, images, ["look"]).values()
    np.testing.assert_allclose(maps, convolution(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "normalization",
    [layers.BatchNormalization, layers.LayerNormalization, lambda: layers.GroupNormalization(2)],
)
def test_the_normalization_behind_a_convolution_is_its_objective(normalization):
    behind = normalization()
    model = chain(layers.Conv2D(4, 3, name="look"), behind)
    assert debugcnn.objective(model, "look") == (behind.name, False)


def test_the_normalization_behind_a_cast_is_the_objective_too():
    look = layers.Conv2D(4, 3, name="look", dtype="mixed_float16")
    body = [look, layers.Activation("linear", dtype="float32"), layers.BatchNormalization(name="n")]
    assert debugcnn.objective(chain(*body), "look") == ("n", False)


@pytest.mark.parametrize(
    ("body", "size", "stride"),
    [
        ([layers.Conv2D(2, 3)], 3, 1),
        ([layers.Conv2D(2, 3, strides=2, padding="same")], 3, 2),
        ([layers.Conv2D(2, 3), layers.Conv2D(2, 3), layers.Conv2D(2, 3)], 7, 1),
        (
            [layers.Conv2D(2, 3, padding="same"), layers.AveragePooling2D(2), layers.Conv2D(2, 3)],
            8,
            2,
        ),
        ([layers.Conv2D(2, 31, padding="same")], 24, 1),
    ],
)
def test_receptive_field(body, size, stride):
    model = keras.Sequential([keras.Input((24, 24, 3)), *body, layers.Flatten(), layers.Dense(1)])
    for layer in body:
        if isinstance(layer, layers.Conv2D):
            layer.kernel.assign(-tf.ones_like(layer.kernel))
    assert debugcnn.receptive_field(model, body[-1]) == (size, stride)


def test_the_field_is_measured_on_the_values_that_the_model_takes():
    body = [layers.Conv2D(1, 3, activation="tanh"), layers.Conv2D(1, 1, name="look")]
    model = sequential([*body, layers.GlobalAveragePooling2D(), layers.Dense(1)])
    kernel = np.full((3, 3, 3, 1), 0.002)
    kernel[1, 1] = 0.2
    body[0].kernel.assign(kernel)
    assert debugcnn.receptive_field(model, "look", (0, 1)) == (1, 1)
    assert debugcnn.receptive_field(model, "look", (200, 255)) == (3, 1)  # saturated, so: dead


@pytest.mark.parametrize(
    ("side", "blocks", "stride"), [((180, 180), 5, 16), ((28, 28), 3, 4), ((75, 91), 3, 4)]
)
def test_strides_of_chains_without_padding(side, blocks, stride):
    body = []
    for _ in range(blocks):
        body += [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D()]
    model = chain(*body[:-1], sides=side)
    last = body[-2]
    field = 1 + sum(2 * 2**k + 2**k for k in range(blocks - 1)) + 2 * 2 ** (blocks - 1)
    facts = {facts.name: facts for facts in debugcnn.layer_table(model)}[last.name]
    assert (facts.receptive_field, facts.stride) == (field, stride)
    seen, measured = debugcnn.receptive_field(model, last)
    assert measured == stride and seen <= field
