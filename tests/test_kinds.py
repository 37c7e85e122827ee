"""The table of layer kinds, and what follows from one more row."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from small_models import chain, images_for

import debugcnn
from debugcnn.views import kinds
from debugcnn.views.kinds import Kernel, Kind


class OwnConvolution(layers.Layer):
    """A convolution with names of its own, of which Keras knows nothing."""

    def build(self, shape):
        self.spread = keras.initializers.RandomNormal(stddev=0.2)
        self.templates = self.add_weight(shape=(3, 3, shape[-1], 4), initializer=self.spread)

    def call(self, images):
        return tf.nn.conv2d(images, tf.convert_to_tensor(self.templates), 1, "VALID")


class Subclass(layers.Conv2D):
    """What users write to change a detail."""


ROW = Kind(OwnConvolution, "convolution", kernels=(Kernel("templates", "spread", (-1,)),))


def bars(model):
    figure = debugcnn.layers_figure(debugcnn.layer_table(model))
    plt.close(figure)
    return len(figure.axes[0].patches)


def test_a_row_makes_a_kind_of_layer_known_everywhere(monkeypatch):
    model = chain(OwnConvolution(name="own"), layers.Conv2D(3, 3, name="last"))
    assert debugcnn.convolution_layers(model) == ["last"]
    assert (kinds.role_of(model.layers[0]), bars(model)) == (None, 3)
    monkeypatch.setattr(kinds, "KINDS", (ROW, *kinds.KINDS))
    model = chain(OwnConvolution(name="own"), layers.ReLU(name="relu"), layers.Conv2D(3, 3))
    own, images = model.get_layer("own"), images_for(model)
    assert debugcnn.convolution_layers(model)[0] == "own"
    maps = debugcnn.activations(model, images)
    np.testing.assert_allclose(maps["own"], own(images), rtol=1e-4, atol=1e-3)
    assert debugcnn.convolution_ends(model)[0] == "relu"
    assert debugcnn.layer_table(model)[0].role == "convolution"
    assert bars(model) == 4
    assert "own" in debugcnn.summarize_channels(model, images)
    ((kernel, initializer),) = kinds.kernels_of(own)
    np.testing.assert_array_equal(kernel, own.templates)
    assert initializer is own.spread
    assert [filters.shape for filters in kinds.filters_of(own)] == [(27, 4)]
    assert kinds.classes_of("convolution")[0] is OwnConvolution


def test_a_subclass_is_of_the_kind_that_it_extends():
    model = chain(Subclass(4, 3, name="look"), layers.ReLU())
    assert debugcnn.convolution_layers(model) == ["look"]
    assert debugcnn.layer_table(model)[0].role == "convolution"
    assert [filters.shape for filters in kinds.filters_of(model.layers[0])] == [(27, 4)]


FILTERS = {  # (weights, filters) of the kernels of layers on five channels
    "convolution": (layers.Conv2D(6, 3), [(45, 6)]),
    "groups": (layers.Conv2D(10, 3, groups=5), [(9, 10)]),
    "transposed": (layers.Conv2DTranspose(6, (3, 2)), [(30, 6)]),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), [(9, 10)]),
    "separable": (layers.SeparableConv2D(6, 3), [(9, 5), (5, 6)]),
    "dense": (layers.Dense(7), [(5, 7)]),
    "einsum": (layers.EinsumDense("byxc,cd->byxd", (None, None, 7)), [(5, 7)]),
    "unlisted": (layers.SeparableConv1D(6, 3), [(3, 5), (5, 6)]),
    "none": (layers.BatchNormalization(), []),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_of_a_layer(name):
    layer, shapes = FILTERS[name]
    layer.build((None, 9, 5) if name == "unlisted" else (None, 8, 9, 5))
    assert [filters.shape for filters in kinds.filters_of(layer)] == shapes
    for _, initializer in kinds.kernels_of(layer):
        assert isinstance(initializer, keras.initializers.Initializer)


def test_filters_hold_the_weights_of_one_channel_each():
    layer = layers.Conv2DTranspose(6, 3)
    layer.build((1, 8, 9, 5))
    ((kernel, _),), (filters,) = kinds.kernels_of(layer), kinds.filters_of(layer)
    np.testing.assert_array_equal(filters[:, 2], kernel[:, :, 2].ravel())
    layer = layers.DepthwiseConv2D(3, depth_multiplier=2)
    layer.build((1, 8, 9, 5))
    ((kernel, _),), (filters,) = kinds.kernels_of(layer), kinds.filters_of(layer)
    np.testing.assert_array_equal(filters[:, 3], kernel[:, :, 1, 1].ravel())


def test_an_operation_on_one_tensor_joins_nothing():
    images = keras.Input((16, 16, 3))
    scaled = images / 255 - 1
    branches = [layers.Conv2D(3, 1)(scaled) for _ in range(2)]
    joined = layers.Multiply(name="product")(branches) + branches[0]
    model = keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(ops.silu(joined))))
    roles = [layer.role for layer in debugcnn.layer_table(model)]
    joins = ["join", "join", "activation", "global pooling", "dense"]
    assert roles == [None, None, "convolution", "convolution", *joins]


def test_lists_are_derived_from_the_table():
    assert issubclass(layers.Conv2D, debugcnn.CONVOLUTIONS)
    assert (layers.MaxPooling2D, layers.AveragePooling2D) == debugcnn.POOLINGS
    assert kinds.operations_of("pooling") == {"MaxPool", "AvgPool"}
    assert layers.ReLU not in kinds.LINEAR and layers.Flatten in kinds.LINEAR


def test_summary_of_channels():
    """Of the second convolution, one channel changes and one cannot."""
    model = chain(
        layers.Conv2D(4, 3, name="first"),
        layers.BatchNormalization(),
        layers.ReLU(name="relu"),
        layers.Conv2D(2, 3, activation="relu", name="second"),
        sides=(8, 8),
    )
    second = model.get_layer("second")
    kernel = np.zeros((3, 3, 4, 2), np.float32)
    kernel[..., 0] = 0.1
    second.set_weights([kernel, np.float32([1, -1])])
    assert debugcnn.convolution_ends(model) == ["relu", "second"]
    images = images_for(model, 6)
    channels = debugcnn.summarize_channels(model, np.tile(images, (7, 1, 1, 1)))
    assert list(channels) == ["first", "relu", "second", "decide"]
    highest = debugcnn.activations(model, images)["second"].max()
    assert channels["second"] == (1, 2, 0, pytest.approx(highest), True)
    assert not channels["decide"].is_map
    assert debugcnn.summarize_channels(model, images[:1])["second"][:3] == (1, 2, 0)
    kernel[..., 0] = 0
    second.set_weights([kernel, np.float32([np.inf, -1])])
    assert debugcnn.summarize_channels(model, images)["second"][:3] == (2, 2, 6 * 4 * 4)
