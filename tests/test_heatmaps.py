"""Heatmaps and their scores against closed forms, tapes, and the papers' formulas written out."""

import doctest
import functools
import inspect
from contextlib import contextmanager

import cv2
import keras
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import tensorflow as tf
from keras import layers
from small_models import HEADS, layer_of, randomise, trunk

import debugcnn
from debugcnn import HEATMAP_METHODS
from debugcnn.views import methods, perturbation, tracing
from debugcnn.views.heatmaps import evidence_heatmap
from debugcnn.views.perturbation import masked_logits, random_masks

SIDES = 10, 16  # height and width, so that exchanged sides are noticed
GREY = 127.5
CAMS = ["grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam"]
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


def explain(name, *given, **options):
    return HEATMAP_METHODS[name](*given, **FEWER.get(name, {}) | options)


def takes(name, option):
    return option in inspect.signature(HEATMAP_METHODS[name].function).parameters


def pictures(count=3, channels=3, seed=1):
    drawn = np.random.default_rng(seed).uniform(0, 255, (count, *SIDES, channels))
    return np.rint(drawn).astype("f4")


def chain(*parts, channels=3):
    images = outputs = keras.Input((*SIDES, channels))
    for part in parts:
        outputs = part(outputs)
    return keras.Model(images, outputs)


def classifier(head="softmax", policy="float32"):
    """A model that predicts several classes for `pictures`."""
    keras.config.set_dtype_policy(policy)
    try:
        model = chain(*trunk(), layers.GlobalAveragePooling2D(), *HEADS[head]())
    finally:
        keras.config.set_dtype_policy("float32")
    bias = layer_of(randomise(model), "dense").bias
    bias.assign(bias - np.median(logits(model, pictures()), 0)[-bias.shape[0] :])
    return model


kept = functools.cache(classifier)  # for tests that do not change it


def maps_of(model, images, layer="last"):
    return keras.Model(model.input, model.get_layer(layer).output)(images)


def logits(model, images, maps=None):
    """(n, classes), by hand from the maps of the last convolution."""
    maps = maps_of(model, images) if maps is None else maps
    dense = model.get_layer("dense")
    units = tf.cast(tf.reduce_mean(maps, (1, 2)), "float32") @ dense.kernel + dense.bias
    return units if units.shape[1] > 1 else tf.concat([-units, units], 1)


def linear(channels=3):
    """A net whose three logits are x @ w / 255 + b, and w (height, width, channels, 3)."""
    model = chain(layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3), channels=channels)
    return model, randomise(model).get_weights()[0].reshape(*SIDES, channels, 3)


def curved():
    """A net of dense layers, and its logits in float64."""
    hidden, dense = layers.Dense(6, "tanh"), layers.Dense(3)
    model = chain(layers.Rescaling(1 / 255), layers.Flatten(), hidden, dense)
    weights = randomise(model).get_weights()
    model.set_weights([weights[0] / 8, *weights[1:]])
    kernel, bias, out, out_bias = (np.float64(values) for values in model.get_weights())

    def sums(images):
        flat = np.float64(images).reshape(len(images), -1) / 255
        return np.tanh(flat @ kernel + bias) @ out + out_bias

    return model, sums


def enlarged(heat):
    return np.stack([cv2.resize(np.float32(one), SIDES[::-1]) for one in heat])


def close(found, expected, tolerance=1e-4):
    assert found.dtype == np.float32 and np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max(), rtol=0)


# ------------------------------------------------------------------------------------ every method


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
    zero, one = (explain(name, kept("sigmoid"), pictures(), target) for target in (0, 1))
    for heatmaps in (zero, one):
        assert heatmaps.dtype == np.float32 and heatmaps.shape == (3, *SIDES)
        assert (np.ptp(heatmaps, (1, 2)) > 0).all()
    assert HEATMAP_METHODS[name].signed == bool((one < 0).any())
    if name == "SmoothGrad":  # which does not depend on the sign of the logit
        np.testing.assert_array_equal(zero, one)
    elif HEATMAP_METHODS[name].signed:
        close(zero, -one)
    else:
        assert (np.abs(zero - one).max((1, 2)) > 0.01 * one.max((1, 2))).all()


