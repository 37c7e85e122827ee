"""The views against closed forms, finite differences and calls made by hand."""

import gc
import threading
import warnings
import weakref

import cv2
import keras
import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import debugcnn.quiet

SIDE = 16


def randomise(model, seed=0):
    """Weights that no initialiser would give, with normalisations that scale both ways."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.name == "moving_variance":
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        elif variable.dtype == "float32":
            variable.assign(rng.normal(0, 0.5, variable.shape))
    return model


def photos(count=3, side=SIDE, channels=3, seed=1):
    return np.random.default_rng(seed).uniform(0, 255, (count, side, side, channels)).astype("f4")


def trunk():
    return [
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, padding="same", use_bias=False, name="first"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
        layers.MaxPooling2D(name="pool"),
        layers.Conv2D(5, 3, padding="same", activation="relu", name="last"),
    ]


HEADS = {
    "sigmoid": lambda: [layers.Dense(1, activation="sigmoid", name="dense")],
    "logit": lambda: [layers.Dense(1, name="dense")],
    "separate sigmoid": lambda: [layers.Dense(1, name="dense"), layers.Activation("sigmoid")],
    "softmax": lambda: [layers.Dense(3, activation="softmax", name="dense")],
    "logits": lambda: [layers.Dense(3, name="dense")],
    "separate softmax": lambda: [layers.Dense(3, name="dense"), layers.Activation("softmax")],
    "softmax layer": lambda: [layers.Dense(3, name="dense"), layers.Softmax()],
    "tensorflow's softmax": lambda: [layers.Dense(3, activation=tf.nn.softmax, name="dense")],
    "tensorflow's sigmoid": lambda: [layers.Dense(1, activation=tf.nn.sigmoid, name="dense")],
    "log softmax": lambda: [layers.Dense(3, activation="log_softmax", name="dense")],
    "cast softmax": lambda: [
        layers.Dense(3, activation="softmax", name="dense"),
        layers.Activation("linear", dtype="float32"),
    ],
}


class Subclassed(keras.Model):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def call(self, images):
        for part in self.parts:
            images = part(images)
        return images


def functional(parts, side=SIDE):
    images = outputs = keras.Input((side, side, 3))
    for part in parts:
        outputs = part(outputs)
    return keras.Model(images, outputs)


def sequential(parts, side=SIDE):
    return keras.Sequential([keras.Input((side, side, 3)), *parts])


def subclassed(parts):
    model = Subclassed(parts)
    model(photos(1))
    return model


BUILDS = {
    "sequential": sequential,
    "functional": functional,
    "subclassed": subclassed,
    "sequential in sequential": lambda parts: sequential([sequential(parts[:6]), *parts[6:]]),
    "functional in functional": lambda parts: functional([functional(parts[:6]), *parts[6:]]),
    "subclassed in functional": lambda parts: functional([subclassed(parts[:6]), *parts[6:]]),
    "whole classifier inside": lambda parts: sequential([functional(parts)]),
    "pooling that keeps a map of one": lambda parts: functional(
        [*parts[:6], layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten(), *parts[7:]]
    ),
    "operations": lambda parts: functional(
        [*parts[:6], lambda maps: keras.ops.mean(maps + 0, (1, 2)), *parts[7:]]
    ),
}


def net(head="sigmoid", build="functional"):
    return randomise(BUILDS[build]([*trunk(), layers.GlobalAveragePooling2D(), *HEADS[head]()]))


def layer_of(model, name):
    return next(layer for layer in model._flatten_layers() if layer.name == name)


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


# ---------------------------------------------------------------------------------------- Grad-CAM


@pytest.mark.parametrize("head", HEADS)
def test_grad_cam_is_the_class_activation_map_with_every_head(head):
    model, images = net(head), photos()
    maps = debugcnn.activations(model, images, ["last"])["last"]
    for target in (0, 1):
        assert_class_activation_map(model, images, maps, target)


@pytest.mark.parametrize("build", BUILDS)
def test_grad_cam_is_the_class_activation_map_in_every_kind_of_model(build):
    model, images = net("softmax", build), photos()
    maps = images
    for name in ("rescaling", "first", "norm", "relu", "pool", "last"):
        maps = next(p for p in model._flatten_layers() if p.name.startswith(name))(maps)
    assert_class_activation_map(model, images, maps.numpy(), 2)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("head", ["sigmoid", "softmax", "cast softmax"])
def test_grad_cam_in_mixed_precision(policy, head):
    keras.config.set_dtype_policy(policy)
    try:
        model = net(head)
    finally:
        keras.config.set_dtype_policy("float32")
    images = photos()
    exact = net(head)
    maps = debugcnn.activations(exact, images, ["last"])["last"]
    # Of the class with most evidence, since small differences drown in 8 bits.
    target = max((0, 1), key=lambda target: (maps @ class_weights(exact, target)).max())
    assert_class_activation_map(model, images, maps, target, tolerance=0.02)
    for view in debugcnn.activations(model, images).values():
        assert view.dtype == np.float32


@pytest.mark.parametrize("build", [sequential, functional])
def test_grad_cam_reaches_into_a_keras_application(build):
    backbone = keras.applications.MobileNetV2((64, 64, 3), 0.35, include_top=False, weights=None)
    head = [layers.GlobalAveragePooling2D(), layers.Dense(2, "softmax", name="dense")]
    model, images = randomise(build([backbone, *head], 64)), photos(2, 64) / 127.5 - 1
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
    maps, gradients = debugcnn.evidence(model, photos(2), [2, 0])
    for photo, target in enumerate([2, 0]):
        for place in np.random.default_rng(0).integers(0, maps.shape[1:], (20, 3)):
            logits = []
            for step in (1e-4, -1e-4):
                moved = maps[photo].astype("f8")
                moved[tuple(place)] += step
                logits.append((np.tanh(moved.ravel() @ hidden[0] + hidden[1]) @ dense[0])[target])
            slope = (logits[0] - logits[1]) / 2e-4
            np.testing.assert_allclose(gradients[photo][tuple(place)], slope, rtol=1e-3, atol=1e-6)


def test_grad_cam_is_the_weighted_sum_of_the_evidence():
    model, images = net("logits"), photos()
    for name in ("first", "norm"):
        maps, gradients = debugcnn.evidence(model, images, 1, layer=name)
        heat = np.maximum((gradients.mean((1, 2), keepdims=True) * maps).sum(-1), 0)
        assert (heat > 0).any() and (heat == 0).any()
        heatmaps = debugcnn.grad_cam(model, images, 1, layer=layer_of(model, name))
        np.testing.assert_allclose(heatmaps, heat, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_without_a_target_each_photo_gets_its_predicted_class(head):
    model, images = net(head), photos(12)
    answer = model.predict(images, verbose=0)
    classes = answer.argmax(1) if answer.shape[1] > 1 else (answer[:, 0] > 0.5).astype(int)
    if len(set(classes)) == 1:  # move the border between the classes into the photos
        bias = layer_of(model, "dense").bias
        logits = np.log(answer / (1 - answer)) if answer.shape[1] == 1 else np.log(answer)
        bias.assign(bias - np.median(logits, 0))
        answer = model.predict(images, verbose=0)
        classes = answer.argmax(1) if answer.shape[1] > 1 else (answer[:, 0] > 0.5).astype(int)
    assert len(set(classes)) > 1
    predicted = debugcnn.grad_cam(model, images)
    np.testing.assert_array_equal(predicted, debugcnn.grad_cam(model, images, classes))
    other = debugcnn.grad_cam(model, images, 1 - np.minimum(classes, 1))
    assert (predicted != other).any((1, 2)).all()


def test_class_0_of_a_single_unit_is_minus_class_1():
    model, images = net("sigmoid"), photos()
    maps, for_dog = debugcnn.evidence(model, images, 1)
    same_maps, for_cat = debugcnn.evidence(model, images, 0)
    np.testing.assert_array_equal(maps, same_maps)
    np.testing.assert_array_equal(for_cat, -for_dog)
    assert np.abs(for_dog).min((1, 2)).max() > 0


@pytest.mark.parametrize("head", ["sigmoid", "softmax", "separate sigmoid", "separate softmax"])
def test_a_saturated_answer_has_the_evidence_of_any_other(head):
    model, images = net(head), photos()
    before = debugcnn.grad_cam(model, images, 1)
    bias = layer_of(model, "dense").bias
    bias.assign(bias + np.eye(bias.shape[0], dtype="f4")[-1] * 500)
    assert set(np.unique(model(images))) <= {0, 1}
    np.testing.assert_array_equal(debugcnn.grad_cam(model, images, 1), before)
    assert before.max() > 0


def test_a_map_without_evidence_is_zero_and_leaves_the_photo():
    model, images = net("sigmoid"), np.rint(photos())
    dense = layer_of(model, "dense")
    dense.kernel.assign(-np.abs(dense.kernel))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heatmaps = debugcnn.grad_cam(model, images, 1)
        shown = debugcnn.overlay(images, heatmaps)
    np.testing.assert_array_equal(heatmaps, 0)
    np.testing.assert_array_equal(shown, images)
    assert debugcnn.grad_cam(model, images, 0).min((1, 2)).max() > 0


# ------------------------------------------------------------------------------------- activations


@pytest.mark.parametrize("build", ["sequential", "functional in functional", "subclassed"])
def test_activations_are_what_the_layers_return(build):
    model, images = net(build=build), photos()
    views = debugcnn.activations(model, images)
    assert list(views) == ["first", "pool", "last"]
    maps = layer_of(model, "first")(layers.Rescaling(1 / 255)(images))
    np.testing.assert_allclose(views["first"], maps, rtol=1e-5, atol=1e-5)
    normal = layer_of(model, "norm")(maps, training=False)
    pooled = layer_of(model, "pool")(layer_of(model, "relu")(normal))
    np.testing.assert_allclose(views["pool"], pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(views["last"], layer_of(model, "last")(pooled), rtol=1e-4, atol=1e-4)
    chosen = debugcnn.activations(model, images, [layer_of(model, "norm"), "last"])
    assert list(chosen) == ["norm", "last"]
    np.testing.assert_allclose(chosen["norm"], normal, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(chosen["last"], views["last"])
    assert list(debugcnn.activations(model, images, ["norm", "pool"])) == ["norm", "pool"]


def test_layers_of_one_name_in_two_nested_models_are_told_apart():
    left, right = (keras.Sequential(trunk(), name=name) for name in ("left", "right"))
    images = keras.Input((SIDE, SIDE, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.add([left(images), right(images)]))
    model = randomise(keras.Model(images, layers.Dense(1)(pooled)))
    views = debugcnn.activations(model, photos())
    assert list(views)[:2] == ["left/first", "left/pool"] and "right/last" in views
    assert debugcnn.convolution_layers(model) == [n for n in views if "pool" not in n]
    alone = debugcnn.activations(right, photos())
    np.testing.assert_allclose(views["right/last"], alone["last"], rtol=1e-5)
    with pytest.raises(ValueError, match="left/first"):
        debugcnn.activations(model, photos(), ["first"])


def test_a_layer_that_runs_twice_counts_with_its_last_run():
    twice = layers.Conv2D(3, 3, padding="same", name="twice")
    head = [layers.GlobalAveragePooling2D(), layers.Dense(1)]
    model, images = randomise(sequential([twice, layers.ReLU(), twice, *head])), photos() / 255
    by_hand = twice(np.maximum(twice(images), 0))
    view = debugcnn.activations(model, images)
    assert list(view) == debugcnn.convolution_layers(model) == ["twice"]
    np.testing.assert_allclose(view["twice"], by_hand, rtol=1e-4, atol=1e-4)
    reached = debugcnn.responses(model, images, "twice")
    np.testing.assert_allclose(reached, by_hand.numpy().max((1, 2)), rtol=1e-4)


# ----------------------------------------------------------------------------- images of every kind


def views_of(model, images, target=1):
    yield from debugcnn.activations(model, images).values()
    yield debugcnn.responses(model, images, "last")
    yield debugcnn.grad_cam(model, images, target)


def test_a_batch_equals_its_photos_one_by_one(monkeypatch):
    monkeypatch.setattr(debugcnn.recording, "BATCH", 2)
    model, images = net("softmax"), photos(5)
    targets = np.array([2, 0, 1, 1, 2])
    for together, *alone in zip(
        views_of(model, images, targets),
        *(views_of(model, images[i : i + 1], targets[i]) for i in range(5)),
        strict=True,
    ):
        np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-5)


def test_bytes_equal_floats():
    model, images = net(), np.uint8(photos())
    for of_bytes, of_floats in zip(
        views_of(model, images), views_of(model, np.float64(images)), strict=True
    ):
        np.testing.assert_array_equal(of_bytes, of_floats)


def test_bytes_enter_a_subclassed_model_that_expects_floats():
    model, images = subclassed([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)]), photos()
    np.testing.assert_array_equal(
        debugcnn.probabilities(model, np.uint8(images)),
        debugcnn.probabilities(model, np.floor(images)),
    )


def test_augmentation_inside_the_model_is_off():
    plain, parts = net(), [layers.RandomFlip(), layers.RandomRotation(0.3), layers.Dropout(0.9)]
    model = functional([*parts, *plain.layers[1:]])
    for view, expected in zip(views_of(model, photos()), views_of(plain, photos()), strict=True):
        np.testing.assert_array_equal(view, expected)


@keras.saving.register_keras_serializable()
class Saved(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.look, self.decide = layers.Conv2D(2, 3, name="look"), layers.Dense(1)

    def call(self, images):
        return self.decide(tf.reduce_mean(self.look(images), (1, 2)))


def test_a_subclassed_model_from_a_file(tmp_path):
    model, images = Saved(), photos()
    model(images)
    model.save(tmp_path / "saved.keras")
    loaded = debugcnn.load_model(tmp_path / "saved.keras")
    assert debugcnn.convolution_layers(loaded) == ["look"]
    np.testing.assert_array_equal(
        debugcnn.grad_cam(loaded, images, 1), debugcnn.grad_cam(model, images, 1)
    )


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts(channels):
    body = [*trunk(), layers.GlobalAveragePooling2D(), layers.Dense(1)]
    model = randomise(keras.Sequential([keras.Input((SIDE, SIDE, channels)), *body]))
    images = photos(channels=channels)
    assert debugcnn.grad_cam(model, images, 1).shape == (3, SIDE, SIDE)
    patterns, _ = debugcnn.filter_patterns(model, "last", [0], steps=2)
    assert patterns.shape[-1] == channels


def test_a_model_that_never_ran_is_built_on_the_images():
    body = [*trunk(), layers.GlobalAveragePooling2D(), layers.Dense(1)]
    for model in (keras.Sequential(body), Subclassed(body)):
        with pytest.raises(ValueError, match="built"):
            debugcnn.convolution_layers(model)
        assert debugcnn.grad_cam(model, photos(), 1).shape == (3, SIDE, SIDE)
        assert debugcnn.convolution_layers(model) == ["first", "last"]
    # Nothing but the channels is fixed in such a model.
    assert debugcnn.grad_cam(Subclassed(body), photos(2, 20), 1).shape == (2, 20, 20)


# ----------------------------------------------------------------------------------------- filters


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("layer", ["first", "last"])
def test_patterns_raise_the_response_far_above_that_of_any_photo(policy, layer):
    keras.config.set_dtype_policy(policy)
    try:
        model = net()
    finally:
        keras.config.set_dtype_policy("float32")
    patterns, reached = debugcnn.filter_patterns(model, layer)
    assert patterns.min() >= 0 and patterns.max() <= 255
    ordinary = debugcnn.responses(model, photos(100), layer)
    margin = (reached - ordinary.max(0)) / ordinary.std(0)
    assert margin.min() > 0 and np.median(margin) > 5
    again = debugcnn.responses(model, patterns, layer).diagonal()
    np.testing.assert_allclose(reached, again, rtol=1e-2 if policy != "float32" else 1e-4)


def test_a_pattern_does_not_depend_on_the_filters_beside_it(monkeypatch):
    model = net()
    patterns, reached = debugcnn.filter_patterns(model, "last", steps=4)
    monkeypatch.setattr(debugcnn.patterns, "CANVAS_PIXELS", 1)
    some, reached_by_some = debugcnn.filter_patterns(model, "last", [3, 1], steps=4)
    np.testing.assert_allclose(some, patterns[[3, 1]], atol=0.05)
    np.testing.assert_allclose(reached_by_some, reached[[3, 1]], rtol=1e-3)


def test_plain_ascent_of_a_linear_filter_ends_at_the_signs_of_its_weights():
    """And a negative scale behind it turns the filter round, as the next layer sees it."""
    model = net()
    scale = layer_of(model, "norm").gamma.numpy()
    assert (scale < 0).any() and (scale > 0).any()
    patterns, _ = debugcnn.filter_patterns(
        model, "first", steps=60, step_size=1, jitter=0, decorrelate=False
    )
    assert patterns.shape == (4, 3, 3, 3)
    signs = np.sign(layer_of(model, "first").kernel.numpy() * scale)
    np.testing.assert_array_equal(np.sign(patterns - 127.5), np.transpose(signs, (3, 0, 1, 2)))


@pytest.mark.parametrize("jitter", [0, 1])
def test_each_seed_has_its_patterns(jitter):
    model = net()
    one, same, other = (
        debugcnn.filter_patterns(model, "last", [0, 2], steps=2, jitter=jitter, seed=seed)[0]
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1


def test_canvases_are_rolled_ever_less_and_by_an_eighth_of_the_field_at_most(monkeypatch):
    look = layers.Conv2D(2, 31, padding="same", kernel_initializer="ones", name="look")
    model = sequential([look, layers.GlobalAveragePooling2D(), layers.Dense(1)], 40)
    roll, rolled = tf.roll, []

    def noted(canvases, shift, axis):
        tf.numpy_function(lambda by: rolled.append(by.copy()), [shift], [])
        return roll(canvases, shift, axis)

    monkeypatch.setattr(tf, "roll", noted)
    by = {}
    for jitter in (0, 2, 100):
        debugcnn.filter_patterns(model, "look", [0], steps=9, jitter=jitter)
        by[jitter], rolled[:] = np.abs(rolled), []
        assert by[jitter].shape == (9, 2)
        most = min(jitter, 31 / 8)  # 4 pixels, rounded
        assert (by[jitter] <= np.rint(np.ceil(most) * np.linspace(1, 0, 9))[:, None]).all()
    assert by[0].max() == 0 < by[2].max() < by[100].max()


def test_canvases_are_drawn_in_batches_that_fit_the_memory(monkeypatch):
    model, sizes, run = net(), [], debugcnn.views.patterns.in_batches

    def noted(function, *arrays, batch=None, keep=None):
        sizes.append(batch)
        return run(function, *arrays, batch=batch, keep=keep)

    monkeypatch.setattr(debugcnn.patterns, "in_batches", noted)
    for pixels, batch in ((1, 1), (27, 3)):
        monkeypatch.setattr(debugcnn.patterns, "CANVAS_PIXELS", pixels)
        patterns, _ = debugcnn.filter_patterns(model, "first", steps=1)
        assert patterns.shape == (4, 3, 3, 3) and sizes[-1] == batch


def test_the_cures_make_patterns_smoother_than_plain_ascent():
    model = net()
    rough, smooth = (
        np.abs(np.diff(debugcnn.filter_patterns(model, "last", **how)[0], axis=1)).mean()
        for how in ({"jitter": 0, "decorrelate": False}, {})
    )
    assert smooth < 0.8 * rough


def test_the_response_is_the_highest_sum_before_the_activation():
    model, images = net(build="functional in functional"), photos()
    normal = debugcnn.activations(model, images, ["norm"])["norm"].max((1, 2))
    for layer in ("first", "norm", "relu", layer_of(model, "relu")):
        np.testing.assert_allclose(debugcnn.responses(model, images, layer), normal, rtol=1e-5)
    last = layer_of(model, "last")
    pooled = debugcnn.activations(model, images, ["pool"])["pool"]
    sums = keras.ops.conv(pooled, last.kernel, padding="same") + last.bias
    before = debugcnn.responses(model, images, "last")
    np.testing.assert_allclose(before, np.max(sums, (1, 2)), rtol=1e-4)
    assert (before < 0).any()
    words = [debugcnn.objective(model, layer) for layer in ("first", "relu", "last", "pool")]
    assert words == [("norm", False), ("relu", True), ("last", True), ("pool", False)]


def test_only_a_normalisation_right_behind_the_convolution_counts():
    body = [
        layers.Conv2D(2, 1, name="apart"),
        layers.Conv2D(2, 1, name="fused", activation="relu"),
        layers.BatchNormalization(name="norm"),
    ]
    model = sequential([*body, layers.GlobalAveragePooling2D(), layers.Dense(1)])
    assert debugcnn.objective(model, "apart") == ("apart", False)
    assert debugcnn.objective(model, "fused") == ("fused", True)


def test_the_whole_canvas_is_climbed():
    """The middle unit does not look at the last row and column, which other units look at."""
    body = [layers.Conv2D(2, 3, strides=2, padding="same", name="look")]
    model = randomise(sequential([*body, layers.GlobalAveragePooling2D(), layers.Dense(1)]))
    patterns, _ = debugcnn.filter_patterns(model, "look", steps=60, jitter=0, decorrelate=False)
    assert patterns.shape == (2, 4, 4, 3)
    assert np.abs(patterns - 127.5).min() > 50


def test_decorrelated_gradients_have_the_spectrum_and_colours_of_photos():
    waves = [np.cos(2 * np.pi * times * np.arange(16) / 16) for times in (1, 4)]
    gradient = np.zeros((2, 16, 16, 3), "f4")
    gradient[0, ..., 0], gradient[1, ..., 0] = waves[0], waves[1]
    slow, fast = debugcnn.views.patterns._like_photos(tf.constant(gradient)).numpy()
    np.testing.assert_allclose(slow.std() / fast.std(), 4, rtol=1e-4)
    others = (1 - debugcnn.views.patterns.COLOUR) / 3
    np.testing.assert_allclose(
        slow[..., 1:], 16 * others * gradient[0, ..., :1] + [0, 0], atol=1e-4
    )
    np.testing.assert_allclose(
        slow[..., 0],
        16 * (debugcnn.views.patterns.COLOUR + others) * waves[0] + np.zeros((16, 1)),
        atol=1e-4,
    )


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


def test_canvases_are_as_small_as_the_field_also_where_the_input_is_fixed():
    tail = [layers.Flatten(), layers.Dense(1)]
    model = randomise(sequential([functional(trunk(), 64), *tail], 64))
    sizes = [debugcnn.filter_patterns(model, n, [0], steps=1)[0].shape for n in ("first", "last")]
    assert sizes[0] == (1, 3, 3, 3) and sizes[1][1] == sizes[1][2] <= 10
    assert debugcnn.responses(model, photos(2, 40), "last").shape == (2, 5)
    assert debugcnn.grad_cam(model, photos(2, 64), 1).shape == (2, 64, 64)


def test_a_model_of_any_size_gets_canvases_of_the_least_size():
    model = randomise(sequential([*trunk(), layers.GlobalAveragePooling2D()], None))
    assert debugcnn.filter_patterns(model, "first", [0], steps=1)[0].shape == (1, 3, 3, 3)


def test_patterns_keep_to_the_range_of_values_that_the_model_takes():
    model = randomise(sequential([*trunk()[1:], layers.GlobalAveragePooling2D(), layers.Dense(1)]))
    patterns, _ = debugcnn.filter_patterns(model, "last", value_range=(-1, 1))
    assert -1 <= patterns.min() < -0.5 and 0.5 < patterns.max() <= 1


def test_a_dead_filter_gives_grey_and_no_warning():
    model = net()
    layer_of(model, "norm").gamma.assign(np.zeros(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patterns, reached = debugcnn.filter_patterns(model, "first", [0], steps=3)
    assert np.isfinite(patterns).all() and np.isfinite(reached).all()
    assert np.ptp(patterns) < 255 / 2


# ----------------------------------------------------------------- the model stays as it was


def state(model):
    parts = model._flatten_layers()
    return [sorted(vars(part)) for part in parts], [part.trainable for part in parts]


def test_the_model_is_left_as_it_was():
    model, images = net(build="functional in functional"), photos()
    model.compile("sgd", "binary_crossentropy")
    model.layers[1].layers[2].trainable = False
    answer, call = model.predict(images, verbose=0), keras.Operation.__call__
    before = state(model), model.get_config(), model.get_weights()
    debugcnn.activations(model, images)
    debugcnn.filter_patterns(model, "last", [0], steps=2)
    debugcnn.grad_cam(model, images)
    assert state(model) == before[0] and model.get_config() == before[1]
    for weights, expected in zip(model.get_weights(), before[2], strict=True):
        np.testing.assert_array_equal(weights, expected)
    assert keras.Operation.__call__ is call
    np.testing.assert_array_equal(model.predict(images, verbose=0), answer)
    model.fit(images, np.ones(3), verbose=0)
    assert (model.get_weights()[-1] != before[2][-1]).any()


def test_a_second_call_runs_what_the_first_one_compiled(monkeypatch):
    model, images = net(), photos()
    first = list(views_of(model, images))
    runs, call = [], keras.Operation.__call__

    def noted(*args, **kwargs):
        runs.append(1)
        return call(*args, **kwargs)

    monkeypatch.setattr(keras.Operation, "__call__", noted)
    debugcnn.activations(model, images)
    debugcnn.grad_cam(model, images, 1)
    assert not runs
    for view, same in zip(views_of(model, images[:2]), first, strict=True):
        np.testing.assert_allclose(view, same[:2], rtol=1e-5, atol=1e-5)
    debugcnn.grad_cam(model, np.uint8(images), 1)
    assert runs
    (once,) = debugcnn.activations(model, images, iter(["first"])).values()
    (again,) = debugcnn.activations(model, images, ["first"]).values()
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("build", ["functional", "functional in functional", "subclassed"])
def test_what_changes_between_two_calls_counts(build):
    model, images = net("softmax", build), photos()
    before = list(views_of(model, images))
    randomise(model, seed=2)
    again = randomise(net("softmax", build), seed=2)
    for view, same, old in zip(views_of(model, images), views_of(again, images), before):
        np.testing.assert_allclose(view, same, rtol=1e-5, atol=1e-5)
        assert np.abs(view - old).max() > 1e-3
    layer_of(model, "last").activation = keras.activations.tanh
    (last,) = debugcnn.activations(model, images, ["last"]).values()
    assert np.abs(last).max() <= 1 and last.min() < 0
    heat = debugcnn.grad_cam(model, images, 1)
    dense = layer_of(model, "dense")
    dense.enable_lora(2)
    dense.lora_kernel_a.assign(np.linspace(-1, 1, 10).reshape(5, 2))
    dense.lora_kernel_b.assign(np.linspace(2, -1, 6).reshape(2, 3))
    assert np.abs(debugcnn.grad_cam(model, images, 1) - heat).max() > 1e-3


def test_another_precision_between_two_calls_counts():
    model, images = net(), photos()
    (exact,) = debugcnn.activations(model, images, ["last"]).values()
    layer_of(model, "last").dtype_policy = "mixed_float16"
    (rough,) = debugcnn.activations(model, images, ["last"]).values()
    np.testing.assert_array_equal(rough, np.float32(np.float16(rough)))
    assert (rough != exact).any()
    np.testing.assert_allclose(rough, exact, atol=0.01 * exact.max())


def test_a_model_that_was_looked_at_can_go():
    model = net()
    list(views_of(model, photos()))
    gone = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None


class Broken(layers.Layer):
    def call(self, images):
        raise RuntimeError("broken on purpose")


def test_keras_is_left_as_it_was_after_an_error():
    call, check = keras.Operation.__call__, keras.Layer._assert_input_compatibility
    call_function = type(tf.function(len)).__call__
    look = layers.Conv2D(2, 3, activation="relu")
    model = Subclassed([look, Broken()])
    model.built = True
    with pytest.raises(RuntimeError, match="broken on purpose"):
        debugcnn.views.tracing.record(model, tf.zeros((1, 8, 8, 3)))
    assert keras.Operation.__call__ is call
    assert keras.Layer._assert_input_compatibility is check
    assert type(tf.function(len)).__call__ is call_function
    assert look.activation is keras.activations.relu
    with pytest.raises(ValueError, match="expected"):
        net()(np.zeros((1, 5, 5, 3)))


def test_threads_do_not_see_each_other():
    models, images = [net("softmax"), net("sigmoid", "sequential")], photos()
    expected = [list(views_of(model, images)) for model in models]
    results = {}

    def look(number):
        results[number] = list(views_of(models[number % 2], images))

    threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        for view, same in zip(results[number], expected[number % 2], strict=True):
            np.testing.assert_allclose(view, same, rtol=1e-5, atol=1e-5)


def in_another_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join(1)
    return thread


class Restless(layers.Layer):
    """Does something in another thread, as a web server may at any time."""

    def __init__(self, work, *args):
        super().__init__()
        self.work = work, *args

    def call(self, images):
        in_another_thread(*self.work)
        return images


def beside(*work):
    body = [Restless(*work), layers.Conv2D(2, 1, name="own"), layers.Flatten(), layers.Dense(1)]
    return sequential(body)


def test_what_runs_in_another_thread_is_not_recorded():
    model = beside(layers.Conv2D(1, 1, name="other"), np.zeros((1, 4, 4, 3), "f4"))
    assert list(debugcnn.activations(model, photos())) == ["own"]


def test_a_function_in_another_thread_stays_one():
    traced = []
    model = beside(lambda: tf.function(lambda: traced.append(not tf.executing_eagerly()))())
    traced.clear()
    debugcnn.activations(model, photos())
    assert traced and all(traced)


def test_an_activation_in_another_thread_is_not_recorded():
    def relu(tensor):
        if threading.current_thread() is threading.main_thread():
            in_another_thread(look, np.zeros((1, 4, 4, 3), "f4"))
        return tf.nn.relu(tensor)

    look = layers.Conv2D(2, 1, activation=relu, name="look")
    model, images = randomise(sequential([look, layers.Flatten(), layers.Dense(1)])), photos()
    sums = images @ look.kernel.numpy()[0, 0] + look.bias.numpy()
    reached = debugcnn.responses(model, images, "look")
    np.testing.assert_allclose(reached, sums.max((1, 2)), rtol=1e-4)


def test_two_threads_record_one_after_the_other():
    order, threads = [], []

    def other():
        order.append("waits")
        debugcnn.views.tracing.record(inner, tf.zeros((1, 4, 4, 3)))
        order.append("runs")

    def start():
        threads.append(in_another_thread(other))
        order.append("first is done")

    inner = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(1, 1)])
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(1, 1)])
    model.layers[0].activation = lambda tensor: start() or tensor
    debugcnn.views.tracing.record(model, tf.zeros((1, 4, 4, 3)))
    threads[0].join()
    assert order == ["waits", "first is done", "runs"]


# ------------------------------------------------------------------------------------------ overlay


def test_overlay_lays_upsampled_heat_in_inferno_over_rgb():
    images = np.zeros((2, 8, 8, 3), "u1")
    images[..., 0] = 200
    heatmaps = np.zeros((2, 2, 2), "f4")
    heatmaps[0, 0, 0], heatmaps[1, 1, 1] = 4, 1
    heat = np.stack([cv2.resize(h, (8, 8), interpolation=cv2.INTER_LINEAR) for h in heatmaps]) / 4
    colours = 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
    alpha = debugcnn.views.figures.OPACITY * heat[..., None]
    expected = (1 - alpha) * images + alpha * colours
    shown = debugcnn.overlay(images, heatmaps)
    assert shown.dtype == np.uint8 and shown.shape == images.shape
    np.testing.assert_allclose(shown, expected, atol=1.01)
    assert (shown[1, 0, 0] == [200, 0, 0]).all()
    np.testing.assert_array_equal(debugcnn.overlay(images, heatmaps, peak=4), shown)
    fainter = debugcnn.overlay(images, heatmaps, peak=8)
    assert np.abs(fainter[0] - 1.0 * images[0]).sum() < np.abs(shown[0] - 1.0 * images[0]).sum()


def test_overlay_shows_heat_above_the_peak_like_the_peak():
    images, heatmaps = photos(2), np.random.default_rng(0).uniform(-1, 4, (2, SIDE, SIDE))
    shown = debugcnn.overlay(images, heatmaps, peak=2)
    np.testing.assert_array_equal(shown, debugcnn.overlay(images, np.clip(heatmaps, 0, 2), 2))


def test_overlay_without_any_heat_is_the_photo():
    images = photos(2)
    for heatmaps in (np.full((2, 4, 4), -3.0), np.zeros((2, 4, 4))):
        np.testing.assert_allclose(debugcnn.overlay(images, heatmaps), images, atol=1)


def test_overlay_shows_grey_photos_and_other_ranges():
    grey = np.full((1, 4, 4, 1), 0.5, "f4")
    shown = debugcnn.overlay(grey, np.zeros((1, 4, 4)), value_range=(-1, 1))
    assert shown.shape == (1, 4, 4, 3) and (shown == 191).all()


def test_grid_shows_each_image_once():
    figure = debugcnn.grid(photos(5), titles="abcde", columns=3)
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(figure.axes) == 6 and len(shown) == 5
    assert [axis.get_title() for axis in figure.axes] == [*"abcde", ""]
    np.testing.assert_array_equal(shown[4], np.uint8(photos(5)[4]))
    values = photos(2)[..., 0] / 255
    maps = debugcnn.grid(values, columns=2, cmap="gray")
    np.testing.assert_array_equal(maps.axes[1].images[0].get_array(), values[1])
    assert maps.axes[0].images[0].get_cmap().name == "gray"
    matplotlib.pyplot.close("all")


def test_grid_is_as_high_as_its_images():
    maps = np.zeros((5, 10, 20), "f4")
    assert debugcnn.grid(maps, columns=3, side=2).get_size_inches().tolist() == [6, 2]
    titled = debugcnn.grid(maps, titles="abcde", columns=3, side=2)
    assert titled.get_size_inches().tolist() == [6, 2.5]
    matplotlib.pyplot.close("all")


def test_montage_puts_every_tile_in_its_place():
    maps = np.arange(5, dtype="f4")[:, None, None] * np.ones((5, 4, 4), "f4") + 1
    picture = debugcnn.montage(maps, 6, columns=3, gap=2)
    assert picture.shape == (14, 22)
    np.testing.assert_allclose(picture[2:14:8, 2:22:8], [[1, 2, 3], [4, 5, 0]])
    assert (picture[6:8] == 0).all() and (picture[:, 6:8] == 0).all()
    patterns = debugcnn.montage(photos(2), 8)
    assert patterns.shape == (8, 18, 3) and (patterns[:, 8:10] == 255).all()


def test_show_displays_a_small_jpeg_and_closes_the_figure(monkeypatch):
    shown = []
    monkeypatch.setattr(debugcnn.views.figures.IPython.display, "display", shown.append)
    debugcnn.show(debugcnn.grid(photos(2)))
    assert shown[0].data[:3] == b"\xff\xd8\xff" and not matplotlib.pyplot.get_fignums()
    debugcnn.show(debugcnn.grid(photos(2)), "Two photos of noise.", quality=90)
    assert shown[1].alt == "Two photos of noise." and len(shown[1].data) > len(shown[0].data)
    debugcnn.show(debugcnn.grid(photos(2)), format="png")
    assert shown[2].data[:4] == b"\x89PNG"


# ------------------------------------------------------------------------------------ wrong input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: debugcnn.grad_cam(m, x, 3), "target 3 .* 0 to 2"),
        (lambda m, x: debugcnn.grad_cam(m, x, -1), "target -1 .* 0 to 2"),
        (lambda m, x: debugcnn.grad_cam(m, x, [0, 1]), "one class for each of the 3"),
        (lambda m, x: debugcnn.grad_cam(m, x, "cat"), "'cat'"),
        (lambda m, x: debugcnn.grad_cam(m, x, 0, layer="lust"), "'lust'.* did you mean last"),
        (lambda m, x: debugcnn.grad_cam(m, x, 0, layer=layers.ReLU(name="alien")), "'alien'"),
        (lambda m, x: debugcnn.grad_cam(m, x, 0, layer=["last"]), "'last'.* did you mean"),
        (lambda m, x: debugcnn.grad_cam(m, x, 0, layer="dense"), "'dense' returns no map"),
        (lambda m, x: debugcnn.activations(m, x, ["dense"]), "'dense' returns no map"),
        (lambda m, x: debugcnn.activations(m, x[0]), r"photo\[None\]"),
        (lambda m, x: debugcnn.activations(m, x[:0]), r"\(0, 16, 16, 3\)"),
        (lambda m, x: debugcnn.activations(m, x.astype(str)), "numbers"),
        (lambda m, x: debugcnn.grad_cam(m, x[:, :9]), r"\(3, 9, 16, 3\).*16, 16, 3"),
        (lambda m, x: debugcnn.grad_cam(m, x[..., :1]), r"\(3, 16, 16, 1\).*16, 16, 3"),
        (lambda m, x: debugcnn.filter_patterns(m, "last", [5]), "0 to 4"),
        (lambda m, x: debugcnn.filter_patterns(m, "dense"), "'dense' returns no map"),
        (lambda m, x: debugcnn.responses(m, x, "nothing"), "'nothing'"),
        (lambda m, x: debugcnn.responses(m, x[0], "last"), r"photo\[None\]"),
        (lambda m, x: debugcnn.responses(m, x[..., :1], "last"), "any, any, 3"),
    ],
)
def test_wrong_input_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call(net("logits"), photos())
    assert "\n" not in str(error.value) and str(error.value)[-1] in ".?"


class WithDeadEnd(Subclassed):
    def call(self, images):
        self.parts[0](inputs=images)
        return self.parts[2](self.parts[1](images))


def test_a_layer_without_effect_on_the_answer_is_refused():
    model = WithDeadEnd([layers.Conv2D(2, 3, name="aside"), layers.Flatten(), layers.Dense(1)])
    with pytest.raises(ValueError, match="'aside' has no effect"):
        debugcnn.grad_cam(model, photos(), layer="aside")
    with pytest.raises(ValueError, match="No layer .* map that can be followed to its prediction"):
        debugcnn.grad_cam(model, photos())


def test_models_that_are_no_image_classifiers_are_refused():
    numbers = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    with pytest.raises(ValueError, match="image"):
        debugcnn.convolution_layers(numbers)
    dense = sequential([layers.Flatten(), layers.Dense(1)])
    with pytest.raises(ValueError, match="no convolution"):
        debugcnn.convolution_layers(dense)
    with pytest.raises(ValueError, match="no convolution"):
        debugcnn.activations(dense, photos())
    with pytest.raises(ValueError, match="convolutional"):
        debugcnn.grad_cam(dense, photos())
    with pytest.raises(ValueError, match="a classifier"):
        debugcnn.grad_cam(sequential(trunk()), photos())


# -------------------------------------------------------------------------- patterns, pasted


def one_filter(kernel):
    """A net whose only filter, of 8 x 8 pixels, is the mean over the colours of `kernel`."""
    net = keras.Sequential([keras.Input((40, 56, 3)), keras.layers.Conv2D(1, 8, name="only")])
    weights = np.repeat(kernel[:, :, None, None], 3, axis=2) / 192
    net.get_layer("only").set_weights([weights.astype(np.float32), np.zeros(1)])
    return net


def test_a_coarse_pattern_survives_pasting_and_a_fine_one_does_not():
    photos = np.full((5, 40, 56, 3), 128, np.uint8)
    fine = np.indices((8, 8)).sum(axis=0) % 2 * 2 - 1
    coarse = np.where(np.arange(8) < 4, -1, 1) * np.ones((8, 1))
    for kernel, share in ((coarse, 0.6), (fine, 0.1)):
        net = one_filter(kernel)
        pattern = np.repeat(127.5 + 127.5 * kernel[None, ..., None], 3, axis=3)
        large = np.repeat(np.repeat(pattern, 2, axis=1), 2, axis=2) if kernel is coarse else pattern
        hosts = np.full((1, 40, 56, 3), 127.5, np.float32)
        hosts[0, 4:12, 4:12] = pattern[0]
        whole = debugcnn.responses(net, hosts, "only")[0, 0]
        pasted = debugcnn.pasted_responses(net, "only", [0], large, photos)
        assert pasted.shape == (1, 5)
        assert (pasted > share * whole).all() == (kernel is coarse)


def test_a_pattern_is_pasted_shrunk_near_the_middle_into_each_photo(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "debugcnn.views.patterns.responses",
        lambda model, images, layer: seen.append(images) or np.tile(np.arange(3), (len(images), 1)),
    )
    net = one_filter(np.ones((8, 8)))
    photos = np.zeros((6, 40, 56, 3), np.uint8)
    patterns = np.full((2, 10, 20, 3), 200, np.float32)
    found = debugcnn.pasted_responses(net, "only", [2, 1], patterns, photos)
    assert (found == np.array([[2], [1]])).all()
    corners = []
    for hosts in seen:
        for host in hosts:
            rows, columns = np.nonzero(host[..., 0])
            assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (8, 16)
            assert np.allclose(host[host > 0], 200)
            corners.append((rows.min(), columns.min()))
    assert len(seen) == 2 and len(set(corners)) > 4
    assert np.abs(np.mean(corners, axis=0) - [16, 20]).max() < 4
    assert np.abs(corners - np.array([16, 20])).max(axis=0)[0] <= 5
    assert not photos.any()


def test_a_pattern_is_blurred_before_it_is_pasted(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "debugcnn.views.patterns.responses",
        lambda model, images, layer: seen.append(images) or np.zeros((len(images), 1)),
    )
    pattern = np.random.default_rng(0).uniform(50, 250, (1, 30, 20, 3)).astype(np.float32)
    sharp = tf.image.resize(pattern, (24, 16), antialias=True).numpy()[0]
    photos = np.zeros((1, 40, 56, 3), np.uint8)
    debugcnn.pasted_responses(one_filter(np.ones((8, 8))), "only", [0], pattern, photos)
    pasted = seen[0][0][seen[0][0].sum(axis=2) > 0].reshape(24, 16, 3)
    expected = cv2.blur(sharp, (3, 3), borderType=cv2.BORDER_REFLECT)
    np.testing.assert_allclose(pasted, expected, rtol=1e-4)


def test_what_cannot_be_pasted_gets_a_sentence():
    net = one_filter(np.ones((8, 8)))
    photos = np.zeros((1, 40, 56, 3), np.uint8)
    for filters, shape in (([0], (1, 50, 20, 3)), ([0, 0], (1, 20, 20, 3))):
        with pytest.raises(ValueError, match="do not fit photos"):
            debugcnn.pasted_responses(net, "only", filters, np.zeros(shape, np.float32), photos)
