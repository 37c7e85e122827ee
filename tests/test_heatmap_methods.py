"""Every registered heatmap method: what they have in common."""

import functools
import inspect
from contextlib import contextmanager

import keras
import numpy as np
import pytest
from heatmap_models import (
    SIDES,
    assert_close,
    cached_classifier,
    chain,
    random_images,
)
from keras import layers
from small_models import layer_of

import debugcnn
from debugcnn import HEATMAP_METHODS
from debugcnn.views import methods, perturbation, tracing

NEED_GRADIENTS = [
    *("SmoothGrad", "integrated gradients", "integrated gradients from blur"),
    "guided backpropagation",
]
FEWER = {  # runs than in the comparison
    "SmoothGrad": dict(samples=2),
    "integrated gradients": dict(steps=3),
    "integrated gradients from blur": dict(steps=3),
    "RISE": dict(samples=24, cells=3),
    "occlusion": dict(size=4, stride=2),
}
each_method = pytest.mark.parametrize("name", HEATMAP_METHODS)


def explain(name, *arguments, **options):
    return HEATMAP_METHODS[name](*arguments, **FEWER.get(name, {}) | options)


def takes(name, option):
    return option in inspect.signature(HEATMAP_METHODS[name].function).parameters


@each_method
def test_all_methods_have_the_same_parameters(name):
    parameters = list(inspect.signature(HEATMAP_METHODS[name].function).parameters.values())
    named = ["model", "images", "target", "layer", "value_range", "output"]
    assert [p.name for p in parameters[:6]] == named
    assert [p.default for p in parameters[2:6]] == [None, None, (0, 255), None]
    assert all(p.kind == p.KEYWORD_ONLY for p in parameters[3:])


@each_method
def test_the_docstring_of_a_method_names_its_paper(name):
    text = " ".join(HEATMAP_METHODS[name].function.__doc__.split())
    identifier = HEATMAP_METHODS[name].paper.split(", ")[-2]
    assert identifier in text or "those of `integrated_gradients`" in text


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'Grad-CAM' already"):
        methods.method("Grad-CAM", paper="")


@each_method
def test_a_single_unit_has_two_classes(name):
    for_zero, for_one = (
        explain(name, cached_classifier("sigmoid"), random_images(), target) for target in (0, 1)
    )
    for heatmaps in (for_zero, for_one):
        assert heatmaps.dtype == np.float32 and heatmaps.shape == (3, *SIDES)
        assert (np.ptp(heatmaps, (1, 2)) > 0).all()
    assert HEATMAP_METHODS[name].signed == bool((for_one < 0).any())
    if name == "SmoothGrad":  # which does not depend on the sign of the logit
        np.testing.assert_array_equal(for_zero, for_one)
    elif HEATMAP_METHODS[name].signed:
        assert_close(for_zero, -for_one)
    else:
        assert (np.abs(for_zero - for_one).max((1, 2)) > 0.01 * for_one.max((1, 2))).all()


@each_method
@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_without_a_target_the_predicted_class_is_explained(name, head):
    images = random_images()
    prediction = cached_classifier(head)(images).numpy()
    classes = prediction.argmax(1) if head == "softmax" else np.int64(prediction[:, 0] > 0.5)
    assert len(set(classes)) > 1
    assert_close(
        explain(name, cached_classifier(head), images),
        explain(name, cached_classifier(head), images, classes),
    )


@each_method
def test_a_batch_of_bytes_equals_its_images_one_by_one(name, monkeypatch):
    for module in (tracing, perturbation):
        monkeypatch.setattr(module, "BATCH", 2)
    model, images, targets = cached_classifier(), random_images(), np.array([2, 0, 1])
    alone = [explain(name, model, images[i : i + 1], targets[i]) for i in range(3)]
    assert_close(explain(name, model, np.uint8(images), targets), np.concatenate(alone))
    assert len({tuple(heatmap.ravel()) for heatmap in alone}) == 3


@functools.cache
def nested():
    """`cached_classifier`, whose layers up to the last convolution are a model of their own."""
    parts = cached_classifier().layers[1:]
    return chain(chain(*parts[:6]), *parts[6:])