@each_method
@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_without_a_target_the_predicted_class_is_explained(name, head):
    images = pictures()
    prediction = kept(head)(images).numpy()
    classes = prediction.argmax(1) if head == "softmax" else np.int64(prediction[:, 0] > 0.5)
    assert len(set(classes)) > 1
    close(explain(name, kept(head), images), explain(name, kept(head), images, classes))


@each_method
def test_a_batch_of_bytes_equals_its_images_one_by_one(name, monkeypatch):
    for module in (tracing, perturbation):
        monkeypatch.setattr(module, "BATCH", 2)
    model, images, targets = kept(), pictures(), np.array([2, 0, 1])
    alone = [explain(name, model, images[i : i + 1], targets[i]) for i in range(3)]
    close(explain(name, model, np.uint8(images), targets), np.concatenate(alone))
    assert len({tuple(heatmap.ravel()) for heatmap in alone}) == 3


@functools.cache
def nested():
    """`kept()`, whose layers up to the last convolution are a model of their own."""
    parts = kept().layers[1:]
    return chain(chain(*parts[:6]), *parts[6:])


@each_method
def test_a_nested_model_equals_a_flat_one(name):
    close(explain(name, nested(), pictures(), 1), explain(name, kept(), pictures(), 1))


@each_method
@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_mixed_precision_is_a_little_rough(name, policy):
    rough = explain(name, kept("softmax", policy), pictures(), 1)
    exact = explain(name, kept(), pictures(), 1)
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
    model, images = kept(head), pictures()
    expected = explain(name, model, images, 1)
    with saturated(model):
        assert model(images).numpy()[:, -1].min() == 1
        heatmaps = explain(name, model, images, 1)
    close(heatmaps, expected, 1e-3)


