"""Grad-CAM against class activation maps and finite differences, in models of every kind."""

import warnings

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_models import (
    BUILDS,
    HEADS,
    SIDES,
    Subclassed,
    chain,
    classifier,
    functional,
    images_for,
    layer_of,
    noise,
    randomise,
    randomise_trainable,
    sequential,
    trunk,
)

import debugcnn
from debugcnn.views.tracing import all_layers


def class_weights(model, target):
    """(channels,): the dense layer's weights to a class; a single unit has classes 0 and 1."""
    kernel = layer_of(model, "dense").kernel.numpy()
    return kernel[:, target] if kernel.shape[1] > 1 else kernel[:, 0] * (1 if target else -1)


def assert_class_activation_map(model, images, maps, target, tolerance=1e-4):
    """Zhou et al., CVPR 2016: with global average pooling, Grad-CAM has a closed form."""
    cams = np.maximum(maps @ class_weights(model, target), 0) / np.prod(maps.shape[1:3])
    size = images.shape[2], images.shape[1]
    expected = np.stack([cv2.resize(cam, size, interpolation=cv2.INTER_LINEAR) for cam in cams])
    heatmaps = debugcnn.grad_cam(model, images, target)
    assert heatmaps.dtype == np.float32 and heatmaps.shape == images.shape[:3]
    assert expected.max() > 1e-4
    np.testing.assert_allclose(heatmaps, expected, atol=tolerance * expected.max())


@pytest.mark.parametrize("head", HEADS)
def test_grad_cam_is_the_class_activation_map_with_every_head(head):
    model, images = classifier(head), noise()
    maps = debugcnn.activations(model, images, ["last"])["last"]
    for target in (0, 1):
        assert_class_activation_map(model, images, maps, target)


@pytest.mark.parametrize("build", BUILDS)
def test_grad_cam_is_the_class_activation_map_in_every_kind_of_model(build):
    model, images = classifier("softmax", build), noise()
    maps = images
    for name in ("rescaling", "first", "norm", "relu", "pool", "last"):
        maps = next(p for p in all_layers(model) if p.name.startswith(name))(maps)
    assert_class_activation_map(model, images, maps.numpy(), 2)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("head", ["sigmoid", "softmax", "cast softmax"])
def test_grad_cam_in_mixed_precision(policy, head):
    keras.config.set_dtype_policy(policy)
    try:
        model = classifier(head)
    finally:
        keras.config.set_dtype_policy("float32")
    images = noise()
    exact = classifier(head)
    maps = debugcnn.activations(exact, images, ["last"])["last"]
    # Of the class with most evidence, since small differences drown in 8 bits.
    target = max((0, 1), key=lambda target: (maps @ class_weights(exact, target)).max())
    assert_class_activation_map(model, images, maps, target, tolerance=0.02)
    for maps in debugcnn.activations(model, images).values():
        assert maps.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("build", [functional, sequential])
def test_grad_cam_reaches_into_a_keras_application(build):
    backbone = keras.applications.MobileNetV2((64, 64, 3), 0.35, include_top=False, weights=None)
    head = [layers.GlobalAveragePooling2D(), layers.Dense(2, "softmax", name="dense")]
    model, images = randomise(build([backbone, *head], 64)), noise(2, 64) / 127.5 - 1
    assert_class_activation_map(model, images, backbone(images).numpy(), 1)
    inner = keras.Model(backbone.input, backbone.get_layer("block_12_add").output)
    maps, gradients = debugcnn.evidence(model, images, 1, layer="block_12_add")
    np.testing.assert_allclose(maps, inner(images), rtol=1e-4, atol=1e-3)
    assert np.abs(gradients).max() > 0


def test_gradients_are_those_of_finite_differences():
    tail = [layers.Flatten(), layers.Dense(4, "tanh", name="hidden"), *HEADS["logits"]()]
    model = randomise(functional([*trunk(), *tail]))
    hidden, dense = (layer_of(model, name).get_weights() for name in ("hidden", "dense"))
    hidden[0] /= 50
    layer_of(model, "hidden").set_weights(hidden)
    maps, gradients = debugcnn.evidence(model, noise(2), [2, 0])
    for image, target in enumerate([2, 0]):
        for position in map(tuple, np.random.default_rng(0).integers(0, maps.shape[1:], (20, 3))):
            logits = []
            for step in (1e-4, -1e-4):
                changed = maps[image].astype("f8")
                changed[position] += step
                logits.append((np.tanh(changed.ravel() @ hidden[0] + hidden[1]) @ dense[0])[target])
            slope = (logits[0] - logits[1]) / 2e-4
            np.testing.assert_allclose(gradients[image][position], slope, rtol=1e-3, atol=1e-6)


def test_grad_cam_is_the_weighted_sum_of_the_evidence():
    model, images = classifier("logits"), noise()
    for name in ("first", "norm"):
        maps, gradients = debugcnn.evidence(model, images, 1, layer=name)
        expected = np.maximum((gradients.mean((1, 2), keepdims=True) * maps).sum(-1), 0)
        assert (expected > 0).any() and (expected == 0).any()
        heatmaps = debugcnn.grad_cam(model, images, 1, layer=layer_of(model, name))
        np.testing.assert_allclose(heatmaps, expected, rtol=1e-4, atol=1e-6)


