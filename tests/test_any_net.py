"""Kinds of nets that strangers bring: each works, or says in one sentence why it does not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import debugcnn.quiet
from debugcnn.views.predictions import _clearly_better
from debugcnn.views.tracing import survey

SIDES = 36, 48  # height and width, so that exchanged sides are noticed
ROOT = Path(__file__).parents[1]


def sequential(*body, sides=SIDES, channels=3, head=None):
    head = head or [layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax", name="decide")]
    return randomise(keras.Sequential([keras.Input((*sides, channels)), *body, *head]))


def randomise(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        values = rng.normal(0, 0.3, variable.shape)
        variable.assign(np.abs(values) if variable.name == "gamma" else values)
    return model


def images_for(model, count=3, seed=1):
    sides = [side or 40 for side in debugcnn.views.tracing.own_shape(model)]
    return np.random.default_rng(seed).uniform(0, 255, (count, *sides)).astype(np.float32)


def views(model, layer=None, **output):
    """All views, with shapes that fit and evidence that is not empty for every class."""
    images = images_for(model)
    layer = layer or debugcnn.convolution_layers(model)[-1]
    patterns, reached = debugcnn.filter_patterns(model, layer, [0, 1], steps=2)
    assert np.ptp(patterns) > 0 and np.isfinite(reached).all()
    assert debugcnn.responses(model, images, layer).shape[0] == len(images)
    for maps in debugcnn.activations(model, images).values():
        assert maps.ndim == 4 and len(maps) == len(images)
    classes = debugcnn.classifier_head(model, **output).classes
    heat = [debugcnn.grad_cam(model, images, k, **output) for k in range(classes)]
    assert heat[0].shape == images.shape[:3]
    assert max(h.max() for h in heat) > 0
    shares = debugcnn.probabilities(model, images, **output)
    assert shares.shape == (len(images), classes) and shares.min() >= 0 and shares.max() <= 1
    return patterns


# -------------------------------------------------------------------------------- kinds of layers

KINDS = {
    "dilated": lambda: [layers.Conv2D(4, 3, dilation_rate=2, activation="relu")],
    "grouped": lambda: [layers.Conv2D(6, 3, groups=3, activation="relu")],
    "depthwise": lambda: [layers.DepthwiseConv2D(3, strides=2, activation="relu")],
    "separable": lambda: [layers.SeparableConv2D(4, 3, activation="relu")],
    "transposed": lambda: [layers.Conv2DTranspose(4, 3, strides=2, activation="relu")],
    "swish": lambda: [layers.Conv2D(4, 3, activation="swish")],
    "gelu": lambda: [layers.Conv2D(4, 3), layers.Activation("gelu")],
    "group normalisation": lambda: [layers.Conv2D(4, 3), layers.GroupNormalization(2)],
    "layer normalisation": lambda: [layers.Conv2D(4, 3), layers.LayerNormalization()],
    "upsampling": lambda: [layers.UpSampling2D(), layers.Conv2D(4, 3, activation="relu")],
    "resizing": lambda: [layers.Resizing(32, 32), layers.Conv2D(4, 3, activation="relu")],
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_layers(kind):
    views(sequential(layers.Conv2D(6, 3, padding="same"), *KINDS[kind](), layers.Conv2D(4, 3)))


def test_every_convolution_and_pooling_is_shown():
    body = [
        layers.Conv2D(4, 3, name="plain"),
        layers.Conv2DTranspose(4, 3, name="transposed"),
        layers.AveragePooling2D(2, name="mean"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.MaxPooling2D(name="highest"),
        layers.SeparableConv2D(4, 3, name="separable"),
    ]
    model = sequential(*body, layers.ReLU())
    assert list(debugcnn.activations(model, images_for(model))) == [part.name for part in body]
    convolutions = ["plain", "transposed", "depthwise", "separable"]
    assert debugcnn.convolution_layers(model) == convolutions


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_channels(channels):
    views(sequential(layers.Conv2D(4, 3, activation="relu"), channels=channels))


def test_sides_are_not_exchanged():
    model = sequential(layers.Conv2D(4, 3, strides=(2, 1), padding="same", name="look"))
    images = np.zeros((1, *SIDES, 3), np.float32)
    images[0, 4:8, 36:40] = 255
    (maps,) = debugcnn.activations(model, images, ["look"]).values()
    assert maps.shape == (1, 18, 48, 4)
    model.get_layer("look").bias.assign(np.zeros(4))
    classes = [debugcnn.grad_cam(model, images, k)[0] for k in range(3)]
    heat = max(classes, key=np.max)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 2 <= y < 10 and 34 <= x < 42
    shown = debugcnn.overlay(images, heat[None])
    assert shown.shape == images.shape
    y, x = np.unravel_index(np.abs(shown[0] - images[0]).sum(-1).argmax(), SIDES)
    assert 2 <= y < 10 and 34 <= x < 42
    assert debugcnn.occlusion(model, images, 1).shape == (1, *SIDES)
    patterns, _ = debugcnn.filter_patterns(model, "look", steps=1)
    assert patterns.shape == (4, 4, 3, 3)


ACTIVATION_LAYERS = {
    "relu": lambda: layers.ReLU(),
    "leaky": lambda: layers.LeakyReLU(),
    "prelu": lambda: layers.PReLU(),
    "elu": lambda: layers.ELU(),
    "swish": lambda: layers.Activation("swish"),
    "gelu": lambda: layers.Activation("gelu"),
    "tanh": lambda: layers.Activation("tanh"),
    "operation": lambda: ops.silu,
    "threshold": lambda: lambda maps: ops.threshold(maps, 1, 0),
    **{
        name: lambda name=name: getattr(ops, name)
        for name in """
        celu elu gelu hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid relu relu6 selu
        sigmoid softplus softsign sparse_plus tanh tanh_shrink
        """.split()  # noqa: SIM905
    },
}


@pytest.mark.parametrize("kind", ACTIVATION_LAYERS)
def test_what_enters_an_activation_layer_is_its_objective(kind):
    images = keras.Input((*SIDES, 3))
    maps = layers.Conv2D(4, 3, name="look")(images)
    outputs = ACTIVATION_LAYERS[kind]()(maps)
    name = outputs._keras_history.operation.name
    answer = layers.Dense(3)(layers.GlobalAveragePooling2D()(outputs))
    model = randomise(keras.Model(images, answer))
    assert debugcnn.objective(model, name) == (name, True)
    assert debugcnn.objective(model, "look") == ("look", False)
    photos = images_for(model)
    looked = debugcnn.responses(model, photos, "look")
    np.testing.assert_array_equal(debugcnn.responses(model, photos, name), looked)


@pytest.mark.parametrize("activation", ["relu", "swish", "gelu", "elu", "tanh", "softplus"])
def test_what_enters_a_convolutions_own_activation_is_its_objective(activation):
    model = sequential(layers.Conv2D(4, 3, activation=activation, name="look"))
    linear = sequential(layers.Conv2D(4, 3, name="look"))
    linear.set_weights(model.get_weights())
    photos = images_for(model)
    assert debugcnn.objective(model, "look") == ("look", True)
    np.testing.assert_allclose(
        debugcnn.responses(model, photos, "look"),
        debugcnn.responses(linear, photos, "look"),
        rtol=1e-5,
    )
    (maps,) = debugcnn.activations(model, photos, ["look"]).values()
    np.testing.assert_allclose(maps, model.get_layer("look")(photos), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "normalisation",
    [layers.BatchNormalization, layers.LayerNormalization, lambda: layers.GroupNormalization(2)],
)
def test_the_normalisation_behind_a_convolution_is_its_objective(normalisation):
    behind = normalisation()
    model = sequential(layers.Conv2D(4, 3, name="look"), behind)
    assert debugcnn.objective(model, "look") == (behind.name, False)


def test_the_normalisation_behind_a_cast_is_the_objective_too():
    look = layers.Conv2D(4, 3, name="look", dtype="mixed_float16")
    body = [look, layers.Activation("linear", dtype="float32"), layers.BatchNormalization(name="n")]
    assert debugcnn.objective(sequential(*body), "look") == ("n", False)


def test_functions_of_keras_stay_compiled():
    """A convolution in groups runs on some processors only as XLA compiles it."""
    model, kinds = sequential(layers.Conv2D(6, 3, groups=3)), set()

    def look(images):
        debugcnn.views.tracing.record(model, images)
        kinds.update(op.type for op in images.graph.get_operations())

    debugcnn.views.tracing.trace(look, (*SIDES, 3))
    assert "Conv2D" not in kinds and any("PartitionedCall" in kind for kind in kinds)


# ------------------------------------------------------------------------------------- canvases


def test_many_convolutions_without_padding():
    """The unit sees less than its field in theory, without which the net cannot run."""
    model = sequential(*[layers.Conv2D(3, 3, name=f"look{i}") for i in range(12)])
    patterns, reached = debugcnn.filter_patterns(model, "look11", steps=24)
    assert patterns.shape == (3, 25, 25, 3)
    ordinary = debugcnn.responses(model, images_for(model, 50), "look11")
    assert (reached > ordinary.max(0)).all()
    field, stride = debugcnn.receptive_field(model, "look11")
    assert field < 25 and stride == 1


def test_the_unit_that_is_climbed_sees_no_padding():
    """A canvas of 6 x 9 pixels, two strides, has no unit whose 5 x 5 pixels lie inside it."""
    look = layers.Conv2D(1, 5, strides=3, padding="same", kernel_initializer="ones", name="look")
    model = keras.Sequential([keras.Input((70, 90, 1)), look, layers.Flatten(), layers.Dense(1)])
    how = {"steps": 60, "step_size": 1, "jitter": 0, "decorrelate": False}
    patterns, reached = debugcnn.filter_patterns(model, "look", **how)
    assert 5 <= min(patterns.shape[1:3]) <= max(patterns.shape[1:3]) <= 12
    assert reached[0] == pytest.approx(25 * 255, rel=0.01)


def two_streams():
    images = keras.Input((64, 64, 3))
    fine = layers.Conv2D(3, 3, name="fine")(layers.Conv2D(3, 3)(images))
    coarse = images
    for name in ("coarse1", "coarse2", "coarse3"):
        coarse = layers.Conv2D(3, 7, strides=2, name=name)(coarse)
    pooled = [layers.GlobalAveragePooling2D()(maps) for maps in (fine, coarse)]
    return randomise(keras.Model(images, layers.Dense(3)(layers.Concatenate()(pooled))))


def test_two_streams():
    model = two_streams()
    assert [entry.name for entry in survey(model)].index("fine") > 1
    for layer in ("fine", "coarse3"):
        patterns = views(model, layer)
        assert patterns.shape[1] == {"fine": 64, "coarse3": 48}[layer]
        patterns, reached = debugcnn.filter_patterns(model, layer, [1], steps=24)
        ordinary = debugcnn.responses(model, images_for(model, 50), layer)[:, 1]
        assert reached > ordinary.max()
    middle = np.abs(debugcnn.filter_patterns(model, "fine", [0])[0] - 127.5)[0].mean(-1)
    assert middle[2:-2, 2:-2].max() > 60


def ensemble():
    images = keras.Input((32, 40, 3))
    answers = []
    for i in range(2):
        body = [layers.Conv2D(3, 3, activation="relu", name="look"), layers.MaxPooling2D()]
        net = keras.Sequential(
            [keras.Input((32, 40, 3)), *body, layers.Flatten(), layers.Dense(3, "softmax")],
            name=f"net{i}",
        )
        answers.append(net(images))
    return randomise(keras.Model(images, layers.Average()(answers)))


def test_an_ensemble():
    """Its first net ends in a layer of a fixed size, before the second one's convolution runs."""
    model = ensemble()
    assert debugcnn.convolution_layers(model) == ["net0/look", "net1/look"]
    assert views(model, "net1/look").shape == (2, 32, 40, 3)
    assert views(model, "net0/look").shape == (2, 3, 3, 3)