@each_method
def test_wrong_input_gets_one_sentence(name):
    wrong = [
        (dict(target=3), "target 3 .* 0 to 2"),
        (dict(target=-1), "target -1 .* 0 to 2"),
        (dict(target=[0, 1]), "one class for each of the 3"),
        (dict(target="cat"), "'cat'"),
        (dict(images=pictures()[0]), r"\[None\]"),
        (dict(images=pictures()[:, :9]), r"\(3, 9, 16, 3\).*10, 16, 3"),
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
            explain(name, **(dict(model=kept(), images=pictures(), target=1) | change))
        assert "\n" not in str(error.value) and str(error.value)[-1] in ".?"


@functools.cache
def with_two_outputs():
    wanted = kept("sigmoid")
    other = layers.Dense(3, name="other")(wanted.layers[-2].output)
    return keras.Model(wanted.input, {"other": other, "wanted": wanted.output})


@each_method
def test_one_of_two_outputs_is_explained(name):
    heatmaps = explain(name, with_two_outputs(), pictures(), output="wanted")
    close(heatmaps, explain(name, kept("sigmoid"), pictures()))


@pytest.mark.parametrize("name", NEED_GRADIENTS)
def test_whole_numbers_have_no_gradient(name):
    images = keras.Input((*SIDES, 3), dtype="int32")
    model = keras.Model(images, kept()(keras.ops.cast(images, "float32")))
    with pytest.raises(ValueError, match="whole numbers"):
        explain(name, model, np.int32(pictures()), 1)


def test_the_settings_of_the_comparison():
    """A setting may depend on the model and the images, and an option overrules it."""
    model, images = kept(), pictures()
    earlier = HEATMAP_METHODS["LayerCAM, a layer earlier"]
    close(earlier(model, images, 1), debugcnn.layer_cam(model, images, 1, layer="relu"))
    close(earlier(model, images, 1, layer="last"), debugcnn.layer_cam(model, images, 1))
    squares = debugcnn.occlusion(model, images, 1, size=2, stride=1)
    close(HEATMAP_METHODS["occlusion"](model, images, 1), squares)


@pytest.mark.parametrize(
    "function",
    [
        debugcnn.grad_cam,
        debugcnn.occlusion,
        debugcnn.integrated_gradients,
        debugcnn.deletion_curve,
    ],
    ids=lambda function: function.__name__,
)
def test_the_example_in_the_docstring(function):
    (example,) = doctest.DocTestFinder().find(function)
    assert example.examples and doctest.DocTestRunner().run(example).failed == 0


# ------------------------------------------------------------------------- by maps and gradients


def formula(name, maps, gradients):
    """The heat of one photo, as in the papers, with none of the gradients where it is 0 / 0."""
    above = np.maximum(gradients, 0)
    if name == "hires_cam":
        return (maps * gradients).sum(-1)
    if name == "layer_cam":
        return (maps * above).sum(-1)
    if name == "grad_cam":
        return maps @ gradients.mean((0, 1))
    heat = np.zeros(maps.shape[:2])
    for channel in range(maps.shape[-1]):
        a, g = maps[..., channel], gradients[..., channel]
        below = 2 * g**2 + a.sum() * g**3
        alpha = np.divide(g**2, below, out=np.zeros_like(g), where=g != 0)
        heat += (alpha * above[..., channel]).sum() * a
    return heat


@pytest.mark.parametrize("layer", ["relu", "pool", "last"])
@pytest.mark.parametrize("name", CAMS)
def test_maps_and_gradients_are_put_together_as_in_the_papers(name, layer):
    model, images, targets = kept(), pictures(), [2, 0, 1]
    maps = maps_of(model, images, layer)
    names = [part.name for part in model.layers]
    with tf.GradientTape() as tape:
        tape.watch(maps)
        rest = maps
        for part in model.layers[names.index(layer) + 1 : names.index("last") + 1]:
            rest = part(rest)
        logit = tf.gather(logits(model, images, rest), targets, batch_dims=1)
    gradients = tape.gradient(logit, maps).numpy().astype("f8")
    if layer == "relu":  # of each 2 x 2 units, the pooling looks at one
        assert (gradients == 0).mean() > 0.5
    expected = [formula(name, np.float64(m), g) for m, g in zip(maps.numpy(), gradients)]
    found = getattr(debugcnn, name)(model, images, targets, layer=layer)
    close(found, enlarged(np.maximum(expected, 0)))


@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_hires_cam_is_grad_cam_where_only_a_mean_and_a_dense_layer_follow(head):
    heat = debugcnn.hires_cam(kept(head), pictures(), 0)
    close(heat, debugcnn.grad_cam(kept(head), pictures(), 0))


def test_maps_times_gradients_add_up_to_the_logit_behind_relus_without_biases():
    model, images = classifier("logits"), pictures()
    for name in ("last", "dense"):
        bias = layer_of(model, name).bias
        bias.assign(tf.zeros_like(bias))
    for target in range(3):
        maps, gradients = debugcnn.evidence(model, images, target, layer="pool")
        np.testing.assert_allclose(
            (maps * gradients).sum((1, 2, 3)), model(images)[:, target], rtol=1e-3
        )
        heat = np.maximum((maps * gradients).sum(-1), 0)
        close(debugcnn.hires_cam(model, images, target, layer="pool"), enlarged(heat))


def test_a_combination_is_kept_by_its_function_not_by_its_name():
    def combination(factor):
        def heatmaps(maps, gradients):
            return factor * tf.reduce_sum(maps * gradients, -1)

        return heatmaps

    options = kept(), pictures(), 1, None, None
    once, thrice = (evidence_heatmap(combination(factor), *options) for factor in (1, 3))
    close(thrice, 3 * once)


# ------------------------------------------------------------------------------- by perturbation


def score_cam_by_hand(model, images, target, layer="last", baseline=GREY):
    heat, fill = [], np.broadcast_to(baseline, images.shape)
    for image, maps, empty in zip(images, maps_of(model, images, layer).numpy(), fill):
        scores = []
        for channel in np.moveaxis(maps, -1, 0):
            mask = tf.image.resize(channel[..., None], SIDES).numpy()
            mask = (mask - mask.min()) / (np.ptp(mask) or 1)
            shown = mask * image + (1 - mask) * empty
            scores.append(logits(model, shown[None])[0, target])
        heat.append(np.maximum(maps @ (np.exp(scores) / np.exp(scores).sum()), 0))
    return enlarged(heat)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_score_cam_weighs_each_map_by_what_it_shows(head, monkeypatch):
    model, images = classifier(head), pictures()
    last = layer_of(model, "last")
    last.kernel.assign(last.kernel * np.float32([1, 1, 1, 0, 1]))
    last.bias.assign([0.1, 0.2, 0.1, 1.0, 0.0])
    assert (maps_of(model, images).numpy()[..., 3] == 1).all()  # a mask that shows nothing
    dense = layer_of(model, "dense")
    dense.kernel.assign(dense.kernel * 4)
    found = debugcnn.score_cam(model, images, 1)
    close(found, score_cam_by_hand(model, images, 1))
    for layer, fill in (("last", 0), ("norm", pictures(seed=2))):  # and maps below zero
        found_there = debugcnn.score_cam(model, images, 1, layer=layer, baseline=fill)
        close(found_there, score_cam_by_hand(model, images, 1, layer, fill))
    monkeypatch.setattr(tracing, "BATCH", 2)
    monkeypatch.setattr(perturbation, "BATCH", 2)  # fewer than the five channels
    close(debugcnn.score_cam(model, images, 1), found)
    dense.kernel.assign(-dense.kernel)
    assert np.abs(debugcnn.score_cam(model, images, 1) - found).max() > 0.01 * found.max()


def test_score_cam_of_maps_with_nothing_in_them_is_zero():
    model = classifier()
    last = layer_of(model, "last")
    last.set_weights([np.zeros_like(last.kernel), np.zeros(5)])
    np.testing.assert_array_equal(debugcnn.score_cam(model, pictures(), 1), 0)


def test_rise_finds_the_region_that_the_logit_is_the_mean_of():
    inside = np.zeros(SIDES, bool)
    inside[1:4, 9:14] = True
    model = chain(layers.Flatten(), layers.Dense(1))
    kernel = np.repeat(inside[..., None] / inside.sum() / 3, 3, 2)
    model.set_weights([kernel.reshape(-1, 1), np.zeros(1)])
    heat = debugcnn.rise(model, np.full((1, *SIDES, 3), 200, "f4"), 1, samples=800, cells=5)[0]
    assert inside[np.unravel_index(heat.argmax(), SIDES)]
    assert heat[inside].mean() > 3 * np.abs(heat[~inside]).mean()
    # Against grey, a dark region speaks for the other class.
    dark = debugcnn.rise(model, np.full((1, *SIDES, 3), 55, "f4"), 1, samples=800, cells=5)[0]
    close(dark, -heat, 1e-3)


@pytest.mark.parametrize("fill", [None, 20.0, "array"])
def test_rise_is_the_mean_logit_of_the_masks_that_show_a_pixel(fill):
    model, images = kept(), pictures(2)
    fill = pictures(2, seed=2) if fill == "array" else fill
    options = dict(samples=40, cells=3, baseline=fill, seed=5)
    found = debugcnn.rise(model, images, [2, 0], **options)
    masks = np.concatenate([*random_masks(*SIDES, 40, 3, np.random.default_rng(5))])
    expected = []
    for i, target in enumerate([2, 0]):
        empty = GREY if fill is None else np.broadcast_to(fill, images.shape)[i]
        shown = masks[..., None] * images[i] + (1 - masks[..., None]) * empty
        scores = logits(model, shown.astype("f4")).numpy()[:, target]
        expected.append(np.einsum("k,khw->hw", scores - scores.mean(), masks) / masks.sum(0))
    close(found, np.array(expected), 1e-3)
    np.testing.assert_array_equal(debugcnn.rise(model, images, [2, 0], **options), found)
    other = debugcnn.rise(model, images, [2, 0], **options | dict(seed=6))
    assert np.abs(other - found).max() > 0.1 * found.max()


def testrandom_masks():
    masks = np.concatenate([*random_masks(20, 60, 400, 5, np.random.default_rng(0))])
    assert masks.shape == (400, 20, 60) and masks.min() == 0 and masks.max() == 1
    assert np.abs(masks.mean(0) - 0.5).max() < 0.12 and masks.mean() == pytest.approx(0.5, abs=0.01)
    # A cell is 4 pixels high and 12 wide, over which an edge takes as long to rise.
    steepest = [np.abs(np.diff(masks, axis=axis)).max() for axis in (1, 2)]
    np.testing.assert_allclose(steepest, [1 / 4, 1 / 12], rtol=1e-3)
    slopes = np.abs(np.diff(masks, axis=2)).mean((0, 1))[12:-12]
    assert slopes.max() < 1.2 * slopes.min()  # they lie anywhere, not at the ends of cells


@pytest.mark.parametrize("fill", [None, 20, "array"])
def test_occlusion_of_a_linear_net_is_what_lay_under_the_squares(fill):
    model, weights = linear()
    images = pictures(2)
    fill = pictures(2, seed=2) if fill == "array" else fill
    found = debugcnn.occlusion(model, images, [2, 0], size=4, stride=3, baseline=fill)
    empty = np.broadcast_to(GREY if fill is None else fill, images.shape)
    for i, target in enumerate([2, 0]):
        lost = ((images[i] - empty[i]) * weights[..., target]).sum(-1) / 255
        heat, count = np.zeros((2, *SIDES))
        for y in (0, 3, 6):
            for x in (0, 3, 6, 9, 12):
                square = slice(y, y + 4), slice(x, x + 4)
                heat[square] += lost[square].sum()
                count[square] += 1
        close(found[i], heat / count, 1e-3)


def test_masked_logits_are_those_of_what_a_mask_shows():
    model, images, fill = kept(), pictures(4), pictures(4, seed=2)
    small = np.random.default_rng(0).uniform(0, 1, (4, 2, 5))
    masks = enlarged(small)[..., None]
    for photos, empty in ((images, fill), (images[:1], fill), (images, fill[:1])):
        shown = masks * photos + (1 - masks) * empty
        expected = logits(model, shown).numpy()
        found = masked_logits(model, photos, empty, small, 2)
        close(found, expected[:, 2])
        found = masked_logits(model, photos, empty, small, [0, 1, 2, 1])
        close(found, expected[range(4), [0, 1, 2, 1]])


def test_a_blurred_photo_has_no_details():
    images = pictures()
    for sigma, given in ((10 / 16, {}), (2.0, {"sigma": 2.0})):
        side = 2 * int(4 * sigma + 0.5) + 1
        expected = [
            cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT)
            for image in images
        ]
        close(debugcnn.blurred(np.uint8(images), **given), np.stack(expected))