def predicted_classes(model, images):
    shares = model.predict(images, verbose=0)
    return shares.argmax(1) if shares.shape[1] > 1 else (shares[:, 0] > 0.5).astype(int)


@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_without_a_target_each_image_gets_its_predicted_class(head):
    model, images = classifier(head), noise(12)
    dense = layer_of(model, "dense")
    maps = debugcnn.activations(model, images, ["last"])["last"]
    logits = maps.mean((1, 2)) @ dense.kernel.numpy()
    dense.bias.assign(-np.median(logits, 0))  # so that classes differ
    classes = predicted_classes(model, images)
    assert len(set(classes)) > 1
    predicted = debugcnn.grad_cam(model, images)
    np.testing.assert_array_equal(predicted, debugcnn.grad_cam(model, images, classes))
    other = debugcnn.grad_cam(model, images, 1 - np.minimum(classes, 1))
    assert (predicted != other).any((1, 2)).all()


def test_class_0_of_a_single_unit_is_minus_class_1():
    model, images = classifier("sigmoid"), noise()
    maps, gradients = debugcnn.evidence(model, images, 1)
    same_maps, gradients_of_0 = debugcnn.evidence(model, images, 0)
    np.testing.assert_array_equal(maps, same_maps)
    np.testing.assert_array_equal(gradients_of_0, -gradients)
    assert np.abs(gradients).min((1, 2)).max() > 0


@pytest.mark.parametrize("head", ["sigmoid", "softmax", "separate sigmoid", "separate softmax"])
def test_a_saturated_prediction_has_the_evidence_of_any_other(head):
    model, images = classifier(head), noise()
    before = debugcnn.grad_cam(model, images, 1)
    bias = layer_of(model, "dense").bias
    bias.assign(bias + np.eye(bias.shape[0], dtype="f4")[-1] * 500)
    assert set(np.unique(model(images))) <= {0, 1}
    np.testing.assert_array_equal(debugcnn.grad_cam(model, images, 1), before)
    assert before.max() > 0


def test_a_map_without_evidence_is_zero_and_leaves_the_image():
    model, images = classifier("sigmoid"), np.rint(noise())
    dense = layer_of(model, "dense")
    dense.kernel.assign(-np.abs(dense.kernel))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heatmaps = debugcnn.grad_cam(model, images, 1)
        shown = debugcnn.overlay(images, heatmaps)
    np.testing.assert_array_equal(heatmaps, 0)
    np.testing.assert_array_equal(shown, images)
    assert debugcnn.grad_cam(model, images, 0).min((1, 2)).max() > 0


class WithDeadEnd(Subclassed):
    def call(self, images):
        self.parts[0](inputs=images)
        return self.parts[2](self.parts[1](images))


def test_a_layer_without_effect_on_the_prediction_is_refused():
    model = WithDeadEnd([layers.Conv2D(2, 3, name="aside"), layers.Flatten(), layers.Dense(1)])
    with pytest.raises(ValueError, match="'aside' has no effect"):
        debugcnn.grad_cam(model, noise(), layer="aside")
    with pytest.raises(ValueError, match="No layer .* map that can be followed to its prediction"):
        debugcnn.grad_cam(model, noise())


def test_sides_are_not_exchanged():
    model = chain(layers.Conv2D(4, 3, strides=(2, 1), padding="same", name="look"))
    images = np.zeros((1, *SIDES, 3), np.float32)
    images[0, 4:8, 36:40] = 255
    (maps,) = debugcnn.activations(model, images, ["look"]).values()
    assert maps.shape == (1, 18, 48, 4)
    model.get_layer("look").bias.assign(np.zeros(4))
    of_classes = [debugcnn.grad_cam(model, images, k)[0] for k in range(3)]
    heatmap = max(of_classes, key=np.max)
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert 2 <= y < 10 and 34 <= x < 42
    shown = debugcnn.overlay(images, heatmap[None])
    assert shown.shape == images.shape
    y, x = np.unravel_index(np.abs(shown[0] - images[0]).sum(-1).argmax(), SIDES)
    assert 2 <= y < 10 and 34 <= x < 42
    assert debugcnn.occlusion(model, images, 1).shape == (1, *SIDES)
    patterns, _ = debugcnn.filter_patterns(model, "look", steps=1)
    assert patterns.shape == (4, 4, 3, 3)