def test_the_mean_of_an_ensemble_has_the_mean_of_its_logits():
    model, images = ensemble(), images_for(ensemble())
    _, together = debugcnn.evidence(model, images, 1, layer="net1/look")
    _, alone = debugcnn.evidence(model.get_layer("net1"), images, 1, layer="look")
    np.testing.assert_allclose(together, alone / 2, rtol=1e-4, atol=1e-7)


def test_a_model_that_resizes_its_images_gets_canvases_of_its_own_size():
    model = sequential(
        layers.Resizing(18, 24), layers.Conv2D(3, 3, name="look"), layers.Conv2D(3, 3)
    )
    assert views(model, "look").shape == (2, *SIDES, 3)


@pytest.mark.parametrize(
    ("side", "blocks", "stride"), [((180, 180), 5, 16), ((28, 28), 3, 4), ((75, 91), 3, 4)]
)
def test_strides_of_chains_without_padding(side, blocks, stride):
    body = []
    for _ in range(blocks):
        body += [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D()]
    model = sequential(*body[:-1], sides=side)
    last = body[-2]
    field = 1 + sum(2 * 2**k + 2**k for k in range(blocks - 1)) + 2 * 2 ** (blocks - 1)
    facts = {facts.name: facts for facts in debugcnn.layer_table(model)}[last.name]
    assert (facts.field, facts.stride) == (field, stride)
    seen, measured = debugcnn.receptive_field(model, last)
    assert measured == stride and seen <= field
    patterns, reached = debugcnn.filter_patterns(model, last, [0], steps=1)
    assert patterns.shape[1] >= seen