# ------------------------------------------------------------------------------- pixel by pixel


@pytest.mark.parametrize("fill", [None, 20, [10, 20, 30], "array"])
def test_integrated_gradients_of_a_linear_net_are_its_summands(fill):
    model, weights = linear()
    images = pictures(3)
    fill = pictures(3, seed=2) if fill == "array" else fill
    found = debugcnn.integrated_gradients(model, images, [2, 0, 1], steps=2, baseline=fill)
    away = images - np.float32(GREY if fill is None else fill)
    expected = np.einsum("nhwc,hwcn->nhw", away, weights[..., [2, 0, 1]]) / 255
    close(found, expected)
    wide = debugcnn.integrated_gradients(model, images, 1, value_range=(-300, 100))
    close(wide, ((images + 100) * weights[..., 1]).sum(-1) / 255)


def test_integrated_gradients_add_up_to_what_the_logit_gained():
    model, sums = curved()
    images, fill = pictures(3), pictures(3, seed=2)
    gained = (sums(images) - sums(fill))[:, 1]
    wrong = {}
    for steps in (2, 8, 64):
        heat = debugcnn.integrated_gradients(model, images, 1, steps=steps, baseline=fill)
        wrong[steps] = np.abs(heat.sum((1, 2)) - gained).max() / np.abs(gained).max()
    assert wrong[64] < 1e-3 and wrong[64] < wrong[8] / 4 < wrong[2] / 16


