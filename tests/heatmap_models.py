"""Small models whose logits and activation maps are also computed by hand, for heatmaps."""

import functools

import cv2
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from small_models import HEADS, layer_of, randomise, trunk

SIDES = 10, 16  # height and width, so that exchanged sides are noticed
GREY = 127.5


def random_images(count=3, channels=3, seed=1):
    values = np.random.default_rng(seed).uniform(0, 255, (count, *SIDES, channels))
    return np.rint(values).astype("f4")


def chain(*parts, channels=3):
    images = outputs = keras.Input((*SIDES, channels))
    for part in parts:
        outputs = part(outputs)
    return keras.Model(images, outputs)


def classifier(head="softmax", policy="float32"):
    """A model that predicts several classes for `random_images`."""
    keras.config.set_dtype_policy(policy)
    try:
        model = chain(*trunk(), layers.GlobalAveragePooling2D(), *HEADS[head]())
    finally:
        keras.config.set_dtype_policy("float32")
    bias = layer_of(randomise(model), "dense").bias
    bias.assign(bias - np.median(logits(model, random_images()), 0)[-bias.shape[0] :])
    return model


cached_classifier = functools.cache(classifier)  # for tests that do not change it


def maps_of(model, images, layer="last"):
    return keras.Model(model.input, model.get_layer(layer).output)(images)


def logits(model, images, maps=None):
    """(n, classes), by hand from the maps of the last convolution."""
    maps = maps_of(model, images) if maps is None else maps
    dense = model.get_layer("dense")
    units = tf.cast(tf.reduce_mean(maps, (1, 2)), "float32") @ dense.kernel + dense.bias
    return units if units.shape[1] > 1 else tf.concat([-units, units], 1)


def linear_model(channels=3):
    """A model whose three logits are x @ w / 255 + b, and w (height, width, channels, 3)."""
    model = chain(layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3), channels=channels)
    return model, randomise(model).get_weights()[0].reshape(*SIDES, channels, 3)


def tanh_model():
    """A model of dense layers, and its logits in float64."""
    hidden, dense = layers.Dense(6, "tanh"), layers.Dense(3)
    model = chain(layers.Rescaling(1 / 255), layers.Flatten(), hidden, dense)
    weights = randomise(model).get_weights()
    model.set_weights([weights[0] / 8, *weights[1:]])
    kernel, bias, out, out_bias = (np.float64(values) for values in model.get_weights())

    def logits_by_hand(images):
        flat = np.float64(images).reshape(len(images), -1) / 255
        return np.tanh(flat @ kernel + bias) @ out + out_bias

    return model, logits_by_hand


def upsampled(maps):
    """(n, h, w) as (n, *SIDES) float32, bilinearly."""
    return np.stack([cv2.resize(np.float32(m), SIDES[::-1]) for m in maps])


def assert_close(result, expected, tolerance=1e-4):
    """Within a part of the largest expected magnitude, which is not zero."""
    assert result.dtype == np.float32 and np.abs(expected).max() > 0
    np.testing.assert_allclose(result, expected, atol=tolerance * np.abs(expected).max(), rtol=0)