# -------------------------------------------------------------------- what feeds the answer


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Conv2D(4, 3, name="first")
        self.last = layers.Conv2D(4, 3, strides=2, name="last")
        self.aside = layers.Conv2D(2, 3, name="aside")
        self.decide = layers.Dense(3, name="decide")

    def maps(self, images):
        return tf.nn.relu(self.last(tf.nn.relu(self.first(images))))

    def call(self, images):
        return tf.nn.softmax(self.decide(tf.reduce_mean(self.maps(images), (1, 2))))


class WithAside(Subclassed):
    def call(self, images):
        answer = super().call(images)
        self.aside(images)
        return answer


class InAFunction(Subclassed):
    @tf.function
    def call(self, images):
        return super().call(images)


class Compiled(Subclassed):
    @tf.function(jit_compile=True)
    def call(self, images):
        return super().call(images)


class InnerFunction(Subclassed):
    def __init__(self):
        super().__init__()
        self.inner = tf.function(self.maps)

    def call(self, images):
        return tf.nn.softmax(self.decide(tf.reduce_mean(self.inner(images), (1, 2))))


@pytest.mark.parametrize("kind", [Subclassed, WithAside, InAFunction, Compiled, InnerFunction])
def test_subclassed_models_with_functions_and_operations_of_their_own(kind):
    model, images = kind(), np.random.default_rng(0).uniform(0, 1, (2, 20, 30, 3)).astype("f4")
    model(images)
    randomise(model)
    assert debugcnn.default_layer(model) == "Relu behind last"
    for target in range(3):
        weights = model.decide.kernel.numpy()[:, target]
        cam = np.maximum(np.asarray(Subclassed.maps(model, images)) @ weights, 0) / (8 * 13)
        expected = tf.image.resize(cam[..., None], (20, 30))[..., 0]
        heat = debugcnn.grad_cam(model, images, target)
        np.testing.assert_allclose(heat, expected, rtol=1e-3, atol=1e-6)
    maps, _ = debugcnn.evidence(model, images, 1)
    np.testing.assert_allclose(maps, Subclassed.maps(model, images), rtol=1e-4, atol=1e-6)
    assert {"first", "last"} <= set(debugcnn.convolution_layers(model))


def shrinking(*end, side=32):
    body = []
    for _ in range(4):
        body += [layers.Conv2D(4, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
    return sequential(*body, *end, sides=(side, side))


def test_a_last_map_of_one_unit_gets_a_sentence():
    model = shrinking(layers.MaxPooling2D(), side=32)
    with pytest.raises(ValueError, match="single unit .*use larger images"):
        debugcnn.grad_cam(model, images_for(model), 1)
    with pytest.raises(ValueError, match="single unit"):
        debugcnn.default_layer(shrinking(layers.Conv2D(4, 2, activation="relu")))
    body = [layers.Conv2D(4, 3, strides=9, name="look"), layers.Conv2D(4, 3, strides=2)]
    with pytest.raises(ValueError, match="single unit"):  # a window of 3 on a map of 4
        debugcnn.default_layer(sequential(*body, layers.ReLU(), sides=(36, 36)))
    layer = debugcnn.convolution_layers(model)[2]
    assert debugcnn.grad_cam(model, images_for(model), 1, layer=layer).shape == (3, 32, 32)
    pools = [layer.name for layer in model.layers if isinstance(layer, layers.MaxPooling2D)]
    shown = debugcnn.activations(model, images_for(model))
    assert [name for name in pools if name in shown] == pools[:4]
    with pytest.raises(ValueError, match="a map of a single unit .*before the global pooling"):
        debugcnn.activations(model, images_for(model), pools[4:])


@pytest.mark.parametrize(
    "whole",
    [layers.AveragePooling2D((5, 7)), layers.Conv2D(4, (5, 7)), layers.MaxPooling2D((5, 7))],
)
def test_a_layer_that_gathers_a_whole_map_is_a_global_pooling(whole):
    body = [layers.Conv2D(4, 3, strides=7, name="look"), whole, layers.ReLU()]
    model = sequential(*body, head=[layers.Flatten(), layers.Dense(3)])
    assert debugcnn.default_layer(model) == "look"


def test_a_map_is_named_after_the_layer_that_made_it():
    model = sequential(layers.Conv2D(4, 3, name="look"), layers.Dropout(0.5, name="drop"))
    assert debugcnn.default_layer(model) == "look"


def test_a_squeezed_and_excited_map_is_the_map_not_its_scale():
    images = keras.Input((*SIDES, 3))
    maps = layers.Conv2D(4, 3, name="look")(images)
    scale = layers.GlobalAveragePooling2D(keepdims=True)(maps)
    scale = layers.Conv2D(4, 1, activation="sigmoid", name="excite")(scale)
    maps = layers.Multiply(name="scaled")([maps, scale])
    model = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(maps)))
    assert debugcnn.default_layer(model) == "scaled"
    assert debugcnn.convolution_layers(model) == ["look"]


def transformer(class_token):
    images = keras.Input((24, 32, 3))
    tokens = layers.Reshape((48, 8))(layers.Conv2D(8, 4, strides=4, name="patches")(images))
    if class_token:
        tokens = layers.ZeroPadding1D((1, 0))(tokens)
    looked = layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
    tokens = layers.LayerNormalization(name="last")(layers.Add()([tokens, looked]))
    pooled = tokens[:, 0] if class_token else layers.GlobalAveragePooling1D()(tokens)
    return randomise(keras.Model(images, layers.Dense(3, "softmax", name="decide")(pooled)))