def test_smooth_grad_of_a_linear_net_is_the_size_of_its_weights():
    model, weights = linear()
    found = debugcnn.smooth_grad(model, pictures(), [2, 0, 1], samples=3)
    close(found, np.abs(np.moveaxis(weights[..., [2, 0, 1]], -1, 0)).sum(-1) / 255)


def test_smooth_grad_without_noise_is_the_size_of_the_gradient():
    model, sums = curved()
    images = pictures(2)
    heat = debugcnn.smooth_grad(model, images, [2, 0], samples=2, noise=0)
    for y, x in np.random.default_rng(0).integers(0, SIDES, (12, 2)):
        steps = np.zeros((3, *images.shape))
        steps[range(3), :, y, x, range(3)] = 1e-3
        slopes = [(sums(images + s) - sums(images - s))[[0, 1], [2, 0]] / 2e-3 for s in steps]
        np.testing.assert_allclose(heat[:, y, x], np.abs(slopes).sum(0), rtol=1e-3, atol=1e-7)


def test_the_noise_of_smooth_grad():
    """The gradient of a sum of squares is twice the pixel, so here twice the mean noise."""
    square = layers.Activation(tf.square)
    model = chain(square, layers.Flatten(), layers.Dense(1, kernel_initializer="ones"), channels=1)
    images = np.zeros((2, *SIDES, 1), "f4")
    for value_range, width in (((0, 255), 255), ((-1, 1), 2)):
        options = dict(samples=8, noise=0.1, value_range=value_range)
        heat = debugcnn.smooth_grad(model, images, 1, **options)
        np.testing.assert_array_equal(heat[0], heat[1])
        deviation = 2 * 0.1 * width / np.sqrt(8)
        assert np.sqrt((heat**2).mean()) == pytest.approx(deviation, rel=0.15)
        np.testing.assert_array_equal(debugcnn.smooth_grad(model, images, 1, **options), heat)
        other = debugcnn.smooth_grad(model, images, 1, seed=1, **options)
        assert np.abs(other - heat).max() > deviation / 2


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
    def guided(sums):
        with tf.GradientTape() as tape:
            tape.watch(sums)
            reached = RELUS[activation](sums)
        return reached, lambda above: tape.gradient(reached, sums, tf.maximum(above, 0))

    first, last = (layers.Conv2D(5, 3, strides=2, activation=activation) for _ in range(2))
    pooling, dense = layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax")
    model, images = chain(layers.Rescaling(1 / 255), first, last, pooling, dense), pictures()
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
    found = debugcnn.guided_backpropagation(model, images, 1)
    close(found, expected)
    assert np.abs(plain - expected).max() > 0.1 * expected.max()
    close(debugcnn.smooth_grad(model, images, 1, samples=1, noise=0), plain)
    close(by_hand(RELUS[activation]), plain)
    dense.kernel.assign(-np.abs(dense.kernel))
    np.testing.assert_array_equal(debugcnn.guided_backpropagation(model, images, 1), 0)
    assert debugcnn.smooth_grad(model, images, 1, samples=1, noise=0).max() > 0


