"""Kinds of models that users bring: each works, or says in one sentence why it does not."""

import json
import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from small_models import (
    SIDES,
    chain,
    ensemble,
    images_for,
    randomise_trainable,
    two_streams,
    with_two_outputs,
)

import debugcnn
from debugcnn.views import tracing

# Models that others trained, and truth.json, which says what each takes.
PUBLISHED = Path(os.environ.get("STRANGERS", Path(__file__).parents[2] / "shared" / "nets"))


def check_views(model, layer=None, output=None):
    """All views have shapes that fit, and the evidence is not empty for every class."""
    images = images_for(model)
    layer = layer or debugcnn.convolution_layers(model)[-1]
    patterns, reached = debugcnn.filter_patterns(model, layer, [0, 1], steps=1)
    assert np.ptp(patterns) > 0 and np.isfinite(reached).all()
    for maps in debugcnn.activations(model, images).values():
        assert maps.ndim == 4 and len(maps) == len(images)
    classes = debugcnn.classifier_head(model, output).classes
    heatmaps = [debugcnn.grad_cam(model, images, k, output=output) for k in range(classes)]
    assert heatmaps[0].shape == images.shape[:3] and np.max(heatmaps) > 0
    shares = debugcnn.probabilities(model, images, output)
    assert shares.shape == (len(images), classes) and shares.min() >= 0 and shares.max() <= 1


KINDS = {
    "dilated": lambda: [layers.Conv2D(4, 3, dilation_rate=2, activation="relu")],
    "grouped": lambda: [layers.Conv2D(6, 3, groups=3, activation="relu")],
    "depthwise": lambda: [layers.DepthwiseConv2D(3, strides=2, activation="relu")],
    "separable": lambda: [layers.SeparableConv2D(4, 3, activation="relu")],
    "transposed": lambda: [layers.Conv2DTranspose(4, 3, strides=2, activation="relu")],
    "swish": lambda: [layers.Conv2D(4, 3, activation="swish")],
    "gelu": lambda: [layers.Conv2D(4, 3), layers.Activation("gelu")],
    "group normalization": lambda: [layers.Conv2D(4, 3), layers.GroupNormalization(2)],
    "layer normalization": lambda: [layers.Conv2D(4, 3), layers.LayerNormalization()],
    "upsampling": lambda: [layers.UpSampling2D(), layers.Conv2D(4, 3, activation="relu")],
    "resizing": lambda: [layers.Resizing(32, 32), layers.Conv2D(4, 3, activation="relu")],
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_layers(kind):
    check_views(chain(layers.Conv2D(6, 3, padding="same"), *KINDS[kind](), layers.Conv2D(4, 3)))


def test_an_ensemble_and_parallel_streams():
    model = ensemble()
    assert debugcnn.convolution_layers(model) == ["net0/look", "net1/look"]
    check_views(model)
    check_views(two_streams(), "coarse3")


def test_several_outputs():
    check_views(with_two_outputs(named=True)[0], output="kind")


def test_every_convolution_and_pooling_is_shown():
    body = [
        layers.Conv2D(4, 3, name="plain"),
        layers.Conv2DTranspose(4, 3, name="transposed"),
        layers.AveragePooling2D(2, name="mean"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.MaxPooling2D(name="highest"),
        layers.SeparableConv2D(4, 3, name="separable"),
    ]
    model = chain(*body, layers.ReLU())
    assert list(debugcnn.activations(model, images_for(model))) == [part.name for part in body]
    convolutions = ["plain", "transposed", "depthwise", "separable"]
    assert debugcnn.convolution_layers(model) == convolutions


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_channels(channels):
    check_views(chain(layers.Conv2D(4, 3, activation="relu"), channels=channels))


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
    expected = debugcnn.grad_cam(plain, images, 1)
    for dtype in (np.uint8, np.float32):
        heatmaps = debugcnn.grad_cam(model, images.astype(dtype), 1)
        np.testing.assert_allclose(heatmaps, expected, rtol=1e-5)
    for call in (debugcnn.receptive_field, debugcnn.filter_patterns):
        with pytest.raises(ValueError, match="whole numbers .*float32"):
            call(model, "look")


# Keras warns that the model takes {"photo": images}, and passes the images on.
@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
def test_a_named_input():
    images = keras.Input((*SIDES, 3), name="photo")
    maps = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(images))
    check_views(randomise_trainable(keras.Model({"photo": images}, layers.Dense(3)(maps))))


def test_another_backend_gets_a_sentence(monkeypatch):
    model = chain(layers.Conv2D(4, 3))
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="runs on jax .*KERAS_BACKEND"):
        debugcnn.grad_cam(model, images_for(model))


def test_what_is_no_keras_model_gets_a_sentence():
    with pytest.raises(ValueError, match="is a builtins.dict, not a keras.Model"):
        debugcnn.convolution_layers({})


APPLICATIONS = {  # name of the layer that Grad-CAM explains
    "MobileNetV2": r"out_relu",
    "EfficientNetB0": r"top_activation",
    "ConvNeXtTiny": r"add_\d+",
    "DenseNet121": r"relu(_\d+)?",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications(name):
    keras.backend.clear_session()
    model = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3), classes=10)
    images = images_for(model, 2)
    names, last = debugcnn.convolution_layers(model), debugcnn.default_layer(model)
    assert len(names) > 20 and re.fullmatch(APPLICATIONS[name], last)
    maps, gradients = debugcnn.evidence(model, images, 3)
    (output,) = (op.output for op in model.operations if op.name == last)
    inner = keras.Model(model.input, output)
    np.testing.assert_allclose(maps, inner(images, training=False), rtol=1e-3, atol=1e-3)
    assert np.abs(gradients).max() > 0
    facts = {facts.name: facts for facts in debugcnn.layer_table(model)}
    assert facts[last].stride == 32
    patterns, _ = debugcnn.filter_patterns(model, names[5], [0, 1], steps=2)
    assert patterns.shape[3] == 3


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the models in the folder STRANGERS")
def test_published_models():
    for file, facts in json.loads((PUBLISHED / "truth.json").read_text()).items():
        model = debugcnn.load_model(PUBLISHED / file)
        expected = tuple(facts["input"])
        assert tracing.own_shape(model) == expected
        images = images_for(model, 2) / 255
        assert debugcnn.grad_cam(model, images, 1).shape == (2, *expected[:2])
        layer = debugcnn.convolution_layers(model)[-1]
        assert np.isfinite(debugcnn.filter_patterns(model, layer, [0], steps=1)[1]).all()