def test_tokens_that_come_from_a_grid_are_folded_back():
    model = transformer(class_token=False)
    images = images_for(model)
    assert debugcnn.default_layer(model) == "last"
    maps, _ = debugcnn.evidence(model, images, 1)
    tokens = keras.Model(model.input, model.get_layer("last").output)(images).numpy()
    np.testing.assert_allclose(maps, tokens.reshape(3, 6, 8, 8), rtol=1e-4, atol=1e-5)
    cam = np.maximum(maps @ model.get_layer("decide").kernel.numpy()[:, 1], 0) / 48
    expected = tf.image.resize(cam[..., None], (24, 32))[..., 0]
    np.testing.assert_allclose(debugcnn.grad_cam(model, images, 1), expected, rtol=1e-3, atol=1e-6)


class Attention(layers.Layer):
    def call(self, tokens):
        return tokens + tf.nn.softmax(tokens @ tf.transpose(tokens, (0, 2, 1))) @ tokens


def test_tokens_that_a_product_of_matrices_mixes_cannot_be_followed():
    body = [layers.Conv2D(4, 4, strides=4), layers.Reshape((-1, 4)), layers.ZeroPadding1D((1, 0))]
    head = [Attention(), layers.Cropping1D((0, 108)), layers.Flatten(), layers.Dense(3)]
    model = sequential(*body, head=head)
    with pytest.raises(ValueError, match="tokens whose places .*cannot be followed"):
        debugcnn.default_layer(model)


def test_tokens_that_cannot_be_followed_get_a_sentence():
    model = transformer(class_token=True)
    with pytest.raises(ValueError, match="tokens whose places .*cannot be followed"):
        debugcnn.grad_cam(model, images_for(model), 1)
    assert debugcnn.grad_cam(model, images_for(model), 1, layer="patches").shape == (3, 24, 32)
    with pytest.raises(ValueError, match="returns no map"):
        debugcnn.grad_cam(model, images_for(model), 1, layer="value")


# ---------------------------------------------------------------------- what the answer is made of


def headed(units, activation, change):
    """A net, and the same with `change` behind its answer; sure of its answers."""
    base = sequential(
        layers.Conv2D(4, 3, activation="relu", name="look"),
        head=[layers.GlobalAveragePooling2D(), layers.Dense(units, activation, name="decide")],
    )
    kernel = base.get_layer("decide").kernel
    kernel.assign(30 * kernel)
    return base, keras.Model(base.inputs, change(base.outputs[0]))


def there_and_back(y):
    checked = tf.debugging.check_numerics(tf.identity_n([1 - y, y])[1], "no number")
    return -tf.transpose(tf.stack(tf.unstack(-checked, axis=1), 0))


def put_together(y):
    first, last = tf.slice(y, (0, 0), (-1, 2)), 2 * y[:, 2:] / 2
    return tf.minimum(tf.concat([first, tf.add_n([last, last, -last])], 1), 0.99)


BEHIND = {
    "reshape": (3, "softmax", lambda y: layers.Reshape((3, 1))(y), [0, 1, 2]),
    "flatten": (3, "softmax", lambda y: layers.Flatten()(y), [0, 1, 2]),
    "clip": (3, "softmax", lambda y: ops.clip(y, 1e-7, 1 - 1e-7), [0, 1, 2]),
    "clip and reshape": (
        3,
        "softmax",
        lambda y: layers.Reshape((3,))(ops.clip(y, 1e-7, 1 - 1e-7)),
        [0, 1, 2],
    ),
    "maximum": (3, "softmax", lambda y: ops.maximum(y, 1e-7), [0, 1, 2]),
    "take": (3, "softmax", lambda y: ops.take(y, [2, 0], axis=1), [2, 0]),
    "slice": (3, "softmax", lambda y: y[:, 1:], [1, 2]),
    "logarithm": (3, "softmax", lambda y: ops.log(y), [0, 1, 2]),
    "cast": (3, "softmax", lambda y: ops.cast(y, "float64"), [0, 1, 2]),
    "squeeze": (1, "sigmoid", lambda y: ops.squeeze(y, -1), [0, 1]),
    "both classes": (1, "sigmoid", lambda y: layers.Concatenate()([1 - y, y]), [0, 1]),
    "labels": (3, "sigmoid", lambda y: layers.Reshape((3,))(y), [0, 1, 2]),
    "as they were": (3, "softmax", lambda y: layers.Lambda(there_and_back)(y), [0, 1, 2]),
    "put together": (3, "softmax", lambda y: layers.Lambda(put_together)(y), [0, 1, 2]),
    "softmax again": (3, "softmax", lambda y: layers.Softmax()(y), [0, 1, 2]),
}


@pytest.mark.parametrize("name", BEHIND)
def test_a_softmax_or_sigmoid_is_found_behind_other_operations(name):
    units, activation, change, classes = BEHIND[name]
    base, model = headed(units, activation, change)
    images = images_for(base)
    kind = "labels" if name == "labels" else "softmax"
    kind = "sigmoid" if name == "squeeze" else kind
    assert debugcnn.classifier_head(model) == (kind, len(classes), True)
    some = 0
    for target, same in enumerate(classes):
        heat = debugcnn.grad_cam(model, images, target)
        np.testing.assert_allclose(heat, debugcnn.grad_cam(base, images, same), rtol=1e-4)
        some += heat.max()
    assert some > 0
    shares = debugcnn.probabilities(model, images)
    if name not in {"softmax again", "take", "slice", "put together"}:
        np.testing.assert_allclose(shares, debugcnn.probabilities(base, images), atol=1e-5)
    predicted = debugcnn.grad_cam(model, images)
    if name != "labels":  # where several may be sure
        chosen = debugcnn.grad_cam(model, images, shares.argmax(1))
        np.testing.assert_array_equal(predicted, chosen)


def test_of_several_sure_labels_the_one_with_the_highest_logit_is_predicted():
    model, _ = headed(3, "sigmoid", lambda y: y)
    model.get_layer("decide").bias.assign([3e5, 5e5, 4e5])
    images = images_for(model)
    np.testing.assert_array_equal(debugcnn.probabilities(model, images), 1)
    second = debugcnn.grad_cam(model, images, 1)
    np.testing.assert_array_equal(debugcnn.grad_cam(model, images), second)
    assert (debugcnn.grad_cam(model, images, 0) != second).any()