def test_guided_backpropagation_needs_a_relu():
    with pytest.raises(ValueError, match="has no ReLU.*use smooth_grad.$"):
        debugcnn.guided_backpropagation(curved()[0], pictures(), 1)


# ------------------------------------------------------------------------------------- the scores


def shuffled(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *SIDES)).astype("f4")


@pytest.mark.parametrize("fill", [None, 20, "array"])
def test_deletion_and_insertion_of_a_linear_net(fill):
    model, weights = linear(channels=1)
    images, heat, fractions = pictures(2, 1), shuffled(2), (0, 0.1, 0.33, 0.5, 1)
    fill = pictures(2, 1, seed=2) if fill == "array" else fill
    empty = np.broadcast_to(GREY if fill is None else fill, images.shape)
    options = dict(heatmaps=heat, fractions=fractions, target=[2, 0], baseline=fill)
    deleted = debugcnn.deletion_curve(model, images, **options)
    inserted = debugcnn.deletion_curve(model, images, insertion=True, **options)
    bias = model.get_weights()[1]
    assert deleted.dtype == np.float32
    for i, target in enumerate([2, 0]):
        order = np.argsort(-heat[i].ravel())
        whole, nothing = ((p[i, ..., 0] * weights[..., 0, target]).ravel() for p in (images, empty))
        for column, fraction in enumerate(fractions):
            some = order[: round(fraction * order.size)]
            gone, shown = whole.copy(), nothing.copy()
            gone[some], shown[some] = nothing[some], whole[some]
            for curve, values in ((deleted, gone), (inserted, shown)):
                logit = values.sum() / 255 + bias[target]
                np.testing.assert_allclose(curve[i, column], logit, rtol=1e-4, atol=1e-5)