class TwoConvolutions(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Conv2D(4, 3, name="first")
        self.last = layers.Conv2D(4, 3, strides=2, name="last")
        self.aside = layers.Conv2D(2, 3, name="aside")
        self.decide = layers.Dense(3, name="decide")

    def build(self, shape):
        """Keras' own would trace `call`, which TensorFlow's operations do not allow."""

    def maps(self, images):
        return tf.nn.relu(self.last(tf.nn.relu(self.first(images))))

    def call(self, images):
        return tf.nn.softmax(self.decide(tf.reduce_mean(self.maps(images), (1, 2))))


class WithAside(TwoConvolutions):
    def call(self, images):
        prediction = super().call(images)
        self.aside(images)
        return prediction


class InAFunction(TwoConvolutions):
    @tf.function
    def call(self, images):
        return super().call(images)


class Compiled(TwoConvolutions):
    @tf.function(jit_compile=True)
    def call(self, images):
        return super().call(images)


class InnerFunction(TwoConvolutions):
    def __init__(self):
        super().__init__()
        self.inner = tf.function(self.maps)

    def call(self, images):
        return tf.nn.softmax(self.decide(tf.reduce_mean(self.inner(images), (1, 2))))


@pytest.mark.parametrize("kind", [TwoConvolutions, WithAside, InAFunction, Compiled, InnerFunction])
def test_subclassed_models_with_functions_and_operations_of_their_own(kind):
    model, images = kind(), np.random.default_rng(0).uniform(0, 1, (2, 20, 30, 3)).astype("f4")
    model(images)
    randomise_trainable(model)
    assert debugcnn.default_layer(model) == "Relu behind last"
    for target in (0, 2):
        weights = model.decide.kernel.numpy()[:, target]
        cam = np.maximum(np.asarray(TwoConvolutions.maps(model, images)) @ weights, 0) / (8 * 13)
        expected = tf.image.resize(cam[..., None], (20, 30))[..., 0]
        heatmaps = debugcnn.grad_cam(model, images, target)
        np.testing.assert_allclose(heatmaps, expected, rtol=1e-3, atol=1e-6)
    maps, _ = debugcnn.evidence(model, images, 1)
    np.testing.assert_allclose(maps, TwoConvolutions.maps(model, images), rtol=1e-4, atol=1e-6)
    assert {"first", "last"} <= set(debugcnn.convolution_layers(model))


def shrinking(*end, side=32):
    body = []
    for _ in range(4):
        body += [layers.Conv2D(4, 3, padding="same", activation="relu"), layers.MaxPooling2D()]
    return chain(*body, *end, sides=(side, side))


def test_a_last_map_of_one_unit_gets_a_sentence():
    model = shrinking(layers.MaxPooling2D(), side=32)
    with pytest.raises(ValueError, match="single unit .*use larger images"):
        debugcnn.grad_cam(model, images_for(model), 1)
    with pytest.raises(ValueError, match="single unit"):
        debugcnn.default_layer(shrinking(layers.Conv2D(4, 2, activation="relu")))
    body = [layers.Conv2D(4, 3, strides=9, name="look"), layers.Conv2D(4, 3, strides=2)]
    with pytest.raises(ValueError, match="single unit"):  # a window of 3 on a map of 4
        debugcnn.default_layer(chain(*body, layers.ReLU(), sides=(36, 36)))
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
def test_a_layer_that_reads_a_whole_map_is_a_global_pooling(whole):
    body = [layers.Conv2D(4, 3, strides=7, name="look"), whole, layers.ReLU()]
    model = chain(*body, head=[layers.Flatten(), layers.Dense(3)])
    assert debugcnn.default_layer(model) == "look"


def test_a_map_is_named_after_the_layer_that_made_it():
    model = chain(layers.Conv2D(4, 3, name="look"), layers.Dropout(0.5, name="drop"))
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
    attended = layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
    tokens = layers.LayerNormalization(name="last")(layers.Add()([tokens, attended]))
    pooled = tokens[:, 0] if class_token else layers.GlobalAveragePooling1D()(tokens)
    prediction = layers.Dense(3, "softmax", name="decide")(pooled)
    return randomise_trainable(keras.Model(images, prediction))


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
    model = chain(*body, head=head)
    with pytest.raises(ValueError, match="tokens whose positions .*cannot be followed"):
        debugcnn.default_layer(model)


def test_tokens_that_cannot_be_followed_get_a_sentence():
    model = transformer(class_token=True)
    with pytest.raises(ValueError, match="tokens whose positions .*cannot be followed"):
        debugcnn.grad_cam(model, images_for(model), 1)
    assert debugcnn.grad_cam(model, images_for(model), 1, layer="patches").shape == (3, 24, 32)
    with pytest.raises(ValueError, match="returns no map"):
        debugcnn.grad_cam(model, images_for(model), 1, layer="value")


def test_a_tiny_gradient_survives_float16():
    """1e-5 / 1728 units is below float16's smallest number, 6e-8, if it is not scaled."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = chain(layers.Conv2D(4, 3, padding="same", activation="relu", name="look"))
    finally:
        keras.config.set_dtype_policy("float32")
    model.get_layer("decide").kernel.assign(np.full((4, 3), 1e-5))
    for layer in (None, "look"):  # a mean may turn float16 into float32 before it
        maps, gradients = debugcnn.evidence(model, images_for(model) / 255, 1, layer=layer)
        np.testing.assert_allclose(gradients, 1e-5 / (36 * 48), rtol=1e-2)