def test_an_ensemble_predicts_by_its_probabilities_not_by_its_logits():
    images = keras.Input((*SIDES, 3))
    maps = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="look")(images))
    heads = [layers.Dense(2, "softmax") for _ in range(3)]
    model = randomise(keras.Model(images, layers.Average()([head(maps) for head in heads])))
    for head, logit in zip(heads, (20, -2, -2)):  # one is sure of 1, two think 0
        head.kernel.assign(head.kernel / 1e4)
        head.bias.assign([0, logit])
    photos = images_for(model)
    zero = debugcnn.grad_cam(model, photos, 0)
    assert (model(photos).numpy().argmax(1) == 0).all()
    np.testing.assert_array_equal(debugcnn.grad_cam(model, photos), zero)
    assert (debugcnn.grad_cam(model, photos, 1) != zero).any()


def test_a_softmax_made_by_hand_gets_a_sentence():
    def by_hand(y):
        powers = ops.exp(y / 1000)
        return powers / ops.sum(powers, -1, keepdims=True)

    _, model = headed(3, None, by_hand)
    with pytest.raises(ValueError, match="softmax behind them is hidden"):
        debugcnn.grad_cam(model, images_for(model))
    np.testing.assert_allclose(
        debugcnn.probabilities(model, images_for(model)), model(images_for(model)), rtol=1e-5
    )


def test_logits_that_add_up_to_one_are_no_probabilities():
    model = sequential(
        layers.Conv2D(4, 3), head=[layers.GlobalAveragePooling2D(), layers.Dense(3, name="decide")]
    )
    model.get_layer("decide").set_weights([np.zeros((4, 3)), np.float32([3, -1, -1])])
    expected = np.exp([3, -1, -1]) / np.exp([3, -1, -1]).sum()
    shares = debugcnn.probabilities(model, images_for(model))
    np.testing.assert_allclose(shares, [expected] * 3, rtol=1e-5)


def test_a_product_of_answers_is_not_their_softmax():
    _, model = headed(3, "softmax", lambda y: y * y)
    assert debugcnn.classifier_head(model) == ("softmax", 3, False)


def test_one_photo_whose_logits_add_up_to_one_hides_no_softmax():
    model = colour_means(np.eye(3), [0, 0, 0], None)
    photos = plain([0.2, 0.3, 0.5], [0.9, 0.5, 0.5])
    heat = debugcnn.grad_cam(model, photos, 0)
    np.testing.assert_allclose(heat.max((1, 2)) * 24, [0.2, 0.9], rtol=1e-5)


def test_logits_get_the_softmax_or_sigmoid_that_is_missing():
    for units, activation, kind in [(3, "softmax", "softmax"), (1, "sigmoid", "sigmoid")]:
        base, _ = headed(units, activation, lambda y: y)
        base.get_layer("decide").kernel.assign(base.get_layer("decide").kernel / 3000)
        shares = debugcnn.probabilities(base, images_for(base))
        assert debugcnn.classifier_head(base).applied
        answer = base(images_for(base)).numpy()
        whole = answer if units > 1 else np.concatenate([1 - answer, answer], 1)
        np.testing.assert_allclose(shares, whole, rtol=1e-5)
        base.get_layer("decide").activation = keras.activations.linear
        assert debugcnn.classifier_head(base) == (kind, max(2, units), False)
        np.testing.assert_allclose(
            debugcnn.probabilities(base, images_for(base)), shares, rtol=1e-3, atol=1e-6
        )


# ----------------------------------------------------------------------------- inputs and outputs


def with_two_outputs(named):
    images = keras.Input((*SIDES, 3))
    maps = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="look")(images))
    kind = layers.Dense(3, "softmax", name="kind")(maps)
    young = layers.Dense(1, "sigmoid", name="young")(maps)
    outputs = {"kind": kind, "young": young} if named else [kind, young]
    return randomise(keras.Model(images, outputs)), keras.Model(images, kind)


@pytest.mark.parametrize("named", [False, True])
def test_one_of_two_outputs_is_chosen(named):
    model, kind = with_two_outputs(named)
    images = images_for(model)
    views(model, output="kind")
    for output in (0, "kind"):
        heat = debugcnn.grad_cam(model, images, 2, output=output)
        np.testing.assert_allclose(heat, debugcnn.grad_cam(kind, images, 2), rtol=1e-5)
        lost = debugcnn.occlusion(model, images[:1], 2, size=20, output=output)
        np.testing.assert_allclose(
            lost, debugcnn.occlusion(kind, images[:1], 2, size=20), rtol=1e-3
        )
    for output in (1, "young"):
        assert debugcnn.classifier_head(model, output) == ("sigmoid", 2, True)
        young = keras.Model(model.input, model.get_layer("young").output)
        for view in (debugcnn.probabilities, debugcnn.occlusion, debugcnn.grad_cam):
            some = view(model, images[:2], output=output)
            np.testing.assert_allclose(some, view(young, images[:2]), rtol=1e-3, atol=1e-6)
    for call in (debugcnn.classifier_head, debugcnn.default_layer):
        with pytest.raises(ValueError, match="several outputs: .*'kind' or .*'young'"):
            call(model)
    with pytest.raises(ValueError, match="not 'old'"):
        debugcnn.grad_cam(model, images, output="old")
    with pytest.raises(ValueError, match="one output only"):
        debugcnn.grad_cam(kind, images, output=3)


def test_two_inputs_get_a_sentence():
    images, more = keras.Input((*SIDES, 3)), keras.Input((4,))
    maps = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(images))
    model = keras.Model([images, more], layers.Dense(3)(layers.Concatenate()([maps, more])))
    for call in (debugcnn.convolution_layers, debugcnn.layer_table, debugcnn.classifier_head):
        with pytest.raises(ValueError, match="takes 2 inputs"):
            call(model)
    with pytest.raises(ValueError, match="takes 2 inputs"):
        debugcnn.grad_cam(model, np.zeros((1, *SIDES, 3)))


def test_channels_first_gets_a_sentence():
    first = {"data_format": "channels_first"}
    body = [layers.Conv2D(4, 3, **first), layers.GlobalAveragePooling2D(**first), layers.Dense(2)]
    model = keras.Sequential([keras.Input((3, *SIDES)), *body])
    with pytest.raises(ValueError, match="channels first.*channels_last"):
        debugcnn.grad_cam(model, np.zeros((1, 3, *SIDES)))