def test_deletion_starts_at_the_photo_and_insertion_at_the_baseline():
    model, images, heat = kept("sigmoid"), pictures(), shuffled(3)
    classes = np.int64(model(images).numpy()[:, 0] > 0.5)
    assert len(set(classes)) == 2
    fractions = np.linspace(0, 1, 5)
    deleted = debugcnn.deletion_curve(model, images, heat, fractions)
    inserted = debugcnn.deletion_curve(model, images, -heat, fractions, insertion=True)
    np.testing.assert_allclose(deleted, inserted[:, ::-1], rtol=1e-4, atol=1e-5)
    close(deleted[:, 0], logits(model, images).numpy()[range(3), classes])
    grey = logits(model, np.full_like(images, GREY)).numpy()
    close(deleted[:, -1], grey[0, classes])


def test_equally_hot_pixels_go_by_chance():
    halves = np.zeros((*SIDES, 1, 4))
    halves[:5, ..., 0] = halves[5:, ..., 1] = halves[:, :8, :, 2] = halves[:, 8:, :, 3] = 1 / 80
    model = chain(layers.Flatten(), layers.Dense(4), channels=1)
    model.set_weights([halves.reshape(-1, 4), np.zeros(4)])
    heat, images = np.zeros((4, *SIDES)), np.ones((4, *SIDES, 1), "f4")
    heat[:, 9, 15] = 1  # the only hot one goes first
    curves = [
        debugcnn.deletion_curve(
            model, images, heat, [1 / 160, 0.5], range(4), baseline=0, seed=seed
        )
        for seed in (0, 0, 1)
    ]
    np.testing.assert_allclose(curves[0][:, 0], [1, 79 / 80, 1, 79 / 80], rtol=1e-5)
    assert np.abs(curves[0][:, 1] - 0.5).max() < 0.2
    np.testing.assert_allclose(curves[0][:2, 1].sum(), 1, rtol=1e-5)
    np.testing.assert_array_equal(curves[0], curves[1])
    assert (curves[0] != curves[2]).any()


def test_a_true_heatmap_scores_better_than_the_trivial_ones():
    model, images = kept(), pictures()
    true = debugcnn.integrated_gradients(model, images, 1)
    others = [-true, shuffled(3), debugcnn.center_blob(images), debugcnn.edge_map(images)]
    for insertion, sign in ((False, 1), (True, -1)):
        best, *worse = (
            sign
            * debugcnn.deletion_curve(
                model, images, heat, np.linspace(0, 1, 11), 1, insertion=insertion
            ).mean(1)
            for heat in (true, *others)
        )
        assert all((best < other).all() for other in worse)


def test_heatmaps_of_another_size_get_a_sentence():
    options = dict(model=kept(), images=pictures(), fractions=[0.5])
    for heat in (shuffled(2), np.swapaxes(shuffled(3), 1, 2), shuffled(3)[..., None]):
        with pytest.raises(ValueError, match=r"these images need \(3, 10, 16\).$"):
            debugcnn.deletion_curve(heatmaps=heat, **options)
    with pytest.raises(ValueError, match="baseline is"):
        debugcnn.deletion_curve(heatmaps=shuffled(3), baseline=np.zeros((2, 1)), **options)
    with pytest.raises(ValueError, match="target 3 is no class"):
        debugcnn.deletion_curve(heatmaps=shuffled(3), target=3, **options)


def test_shares_and_peaks_inside_a_mask():
    heat = np.zeros((5, 2, 3))
    heat[0] = [[1, 2, 0], [-9, 1, 0]]
    heat[1] = [[3, 3, 0], [0, 0, 3]]
    heat[3] = -1
    heat[4] = [[-1, -2, -3], [-4, -5, -6]]
    inside = np.zeros((5, 2, 3))
    inside[:, 0, :2], inside[0, 1, 0] = 255, 255
    share = debugcnn.energy_pointing(heat, inside)
    np.testing.assert_allclose(share, [3 / 4, 2 / 3, np.nan, np.nan, np.nan])
    peak = debugcnn.pointing_game(heat, inside)
    np.testing.assert_allclose(peak, [1, 2 / 3, np.nan, np.nan, 1])
    np.testing.assert_allclose(debugcnn.pointing_game(heat, inside == 0)[:2], [0, 1 / 3])


def test_a_product_is_hot_where_both_are():
    one = np.float32([[[2, 4, -4]], [[0, 0, 0]]])
    other = np.float32([[[0.5, 0.1, 0.5]], [[1, 2, 3]]])
    found = debugcnn.product(one, other)
    close(found, np.float32([[[0.5, 0.2, 0]], [[0, 0, 0]]]))