@each_method
def test_a_nested_model_equals_a_flat_one(name):
    assert_close(
        explain(name, nested(), random_images(), 1),
        explain(name, cached_classifier(), random_images(), 1),
    )


@each_method
@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_mixed_precision_is_a_little_rough(name, policy):
    rough = explain(name, cached_classifier("softmax", policy), random_images(), 1)
    exact = explain(name, cached_classifier(), random_images(), 1)
    assert rough.dtype == np.float32 and (rough != exact).any()
    assert np.abs(rough - exact).mean() < 0.2 * np.abs(exact).mean()  # though a ReLU may turn over


@contextmanager
def saturated(model):
    """The last class gets 50 logits more."""
    bias = layer_of(model, "dense").bias
    before = bias.numpy()
    bias.assign(before + np.eye(len(before), dtype="f4")[-1] * 50)
    try:
        yield
    finally:
        bias.assign(before)


@each_method
@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_a_saturated_prediction_has_the_heatmap_of_any_other(name, head):
    model, images = cached_classifier(head), random_images()
    expected = explain(name, model, images, 1)
    with saturated(model):
        assert model(images).numpy()[:, -1].min() == 1
        heatmaps = explain(name, model, images, 1)
    assert_close(heatmaps, expected, 1e-3)


@each_method
def test_wrong_input_gets_one_sentence(name):
    wrong = [
        (dict(target=3), "target 3 .* 0 to 2"),
        (dict(target=-1), "target -1 .* 0 to 2"),
        (dict(target=[0, 1]), "one class for each of the 3"),
        (dict(target="cat"), "'cat'"),
        (dict(images=random_images()[0]), r"\[None\]"),
        (dict(images=random_images()[:, :9]), r"\(3, 9, 16, 3\).*10, 16, 3"),
        (dict(output="old"), "one output only"),
        (dict(layer="lust"), "'lust'.* mean last|layer='lust' out"),
        (dict(layer="dense"), "no map|layer='dense' out"),
    ]
    if takes(name, "baseline"):
        short = np.zeros((2, *SIDES, 3))
        wrong += [(dict(baseline=short), r"baseline .*\(3, 10, 16, 3\), not \(2, 10, 16, 3\)")]
        wrong += [(dict(baseline=short[None]), "baseline")]
    if takes(name, "baseline") or name == "SmoothGrad":
        wrong += [(dict(value_range=(255, 0)), "value_range is")]
    for count in ("samples", "steps", "cells"):
        if takes(name, count):
            wrong += [({count: 0}, f"{count} is a whole number from 1")]
    for change, words in wrong:
        with pytest.raises(ValueError, match=words) as error:
            explain(
                name, **(dict(model=cached_classifier(), images=random_images(), target=1) | change)
            )
        assert "\n" not in str(error.value) and str(error.value)[-1] in ".?"


@functools.cache
def with_two_outputs():
    wanted = cached_classifier("sigmoid")
    other = layers.Dense(3, name="other")(wanted.layers[-2].output)
    return keras.Model(wanted.input, {"other": other, "wanted": wanted.output})


@each_method
def test_one_of_two_outputs_is_explained(name):
    heatmaps = explain(name, with_two_outputs(), random_images(), output="wanted")
    assert_close(heatmaps, explain(name, cached_classifier("sigmoid"), random_images()))


@pytest.mark.parametrize("name", NEED_GRADIENTS)
def test_whole_numbers_have_no_gradient(name):
    images = keras.Input((*SIDES, 3), dtype="int32")
    model = keras.Model(images, cached_classifier()(keras.ops.cast(images, "float32")))
    with pytest.raises(ValueError, match="whole numbers"):
        explain(name, model, np.int32(random_images()), 1)


def test_the_settings_of_the_comparison():
    """A setting may depend on the model and the images, and an option overrules it."""
    model, images = cached_classifier(), random_images()
    earlier = HEATMAP_METHODS["LayerCAM, a layer earlier"]
    assert_close(earlier(model, images, 1), debugcnn.layer_cam(model, images, 1, layer="relu"))
    assert_close(earlier(model, images, 1, layer="last"), debugcnn.layer_cam(model, images, 1))
    squares = debugcnn.occlusion(model, images, 1, size=2, stride=1)
    assert_close(HEATMAP_METHODS["occlusion"](model, images, 1), squares)