def test_whole_numbers_as_input():
    body = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation="relu", name="look")]
    head = [layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((*SIDES, 3), dtype="uint8"), *body, *head])
    plain = keras.Sequential([keras.Input((*SIDES, 3)), *body, *head])
    images = np.uint8(images_for(model))
    for given in (images, images.astype(np.float32)):
        heat = debugcnn.grad_cam(model, given, 1)
        np.testing.assert_allclose(heat, debugcnn.grad_cam(plain, images, 1), rtol=1e-5)
    for call in (debugcnn.receptive_field, debugcnn.filter_patterns):
        with pytest.raises(ValueError, match="whole numbers .*float32"):
            call(model, "look")


def test_a_named_input():
    images = keras.Input((*SIDES, 3), name="photo")
    maps = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(images))
    views(randomise(keras.Model({"photo": images}, layers.Dense(3)(maps))))


def test_another_backend_gets_a_sentence(monkeypatch):
    model = sequential(layers.Conv2D(4, 3))
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="runs on jax .*KERAS_BACKEND"):
        debugcnn.grad_cam(model, images_for(model))


def test_what_is_no_keras_model_gets_a_sentence():
    with pytest.raises(ValueError, match="is a builtins.dict, not a keras.Model"):
        debugcnn.convolution_layers({})