def test_the_trivial_heatmaps():
    images = pictures(2)
    blob = debugcnn.center_blob(images)
    assert blob.dtype == np.float32 and blob.shape == (2, *SIDES)
    np.testing.assert_array_equal(blob[0], blob[1])
    np.testing.assert_allclose(blob[0, 0, [0, 15]], np.exp(-4), rtol=1e-5)
    np.testing.assert_allclose(blob[0, 9, 5], np.exp(-2 * (1 + 1 / 9)), rtol=1e-5)
    for grey, photo in zip(images.mean(-1), images):
        slopes = [scipy.ndimage.sobel(grey, axis, mode="mirror") for axis in (0, 1)]
        sharp = scipy.ndimage.gaussian_filter(np.hypot(*slopes), 2, mode="mirror")
        close(debugcnn.edge_map(np.uint8(photo[None]))[0], sharp)


# ------------------------------------------------------------------------- layers in random order


def changed(model, before):
    """Names of layers whose values are in another order; other values are an error."""
    names = set()
    for layer, weights in before.items():
        for now, then in zip(layer_of(model, layer).get_weights(), weights, strict=True):
            np.testing.assert_array_equal(np.sort(now, axis=None), np.sort(then, axis=None))
            if (now != then).any():
                names.add(layer)
    return names


@pytest.mark.parametrize("nested", [False, True])
def test_a_cascade_goes_from_the_last_layer_to_the_first(nested):
    model, images = classifier(), pictures()
    if nested:
        parts = model.layers[1:]
        model = chain(chain(*parts[:6]), *parts[6:])
    names = ["dense", "last", "norm", "first"]
    before = {name: layer_of(model, name).get_weights() for name in names}
    seen, heat, norms = [], [], []

    def explain(model, images, targets):
        seen.append((changed(model, before), list(targets)))
        norms.append(layer_of(model, "norm").get_weights())
        heat.append(debugcnn.hires_cam(model, images, targets, layer="pool"))
        return heat[-1]

    classes = model(images).numpy().argmax(1)
    agreement = debugcnn.cascading_randomization(model, explain, images)
    assert list(agreement) == names
    assert seen == [(set(names[:i]), list(classes)) for i in range(5)]
    # The moving averages, too.
    assert all((now != then).any() for now, then in zip(norms[3], before["norm"], strict=True))
    for found, after in zip(agreement.values(), heat[1:]):
        expected = [scipy.stats.spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(heat[0], after)]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not changed(model, before)
    assert [layer.name for layer in debugcnn.layers_with_weights(model)] == names[::-1]


def test_a_cascade_of_some_layers_shuffles_all_on_the_way():
    model, images = classifier(), pictures()
    before = {name: layer_of(model, name).get_weights() for name in ("dense", "last", "first")}
    seen = []

    def explain(model, images, targets):
        seen.append((changed(model, before), list(targets), model.get_weights()))
        return shuffled(3)

    for seed in (0, 0, 1):
        agreement = debugcnn.cascading_randomization(
            model, explain, images, [2, 0, 1], layers=["last"], seed=seed
        )
        assert list(agreement) == ["last"]
        np.testing.assert_allclose(agreement["last"], 1)  # of what does not look at the model
    assert [s[:2] for s in seen] == [(set(), [2, 0, 1]), ({"dense", "last"}, [2, 0, 1])] * 3
    one, same, other = (seen[i][2] for i in (1, 3, 5))
    assert all((a == b).all() for a, b in zip(one, same))
    assert any((a != b).any() for a, b in zip(one, other))
    constant = debugcnn.cascading_randomization(model, lambda *given: np.zeros((3, *SIDES)), images)
    assert np.isnan(list(constant.values())).all()


def test_a_model_has_its_weights_again_after_an_error():
    model, times = classifier(), []
    before = {layer.name: layer.get_weights() for layer in model.layers}

    def explain(model, images, targets):
        times.append(changed(model, before))
        if len(times) == 3:
            raise RuntimeError("on purpose")
        return shuffled(3)

    with pytest.raises(RuntimeError, match="on purpose"):
        debugcnn.cascading_randomization(model, explain, pictures(), 1)
    assert times[-1] == {"dense", "last"} and not changed(model, before)
