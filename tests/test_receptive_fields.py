"""Receptive fields and strides against gradients, closed forms and published values."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import debugcnn
from debugcnn.views.tracing import survey

SHAPE = 61, 83, 2  # not square, and odd


def model_of(*body, shape=SHAPE):
    """A linear model with kernels of ones, so that each pixel of a field has a gradient."""
    model = keras.Sequential([keras.Input(shape), *body])
    for variable in model.variables:
        variable.assign(tf.ones_like(variable))
    return model


def support(model, unit):
    """First pixel that changes a unit of the last map, and the one behind the last: per axis."""
    images = tf.ones((1, *model.input_shape[1:]))
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = tf.reduce_sum(model(images)[0, unit[0], unit[1]])
    changing = np.argwhere(np.abs(tape.gradient(value, images)[0]).max(-1) > 0)
    return changing.min(0), changing.max(0) + 1


class Function(layers.Layer):
    def __init__(self, change, name=None):
        super().__init__(name=name)
        self.change = change

    def call(self, maps):
        return self.change(maps)


BODIES = {
    "convolutions": [
        layers.Conv2D(2, (3, 5), padding="same"),
        layers.Conv2D(2, 4, strides=(2, 3)),
        layers.Conv2D(2, 3, padding="same", strides=2),
    ],
    "pooling": [
        layers.AveragePooling2D(3, 2, "same"),
        layers.Conv2D(2, 2),
        layers.AveragePooling2D(2),
    ],
    "dilation": [
        layers.Conv2D(2, 3, dilation_rate=(2, 3)),
        layers.DepthwiseConv2D(3, dilation_rate=2, padding="same"),
        layers.SeparableConv2D(2, 3, dilation_rate=2),
    ],
    "groups": [layers.Conv2D(4, 3, groups=2, strides=2), layers.Conv2D(4, (3, 1), groups=2)],
    "edges": [
        layers.ZeroPadding2D(((1, 2), (3, 0))),
        layers.Conv2D(2, 3, strides=2),
        layers.Cropping2D(((2, 1), (0, 3))),
        layers.Conv2D(2, 3),
    ],
    "slices": [Function(lambda x: x[:, 3::2, 1:-4, :]), layers.Conv2D(2, 3)],
    "slices from the end": [Function(lambda x: x[..., -50::3, :1]), layers.Conv2D(2, 3)],
    "repeated units": [layers.AveragePooling2D(3), layers.UpSampling2D((2, 1))],
    "depthwise": [layers.DepthwiseConv2D(3, strides=2), layers.Dense(3), layers.Conv2D(1, 2)],
    "reordered axes": [
        layers.Conv2D(2, 3, strides=2),
        layers.Permute((3, 1, 2)),
        layers.Permute((2, 3, 1)),
    ],
    "tokens and back": [
        layers.Conv2D(3, 5, strides=5),
        layers.Reshape((-1, 3)),
        layers.Dense(4),
        layers.Reshape((12, 16, 4)),
    ],
    "groups of channels": [
        layers.Conv2D(6, 3, strides=2),
        layers.Reshape((30, 41, 2, 3)),
        layers.Reshape((30, 41, 6)),
    ],
    "explicit padding": [
        Function(
            lambda x: tf.nn.conv2d(x, tf.ones((3, 3, 2, 2)), 2, [[0, 0], [2, 1], [0, 3], [0, 0]])
        )
    ],
    "windows laid side by side": [
        Function(
            lambda x: tf.image.extract_patches(x, (1, 3, 5, 1), (1, 2, 3, 1), (1, 2, 1, 1), "SAME")
        )
    ],
    "patches": [
        Function(lambda x: x[:, :60, 2:82]),
        layers.Reshape((12, 5, 16, 5, 2)),
        layers.Permute((1, 3, 2, 4, 5)),
        layers.Reshape((12, 16, 50)),
        layers.Conv2D(2, 2),
    ],
    "blocks of units": [
        Function(lambda x: x[:, 1:, :82]),
        Function(lambda x: tf.nn.space_to_depth(x, 2)),
        layers.Conv2D(2, 3),
    ],
    "two branches": [
        layers.Conv2D(2, 3, padding="same"),
        Function(lambda x: x + tf.nn.avg_pool2d(x, 5, 1, "SAME")),
    ],
    "two branches to two sides": [
        Function(lambda x: x[:, 4:, :-4] + x[:, :-4, 4:] + x[:, 2:-2, 2:-2]),
        layers.Conv2D(2, 3),
    ],
}


@pytest.mark.parametrize("name", BODIES)
def test_fields_are_where_the_gradient_is(name):
    model = model_of(*BODIES[name])
    layout = survey(model)[-1].map
    lines = layout.rows, layout.columns
    assert layout.shape == model.output_shape[1:3]
    for unit in [(0, 0), (layout.shape[0] // 2, layout.shape[1] // 3), (layout.shape[0] - 1, 2)]:
        first, behind = support(model, unit)
        for i, line in enumerate(lines):
            begin = line.start + unit[i] * line.stride
            low, high = max(begin, 0), min(begin + line.field, SHAPE[i])
            if name == "repeated units":  # of which every second one sees what the one before does
                assert low <= first[i] and behind[i] <= high <= behind[i] + 2 * line.stride
            else:
                assert (first[i], behind[i]) == (low, high), (unit, i)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_transposed_convolution_halves_the_stride_and_holds_its_field(padding):
    body = [
        layers.Conv2D(2, 3, strides=4),
        layers.Conv2DTranspose(2, 5, strides=2, padding=padding),
    ]
    model = model_of(*body)
    layout = survey(model)[-1].map
    assert (layout.rows.stride, layout.columns.stride) == (2, 2)
    for unit in [(5, 9), (6, 9), (14, 20)]:
        first, behind = support(model, unit)
        for i, line in enumerate((layout.rows, layout.columns)):
            begin = line.start + unit[i] * line.stride
            assert begin <= first[i] and behind[i] <= begin + line.field
            assert line.field <= behind[i] - first[i] + 4 * 2


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_a_resized_map_holds_its_field(interpolation):
    model = model_of(
        layers.Resizing(30, 40, interpolation=interpolation),
        layers.Conv2D(2, 3),
        shape=(60, 120, 3),
    )
    layout = survey(model)[-1].map
    assert (layout.rows.stride, layout.columns.stride) == (2, 3)
    for unit in [(4, 4), (20, 30)]:
        first, behind = support(model, unit)
        for i, line in enumerate((layout.rows, layout.columns)):
            begin = line.start + unit[i] * line.stride
            assert begin <= first[i] and behind[i] <= begin + line.field


UNMOVED = {  # operations that change, order or gather values or channels, and move no unit
    **{f.__name__: f for f in (tf.abs, tf.exp, tf.math.expm1, tf.math.log, tf.math.log1p, tf.sign)},
    **{f.__name__: f for f in (tf.sqrt, tf.math.rsqrt, tf.square, tf.round, tf.math.reciprocal)},
    **{f.__name__: f for f in (tf.tanh, tf.sigmoid, tf.math.softplus, tf.nn.softsign, tf.math.erf)},
    **{f.__name__: f for f in (tf.math.erfc, tf.negative, tf.math.is_finite, tf.nn.relu)},
    **{f.__name__: f for f in (tf.nn.relu6, tf.nn.elu, tf.nn.selu, tf.nn.leaky_relu, tf.identity)},
    **{f.__name__: f for f in (tf.nn.softmax, tf.nn.log_softmax, tf.stop_gradient)},
    **{f.__name__: f for f in (tf.ones_like, tf.zeros_like)},
    "not": lambda x: tf.logical_not(x > 0),
    "and": lambda x: (x > 0) & (x < 1),
    "or": lambda x: (x >= 0) | (x <= 1),
    "equal": lambda x: tf.equal(x, 1),
    "not equal": lambda x: tf.not_equal(x, 1),
    "arithmetic": lambda x: (x * 2 + 1 - x) / (x + 3),
    "power": lambda x: x**x,
    "bounds": lambda x: tf.maximum(tf.minimum(x, 1), 0),
    "squared difference": lambda x: tf.math.squared_difference(x, 1.0),
    "divide": lambda x: tf.math.divide_no_nan(x, x),
    "multiply": lambda x: tf.math.multiply_no_nan(x, x),
    "xdivy": lambda x: tf.math.xdivy(x, x + 1),
    "where": lambda x: tf.where(x > 0, x, -x),
    "sum of several": lambda x: tf.add_n([x, x, x]),
    "check": lambda x: tf.debugging.check_numerics(x, "no number"),
    "bias": lambda x: tf.nn.bias_add(x, [1.0, 2.0]),
    "cast": lambda x: tf.cast(x, "float16"),
    "several identities": lambda x: tf.identity_n([-x, x])[1],
    "maximum": lambda x: tf.reduce_max(x, -1, keepdims=True),
    "minimum": lambda x: tf.reduce_min(x, -1, keepdims=True),
    "mean": lambda x: tf.reduce_mean(x, -1, keepdims=True),
    "product": lambda x: tf.reduce_prod(x, -1, keepdims=True),
    "all": lambda x: tf.reduce_all(x > 0, -1, keepdims=True),
    "any": lambda x: tf.reduce_any(x > 0, -1, keepdims=True),
    "sum, and back": lambda x: tf.expand_dims(tf.reduce_sum(x, 3), 3),
    "stack": lambda x: tf.stack(tf.unstack(x, axis=3), 3),
    "split": lambda x: tf.concat(tf.split(x, 2, 3), 3),
    "split unevenly": lambda x: tf.split(x, [1, 1], 3)[1],
    "take": lambda x: tf.gather(x, [1, 0, 1], axis=3),
    "repeat": lambda x: tf.tile(x, (1, 1, 1, 2)),
    "slice": lambda x: tf.slice(x, (0, 0, 0, 1), (-1, -1, -1, 1)),
    "squeeze": lambda x: tf.squeeze(tf.expand_dims(x, 1), 1),
    "product with a matrix": lambda x: tf.matmul(x, tf.ones((2, 3))),
    "product with a transposed matrix": lambda x: tf.reshape(
        tf.reshape(tf.matmul(x, tf.ones((6, 2)), transpose_b=True), (-1, 30, 79, 2, 3)),
        (-1, 30, 79, 6),
    ),
    "transposed product": lambda x: tf.matmul(
        tf.transpose(x, (0, 1, 3, 2)), tf.ones((2, 3)), transpose_a=True
    ),
    "einsum": lambda x: tf.einsum("nyxc,cd->nyxd", x, tf.ones((2, 3))),
}


def test_operations_that_move_no_unit_keep_the_map():
    images = keras.Input(SHAPE)
    maps = layers.Conv2D(2, (3, 5), strides=(2, 1))(images)
    outputs = [Function(change, f"unmoved{i}")(maps) for i, change in enumerate(UNMOVED.values())]
    entries = survey(keras.Model(images, outputs))
    layouts = {entry.name: entry.map for entry in entries}
    (expected,) = (entry.map for entry in entries if entry.name.startswith("conv"))
    assert expected.shape == (30, 79)
    assert [kind for i, kind in enumerate(UNMOVED) if layouts[f"unmoved{i}"] != expected] == []


def test_channels_first_inside_a_layer():
    def pooled(maps):
        channels_first = tf.transpose(maps, (0, 3, 1, 2))
        return tf.nn.max_pool2d(channels_first, (2, 5), (2, 3), "VALID", data_format="NCHW")

    layout = survey(keras.Sequential([keras.Input(SHAPE), Function(pooled)]))[0].map
    assert (layout.rows.stride, layout.columns.stride) == (2, 3)
    assert (layout.rows.field, layout.columns.field) == (2, 5)
    assert layout.shape == (30, 27) and layout.order == (2, 3, 1)


@pytest.mark.parametrize("channels_first", [False, True])
def test_tokens_are_folded_back_in_their_order(channels_first):
    body = [
        layers.Conv2D(3, 5, strides=5),
        layers.Reshape((-1, 3)),
        layers.Dense(2, use_bias=False),
        *([layers.Permute((2, 1))] if channels_first else []),
    ]
    model = model_of(*body)
    model.layers[2].kernel.assign(np.random.default_rng(0).normal(size=(3, 2)))
    images = np.random.default_rng(1).uniform(0, 1, (2, *SHAPE))
    (maps,) = debugcnn.activations(model, images, body[-1:]).values()
    by_hand = model.layers[0](images) @ model.layers[2].kernel
    np.testing.assert_allclose(maps, by_hand, rtol=1e-4)


def test_reordered_axes_are_put_in_order():
    model = model_of(layers.Conv2D(3, 3, strides=2), layers.Permute((3, 2, 1), name="reordered"))
    images = np.random.default_rng(1).uniform(0, 1, (2, *SHAPE))
    maps = debugcnn.activations(model, images, ["reordered"])["reordered"]
    np.testing.assert_allclose(maps, model.layers[0](images), rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: tf.reverse(x, [1]),
        lambda x: tf.roll(x, 3, 2),
        lambda x: tf.reshape(x, (-1, x.shape[2], x.shape[1], x.shape[3])),
        lambda x: tf.concat([x, x], 1),
        lambda x: tf.sort(x, 1),
        lambda x: tf.transpose(tf.reshape(x, (-1, *x.shape[1:3], 2, 1)), (0, 3, 1, 2, 4)),
        lambda x: x[:, ::-1],
        lambda x: tf.tile(x, (1, 2, 1, 1)),
    ],
)
def test_operations_that_move_units_in_an_unknown_way_return_no_map(change):
    body = [layers.Conv2D(2, 3), Function(change, "moved")]
    model = keras.Sequential([keras.Input(SHAPE), *body])
    assert survey(model)[0].map and survey(model)[1].map is None
    with pytest.raises(ValueError, match="'moved' returns no map"):
        debugcnn.activations(model, np.zeros((1, *SHAPE)), ["moved"])


# Araujo, Norris and Sim, Distill 2019, doi:10.23915/distill.00021, table of architectures.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "field"),
    [
        ("VGG16", "block5_pool", 212),
        ("MobileNet", "conv_pw_13_relu", 315),
        ("ResNet50", "conv5_block3_out", 483),
        ("InceptionV3", "mixed10", 1311),
    ],
)
def test_fields_of_well_known_models_are_the_published_ones(name, layer, field):
    model = getattr(keras.applications, name)(weights=None)
    facts = {facts.name: facts for facts in debugcnn.layer_table(model)}[layer]
    assert (facts.receptive_field, facts.stride) == (field, 32)
    assert debugcnn.default_layer(model) == layer
    if name == "InceptionV3":
        strides = {facts.name: facts.stride for facts in debugcnn.layer_table(model)}
        assert strides["mixed7"] == 16


def test_a_field_is_counted_in_the_graph_that_runs():
    """The padding of a strided convolution depends on the size: on 8 pixels 1 behind, on 9 both."""
    model = keras.Sequential(
        [keras.Input((8, 9, 1)), layers.Conv2D(1, 3, strides=2, padding="same")]
    )
    layout = survey(model)[0].map
    assert (layout.rows.start, layout.columns.start) == (0, -1)


def test_layer_table_counts_the_larger_of_two_sides():
    body = [layers.Conv2D(1, (3, 1), strides=(1, 2)), layers.Conv2D(1, (1, 5), strides=(3, 1))]
    wide, both = debugcnn.layer_table(keras.Sequential([keras.Input(SHAPE), *body]))
    assert (wide.receptive_field, wide.stride) == (3, 2)
    assert (both.receptive_field, both.stride) == (1 + 4 * 2, 3)
    model = keras.Sequential([keras.Input(SHAPE), *body])
    assert debugcnn.receptive_field(model, body[1])[1] == 3


def test_layer_table():
    body = [
        layers.Conv2D(3, 3, name="look"),
        layers.ReLU(name="relu"),
        layers.GlobalAveragePooling2D(name="mean"),
        layers.Dense(5, name="decide"),
    ]
    table = debugcnn.layer_table(keras.Sequential([keras.Input((8, 12, 3)), *body]))
    assert table == [
        ("look", "Conv2D", (6, 10, 3), 84, 3, 1, "convolution"),
        ("relu", "ReLU", (6, 10, 3), 0, 3, 1, "activation"),
        ("mean", "GlobalAveragePooling2D", (3,), 0, None, None, "global pooling"),
        ("decide", "Dense", (5,), 20, None, None, "dense"),
    ]