def test_a_tiny_gradient_survives_float16():
    """1e-5 / 1728 units is below float16's smallest number, 6e-8, if it is not scaled."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = sequential(layers.Conv2D(4, 3, padding="same", activation="relu", name="look"))
    finally:
        keras.config.set_dtype_policy("float32")
    model.get_layer("decide").kernel.assign(np.full((4, 3), 1e-5))
    for layer in (None, "look"):  # a mean may turn float16 into float32 before it
        maps, gradients = debugcnn.evidence(model, images_for(model) / 255, 1, layer=layer)
        np.testing.assert_allclose(gradients, 1e-5 / (36 * 48), rtol=1e-2)


# -------------------------------------------------------------------------- what is kept compiled


def test_the_compiled_functions_are_told_apart():
    """By layer, class, output, precision and method, though all else is the same."""
    model, _ = with_two_outputs(named=True)
    images = images_for(model)
    heat = {
        (output, target): debugcnn.grad_cam(model, images, target, output=output)
        for output, targets in (("kind", (0, 1, 2)), ("young", (0, 1)))
        for target in targets
    }
    for one in heat:
        for other in heat:
            assert one == other or (heat[one] != heat[other]).any()
    raw = debugcnn.evidence(model, images, 1, output="kind")
    assert raw[0].shape == raw[1].shape != heat["kind", 1].shape


def test_digest():
    model = sequential(layers.Conv2D(4, 3, name="look"))
    same = sequential(layers.Conv2D(4, 3, name="other"))
    assert debugcnn.model_digest(model) == debugcnn.model_digest(same)
    bias = model.get_layer("look").bias
    bias.assign(bias + np.float32([0, 0, 0, 1e-6]))
    assert debugcnn.model_digest(model) != debugcnn.model_digest(same)
    wide, high = (layers.Dense(6 // n, use_bias=False, kernel_initializer="ones") for n in (2, 3))
    nets = [keras.Sequential([keras.Input((n,)), dense]) for n, dense in ((2, wide), (3, high))]
    assert debugcnn.model_digest(nets[0]) != debugcnn.model_digest(nets[1])


# ------------------------------------------------------------------------------------ value ranges


@pytest.mark.parametrize("kind", debugcnn.VALUE_RANGES)
def test_pixels_and_back(kind):
    photos = np.random.default_rng(0).uniform(0, 255, (2, *SIDES, 3)).astype("f4")
    images = debugcnn.from_pixels(photos, kind)
    np.testing.assert_allclose(debugcnn.to_pixels(images, kind), photos, atol=1e-3)
    mode = {(-1, 1): "tf", "caffe": "caffe", "torch": "torch"}.get(kind)
    if mode:
        expected = keras.applications.imagenet_utils.preprocess_input(photos.copy(), mode=mode)
        np.testing.assert_allclose(images, expected, atol=1e-4)
    else:
        np.testing.assert_allclose([images.min(), images.max()], kind, atol=0.01 * kind[1])


@pytest.mark.parametrize("kind", [(1, 0), "tf", 255, (0, 1, 2)])
def test_a_value_range_that_is_none(kind):
    with pytest.raises(ValueError, match="value_range is the lowest and the highest"):
        debugcnn.from_pixels(np.zeros((1, 2, 2, 3)), kind)


def test_patterns_in_the_values_of_caffe():
    model = sequential(layers.Conv2D(4, 3, activation="relu", name="look"))
    patterns, _ = debugcnn.filter_patterns(model, "look", steps=60, value_range="caffe")
    low, high = patterns.min((0, 1, 2)), patterns.max((0, 1, 2))
    means = [103.939, 116.779, 123.68]
    assert (low >= -np.float32(means)).all() and (high <= 255 - np.float32(means)).all()
    assert (high - low > 200).all()
    photos = debugcnn.to_pixels(patterns, "caffe")
    assert photos.min() > -0.01 and photos.max() < 255.01


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
    model = sequential(*inside, layers.Conv2D(4, 3))
    found = debugcnn.find_value_range(model, images_for(model))
    assert found == (expected, "inside", [])


def colour_net(value_range, normalised):
    """Knows red from green from blue photos, at one value range only."""
    body = [layers.Conv2D(8, 3, use_bias=not normalised, activation=None, name="look")]
    body += [layers.BatchNormalization(momentum=0.5)] if normalised else []
    head = [layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax")]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((12, 16, 3)), *body, *head])
    photos, labels = coloured(600, 0)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    images = debugcnn.from_pixels(photos, value_range)
    scale = np.abs(images).mean()
    model.get_layer("look").kernel.assign(model.get_layer("look").kernel / scale)
    model.fit(images, labels, epochs=4, verbose=0)
    return model


def coloured(count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    photos = rng.uniform(20, 170, (count, 12, 16, 3)).astype("f4")
    photos[np.arange(count), :, :, labels] += rng.uniform(10, 80, (count, 1, 1))
    return photos, labels


@pytest.mark.parametrize("value_range", debugcnn.VALUE_RANGES)
def test_a_stored_normalisation_tells_the_value_range(value_range):
    model = colour_net(value_range, normalised=True)
    found = debugcnn.find_value_range(model, coloured(60, 1)[0])
    assert (found.value_range, found.reason) == (value_range, "tried")
    assert [trial.value_range for trial in found.trials] == list(debugcnn.VALUE_RANGES)
    assert found.trials[0].accuracy is None


def test_labels_tell_the_value_range():
    model = colour_net((0, 1), normalised=False)
    model.layers[-1].bias.assign([4.0, 0.0, -4.0])
    model.layers[-1].kernel.assign(3 * model.layers[-1].kernel)
    photos, labels = coloured(100, 1)
    found = debugcnn.find_value_range(model, photos, labels)
    right = {trial.value_range: trial.accuracy for trial in found.trials}
    by_hand = {
        kind: (model(debugcnn.from_pixels(photos, kind)).numpy().argmax(1) == labels).mean()
        for kind in debugcnn.VALUE_RANGES
    }
    assert right == pytest.approx(by_hand)
    assert right[found.value_range] == max(right.values())


def test_where_nothing_tells_the_value_range_it_is_undecided():
    model = sequential(layers.Conv2D(4, 3), channels=1)
    model.layers[-1].kernel.assign(np.zeros((4, 3)))
    found = debugcnn.find_value_range(model, images_for(model))
    assert (found.value_range, found.reason) == ((0, 1), "undecided")
    assert [trial.value_range for trial in found.trials] == [(0, 255), (0, 1), (-1, 1)]


def colour_means(kernel, bias, activation, normalised=False):
    """Answers with the mean colours of a photo, (n, 3) @ kernel + bias."""
    body = [layers.Conv2D(3, 1, use_bias=False, name="same")]
    body += [layers.BatchNormalization(name="norm")] if normalised else []
    head = [layers.GlobalAveragePooling2D(), layers.Dense(len(bias), activation, name="decide")]
    model = keras.Sequential([keras.Input((4, 6, 3)), *body, *head])
    model.get_layer("same").kernel.assign(np.eye(3)[None, None])
    model.get_layer("decide").set_weights([np.float32(kernel), np.float32(bias)])
    return model


def plain(*colours):
    return np.ones((len(colours), 4, 6, 3), "f4") * np.float32(colours)[:, None, None]


def entropy(*shares):
    shares = np.array(shares)
    return -(shares * np.log2(shares)).sum(0)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_trials_hold_what_they_say(activation):
    rng = np.random.default_rng(0)
    kernel, photos = rng.normal(0, 0.01, (3, 3)), rng.uniform(0, 255, (20, 4, 6, 3)).astype("f4")
    model = colour_means(kernel, [0.1, 0, -0.1], activation, normalised=True)
    mean, variance = np.float32([3, 2, 1]), np.float32([5, 4, 6])
    model.get_layer("norm").moving_mean.assign(mean)
    model.get_layer("norm").moving_variance.assign(variance)
    labels = rng.integers(0, 3, 20)
    for trial in debugcnn.find_value_range(model, photos, labels).trials:
        images = debugcnn.from_pixels(photos, trial.value_range)
        p = np.float64(model(images))
        assert trial.accuracy == pytest.approx((p.argmax(1) == labels).mean())
        shift = abs(images.mean((0, 1, 2)) - mean) / np.sqrt(variance + 1e-3)
        ratio = abs(np.log((images.var((0, 1, 2)) + 1e-3) / (variance + 1e-3)))
        assert trial.mismatch == pytest.approx((shift + ratio).mean(), rel=1e-3)
        if activation == "softmax":
            spread = entropy(*p.mean(0)) - entropy(*p.T).mean()
            sure = p.max(1).mean()
        else:
            each = entropy(p, 1 - p).sum(1).mean()
            spread = entropy(p.mean(0), 1 - p.mean(0)).sum() - each
            sure = np.maximum(p, 1 - p).mean()
        assert (trial.sure, trial.spread) == pytest.approx((sure, spread), rel=1e-3, abs=1e-5)


def test_a_range_with_which_answers_are_all_alike_is_none():
    model = colour_means([[0.05, 0], [-0.05, 0], [0, 0]], [0, 0], "softmax")
    photos = plain([140, 100, 100], [100, 140, 140])  # alike in BGR: the last two are one number
    assert debugcnn.find_value_range(model, photos).reason == "undecided"  # so few photos
    found = debugcnn.find_value_range(model, np.repeat(photos, 16, axis=0))
    assert (found.value_range, found.reason) == ((0, 255), "tried")
    assert [t.value_range for t in found.trials if t.spread > 0.05] == [(0, 255)]


def test_a_range_with_which_all_answers_are_sure_is_none():
    model = colour_means(np.full((3, 1), 20 / 3), [-10], "sigmoid")  # brighter than 0.5 or not
    photos = plain([90, 90, 90], [165, 165, 165])
    assert debugcnn.find_value_range(model, photos).reason == "undecided"  # so few photos
    found = debugcnn.find_value_range(model, np.repeat(photos, 16, axis=0))
    assert (found.value_range, found.reason) == ((0, 1), "tried")
    assert [t.value_range for t in found.trials if t.sure < 0.98] == [(0, 1)]
    assert sum(trial.spread > 0.05 for trial in found.trials) > 1


def test_of_several_ranges_the_one_with_more_right_answers_is_the_guess():
    model = colour_means([[6], [-6], [0]], [1.2], "sigmoid")
    photos = plain([140, 100, 100], [100, 140, 140])
    found = debugcnn.find_value_range(model, photos, [1, 0])
    assert (found.value_range, found.reason) == ((-1, 1), "undecided")
    right = {trial.value_range: trial.accuracy for trial in found.trials}
    assert (right[0, 1], right[-1, 1]) == (0.5, 1)


def test_statistics_between_those_of_two_ranges_decide_nothing():
    model = colour_means(np.eye(3), [0, 0, 0], "softmax", normalised=True)
    photos = np.random.default_rng(0).uniform(0, 255, (20, 4, 6, 3)).astype("f4")
    bytes_, caffe = (debugcnn.from_pixels(photos, kind) for kind in ((0, 255), "caffe"))
    mean = 0.45 * bytes_.mean((0, 1, 2)) + 0.55 * caffe.mean((0, 1, 2))
    model.get_layer("norm").moving_mean.assign(mean)
    model.get_layer("norm").moving_variance.assign(caffe.var((0, 1, 2)))
    found = debugcnn.find_value_range(model, photos)
    assert (found.value_range, found.reason) == ("caffe", "undecided")
    model.get_layer("norm").moving_mean.assign(caffe.mean((0, 1, 2)))
    found = debugcnn.find_value_range(model, photos)
    assert (found.value_range, found.reason) == ("caffe", "tried")


def test_a_normalisation_that_was_never_trained_tells_nothing():
    model = colour_means(np.eye(3), [0, 0, 0], "softmax", normalised=True)
    found = debugcnn.find_value_range(model, plain([140, 100, 100], [100, 140, 140]))
    assert [trial.mismatch for trial in found.trials] == [None] * 5


def test_ranges_are_tried_on_photos_from_the_whole_collection():
    model = colour_means([[0.1], [0.1], [0.1]], [-30], "sigmoid")  # brighter than 100 or not
    photos = plain(*[[50, 50, 50]] * 300, *[[150, 150, 150]] * 300)
    found = debugcnn.find_value_range(model, photos, np.arange(600) >= 300)
    right = {trial.value_range: trial.accuracy for trial in found.trials}
    assert (right[0, 255], right[0, 1]) == (1, 0.5)


@pytest.mark.parametrize(
    ("won", "lost", "times", "clearly"),  # by tables of the binomial distribution
    [
        *((5, 0, 1, False), (6, 0, 1, True), (0, 6, 1, False), (8, 2, 1, False), (9, 1, 1, True)),
        *((0, 0, 1, False), (7, 0, 4, False), (8, 0, 4, True)),  # 2 / 2^7 and 2 / 2^8, by 0.0125
    ],
)
def test_more_right_answers_are_clearly_better_by_a_sign_test(won, lost, times, clearly):
    alike = np.tile([True, False], 20)
    right = np.r_[alike, np.ones(won, bool), np.zeros(lost, bool)]
    other = np.r_[alike, np.zeros(won, bool), np.ones(lost, bool)]
    assert _clearly_better(right, other, times) is clearly


# --------------------------------------------------------------------------------------- occlusion


def corner_net():
    """Its logit is the mean brightness of the pixels at the top right."""
    images = keras.Input((20, 30, 3))
    corner = layers.Cropping2D(((0, 14), (22, 0)))(images)
    model = keras.Model(images, layers.Dense(1)(layers.GlobalAveragePooling2D()(corner)))
    model.layers[-1].set_weights([np.full((3, 1), 1 / 3), np.zeros(1)])
    return model


def test_occlusion_is_what_the_logit_loses():
    model = corner_net()
    images = np.full((2, 20, 30, 3), 200, "f4")
    images[1] = 50
    lost = debugcnn.occlusion(model, images, 1, size=4, stride=4)
    inside = np.zeros((20, 30), bool)
    inside[:8, 22:] = True  # 4 x 4 squares that cut the corner, and what they cover
    # A square in the corner covers 16 of its 48 pixels: 200 becomes 127.5 there.
    assert lost[0, 0, 29] == pytest.approx((200 - 127.5) * 16 / 48, rel=1e-4)
    assert lost[1, 0, 29] == pytest.approx((50 - 127.5) * 16 / 48, rel=1e-4)
    assert (lost[0, 8:] == 0).all() and (lost[0, :, :20] == 0).all()
    np.testing.assert_allclose(debugcnn.occlusion(model, images, 0, size=4, stride=4), -lost)
    np.testing.assert_allclose(debugcnn.occlusion(model, images, size=4, stride=4), lost)
    each = debugcnn.occlusion(model, images, [1, 0], size=4, stride=4)
    np.testing.assert_allclose(each, lost * np.float32([1, -1])[:, None, None])


def test_occlusion_reaches_every_pixel_and_takes_other_values():
    model = corner_net()
    image = np.ones((1, 20, 30, 3), "f4")
    lost = debugcnn.occlusion(model, image, 1, size=7, stride=5, value_range=(-1, 1))
    assert np.isfinite(lost).all()
    assert lost[0, 0, -1] == pytest.approx(1 * 6 * 7 / 48, rel=1e-4)
    assert lost.max() <= 1
    np.testing.assert_array_equal(
        debugcnn.occlusion(model, image, 1), debugcnn.occlusion(model, image, 1, size=20 // 5, stride=2)
    )
    for wrong in ({"size": 21}, {"size": -1}, {"stride": -2}):
        with pytest.raises(ValueError, match="do not fit images of 20 x 30"):
            debugcnn.occlusion(model, image, 1, **wrong)
    with pytest.raises(ValueError, match="target 2 is no class"):
        debugcnn.occlusion(model, image, 2)


# ----------------------------------------------------------------------------- nets of other people

APPLICATIONS = {
    "MobileNetV2": "out_relu",
    "EfficientNetB0": "top_activation",
    "ConvNeXtTiny": "add_17",
    "DenseNet121": "relu",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications(name):
    keras.backend.clear_session()
    model = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3), classes=10)
    images = images_for(model, 2)
    assert debugcnn.default_layer(model).rstrip("0123456789_") == APPLICATIONS[name].rstrip(
        "0123456789_"
    )
    names = debugcnn.convolution_layers(model)
    assert len(names) > 20
    last = debugcnn.default_layer(model)
    maps, gradients = debugcnn.evidence(model, images, 3)
    (made,) = (op.output for op in model.operations if op.name == last)
    inner = keras.Model(model.input, made)
    np.testing.assert_allclose(maps, inner(images, training=False), rtol=1e-3, atol=1e-3)
    assert np.abs(gradients).max() > 0
    facts = {facts.name: facts for facts in debugcnn.layer_table(model)}
    assert facts[last].stride == 32
    patterns, _ = debugcnn.filter_patterns(model, names[5], [0, 1], steps=2)
    assert patterns.shape[3] == 3


NETS = Path(os.environ.get("STRANGERS", ROOT.parent / "shared" / "nets"))


@pytest.mark.skipif(not NETS.is_dir(), reason="needs nets by strangers, in the folder STRANGERS")
def test_nets_by_strangers():
    truth = json.loads((NETS / "truth.json").read_text())
    for file, facts in truth.items():
        model = debugcnn.load_model(NETS / file)
        expected = tuple(facts["input"])
        assert debugcnn.views.tracing.own_shape(model) == expected
        images = images_for(model, 2) / 255
        assert debugcnn.grad_cam(model, images, 1).shape == (2, *expected[:2])
        layer = debugcnn.convolution_layers(model)[-1]
        assert np.isfinite(debugcnn.filter_patterns(model, layer, [0], steps=1)[1]).all()


def test_tensorflow_starts_quietly():
    command = [sys.executable, "-c", "import debugcnn.quiet; print(debugcnn.grad_cam.__name__)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "grad_cam\n" and done.stderr == ""
