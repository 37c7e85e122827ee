"""Heatmaps from gradients of pixels, against closed forms, finite differences and tapes."""

import numpy as np
import pytest
import tensorflow as tf
from heatmap_models import (
    GREY,
    SIDES,
    assert_close,
    chain,
    linear_model,
    random_images,
    tanh_model,
)
from keras import layers
from small_models import randomise

import debugcnn


@pytest.mark.parametrize("fill", [None, 20, [10, 20, 30], "array"])
def test_integrated_gradients_of_a_linear_model_are_its_summands(fill):
    model, weights = linear_model()
    images = random_images(3)
    fill = random_images(3, seed=2) if fill == "array" else fill
    result = debugcnn.integrated_gradients(model, images, [2, 0, 1], steps=2, baseline=fill)
    difference = images - np.float32(GREY if fill is None else fill)
    expected = np.einsum("nhwc,hwcn->nhw", difference, weights[..., [2, 0, 1]]) / 255
    assert_close(result, expected)
    wide = debugcnn.integrated_gradients(model, images, 1, value_range=(-300, 100))
    assert_close(wide, ((images + 100) * weights[..., 1]).sum(-1) / 255)


def test_integrated_gradients_add_up_to_what_the_logit_gained():
    model, logits_by_hand = tanh_model()
    images, fill = random_images(3), random_images(3, seed=2)
    gained = (logits_by_hand(images) - logits_by_hand(fill))[:, 1]
    errors = {}
    for steps in (2, 8, 64):
        heatmaps = debugcnn.integrated_gradients(model, images, 1, steps=steps, baseline=fill)
        errors[steps] = np.abs(heatmaps.sum((1, 2)) - gained).max() / np.abs(gained).max()
    assert errors[64] < 1e-3 and errors[64] < errors[8] / 4 < errors[2] / 16


def test_smooth_grad_of_a_linear_model_is_the_size_of_its_weights():
    model, weights = linear_model()
    result = debugcnn.smooth_grad(model, random_images(), [2, 0, 1], samples=3)
    assert_close(result, np.abs(np.moveaxis(weights[..., [2, 0, 1]], -1, 0)).sum(-1) / 255)


def test_smooth_grad_without_noise_is_the_size_of_the_gradient():
    model, logits_by_hand = tanh_model()
    images = random_images(2)
    heatmaps = debugcnn.smooth_grad(model, images, [2, 0], samples=2, noise=0)
    for y, x in np.random.default_rng(0).integers(0, SIDES, (12, 2)):
        steps = np.zeros((3, *images.shape))
        steps[range(3), :, y, x, range(3)] = 1e-3
        differences = [logits_by_hand(images + s) - logits_by_hand(images - s) for s in steps]
        slopes = [d[[0, 1], [2, 0]] / 2e-3 for d in differences]
        np.testing.assert_allclose(heatmaps[:, y, x], np.abs(slopes).sum(0), rtol=1e-3, atol=1e-7)


def test_the_noise_of_smooth_grad():
    """The gradient of a sum of squares is twice the pixel, so here twice the mean noise."""
    square = layers.Activation(tf.square)
    model = chain(square, layers.Flatten(), layers.Dense(1, kernel_initializer="ones"), channels=1)
    images = np.zeros((2, *SIDES, 1), "f4")
    for value_range, width in (((0, 255), 255), ((-1, 1), 2)):
        options = dict(samples=8, noise=0.1, value_range=value_range)
        heatmaps = debugcnn.smooth_grad(model, images, 1, **options)
        np.testing.assert_array_equal(heatmaps[0], heatmaps[1])
        deviation = 2 * 0.1 * width / np.sqrt(8)
        assert np.sqrt((heatmaps**2).mean()) == pytest.approx(deviation, rel=0.15)
        np.testing.assert_array_equal(debugcnn.smooth_grad(model, images, 1, **options), heatmaps)
        reseeded = debugcnn.smooth_grad(model, images, 1, seed=1, **options)
        assert np.abs(reseeded - heatmaps).max() > deviation / 2


RELUS = {
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "elu": tf.nn.elu,
    "selu": tf.nn.selu,
    "leaky_relu": lambda x: tf.nn.leaky_relu(x, 0.2),
}


@pytest.mark.parametrize("activation", RELUS)
def test_guided_backpropagation_passes_on_what_is_above_zero(activation):
    @tf.custom_gradient
    def guided(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            activated = RELUS[activation](inputs)
        return activated, lambda upstream: tape.gradient(activated, inputs, tf.maximum(upstream, 0))

    first, last = (layers.Conv2D(5, 3, strides=2, activation=activation) for _ in range(2))
    pooling, dense = layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax")
    model, images = chain(layers.Rescaling(1 / 255), first, last, pooling, dense), random_images()
    randomise(model)

    def by_hand(activate):
        with tf.GradientTape() as tape:
            pixels = tf.constant(images)
            tape.watch(pixels)
            maps = pixels / 255
            for layer in (first, last):
                maps = activate(tf.nn.conv2d(maps, layer.kernel, 2, "VALID") + layer.bias)
            logit = (tf.reduce_mean(maps, (1, 2)) @ dense.kernel)[:, 1]
        return np.abs(tape.gradient(logit, pixels)).sum(-1)

    plain, expected = by_hand(RELUS[activation]), by_hand(guided)
    result = debugcnn.guided_backpropagation(model, images, 1)
    assert_close(result, expected)
    assert np.abs(plain - expected).max() > 0.1 * expected.max()
    assert_close(debugcnn.smooth_grad(model, images, 1, samples=1, noise=0), plain)
    assert_close(by_hand(RELUS[activation]), plain)
    dense.kernel.assign(-np.abs(dense.kernel))
    np.testing.assert_array_equal(debugcnn.guided_backpropagation(model, images, 1), 0)
    assert debugcnn.smooth_grad(model, images, 1, samples=1, noise=0).max() > 0


def test_guided_backpropagation_needs_a_relu():
    with pytest.raises(ValueError, match="has no ReLU.*use smooth_grad.$"):
        debugcnn.guided_backpropagation(tanh_model()[0], random_images(), 1)
