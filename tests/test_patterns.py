"""Filter patterns: gradient ascent, the canvases that it needs, and patterns pasted into images."""

import warnings

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_models import (
    SIDES,
    chain,
    classifier,
    ensemble,
    functional,
    images_for,
    layer_of,
    noise,
    randomise,
    sequential,
    trunk,
    two_streams,
)

import debugcnn
from debugcnn.views.patterns import COLOUR, decorrelated

PLAIN = {"jitter": 0, "decorrelate": False}  # gradient ascent without regularizers


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("layer", ["first", "last"])
def test_patterns_raise_the_response_far_above_that_of_any_image(policy, layer):
    keras.config.set_dtype_policy(policy)
    try:
        model = classifier()
    finally:
        keras.config.set_dtype_policy("float32")
    patterns, reached = debugcnn.filter_patterns(model, layer)
    assert patterns.min() >= 0 and patterns.max() <= 255
    ordinary = debugcnn.responses(model, noise(100), layer)
    margin = (reached - ordinary.max(0)) / ordinary.std(0)
    assert margin.min() > 0 and np.median(margin) > 5
    again = debugcnn.responses(model, patterns, layer).diagonal()
    np.testing.assert_allclose(reached, again, rtol=1e-2 if policy != "float32" else 1e-4)


def test_a_pattern_does_not_depend_on_the_filters_beside_it(monkeypatch):
    model = classifier()
    patterns, reached = debugcnn.filter_patterns(model, "last", steps=4)
    monkeypatch.setattr("debugcnn.views.patterns.CANVAS_PIXELS", 1)  # one canvas at a time
    chosen, reached_by_chosen = debugcnn.filter_patterns(model, "last", [3, 1], steps=4)
    np.testing.assert_allclose(chosen, patterns[[3, 1]], atol=0.05)
    np.testing.assert_allclose(reached_by_chosen, reached[[3, 1]], rtol=1e-3)


def test_plain_ascent_of_a_linear_filter_ends_at_the_signs_of_its_weights():
    """And a negative scale behind it changes the filter's sign, as the next layer sees it."""
    model = classifier()
    scale = layer_of(model, "norm").gamma.numpy()
    assert (scale < 0).any() and (scale > 0).any()
    patterns, _ = debugcnn.filter_patterns(model, "first", steps=60, step_size=1, **PLAIN)
    assert patterns.shape == (4, 3, 3, 3)
    signs = np.sign(layer_of(model, "first").kernel.numpy() * scale)
    np.testing.assert_array_equal(np.sign(patterns - 127.5), np.transpose(signs, (3, 0, 1, 2)))


@pytest.mark.parametrize("jitter", [0, 1])
def test_each_seed_has_its_patterns(jitter):
    model = chain(layers.Conv2D(4, 9, name="look"))
    first, same, other = (
        debugcnn.filter_patterns(model, "look", [0, 2], steps=2, jitter=jitter, seed=seed)[0]
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1


def test_canvases_are_rolled_ever_less_and_by_an_eighth_of_the_field_at_most(monkeypatch):
    look = layers.Conv2D(2, 31, padding="same", kernel_initializer="ones", name="look")
    model = sequential([look, layers.GlobalAveragePooling2D(), layers.Dense(1)], 40)
    roll, shifts = tf.roll, []

    def recorded(canvases, shift, axis):
        tf.numpy_function(lambda pixels: shifts.append(pixels.copy()), [shift], [])
        return roll(canvases, shift, axis)

    monkeypatch.setattr(tf, "roll", recorded)
    largest = {}
    for jitter in (2, 100):
        debugcnn.filter_patterns(model, "look", [0], steps=9, jitter=jitter)
        pixels, shifts[:] = np.abs(shifts), []
        most = min(jitter, 4)  # 31 / 8 pixels, rounded
        assert pixels.shape == (9, 2)
        assert (pixels <= np.rint(most * np.linspace(1, 0, 9))[:, None]).all()
        largest[jitter] = pixels.max()
    assert 0 < largest[2] < largest[100]


def test_regularized_patterns_are_smoother_than_those_of_plain_ascent():
    model = classifier()
    rough, smooth = (
        np.abs(np.diff(debugcnn.filter_patterns(model, "last", **options)[0], axis=1)).mean()
        for options in (PLAIN, {})
    )
    assert smooth < 0.8 * rough


def test_the_whole_canvas_is_optimized():
    """The middle unit does not see the last row and column, which other units see."""
    body = [layers.Conv2D(2, 3, strides=2, padding="same", name="look")]
    model = randomise(sequential([*body, layers.GlobalAveragePooling2D(), layers.Dense(1)]))
    patterns, _ = debugcnn.filter_patterns(model, "look", steps=60, **PLAIN)
    assert patterns.shape == (2, 4, 4, 3)
    assert np.abs(patterns - 127.5).min() > 50


def test_decorrelated_gradients_have_the_spectrum_and_colours_of_photos():
    waves = [np.cos(2 * np.pi * times * np.arange(16) / 16) for times in (1, 4)]
    gradient = np.zeros((2, 16, 16, 3), "f4")
    gradient[0, ..., 0], gradient[1, ..., 0] = waves[0], waves[1]
    slow, fast = decorrelated(tf.constant(gradient)).numpy()
    np.testing.assert_allclose(slow.std() / fast.std(), 4, rtol=1e-4)
    in_all_channels = (1 - COLOUR) / 3
    wave = 16 * np.broadcast_to(waves[0], (16, 16))
    np.testing.assert_allclose(slow[..., 0], (COLOUR + in_all_channels) * wave, atol=1e-4)
    for channel in (1, 2):
        np.testing.assert_allclose(slow[..., channel], in_all_channels * wave, atol=1e-4)


def test_canvases_are_as_small_as_the_field_also_where_the_input_is_fixed():
    tail = [layers.Flatten(), layers.Dense(1)]
    model = randomise(sequential([functional(trunk(), 64), *tail], 64))
    sizes = [debugcnn.filter_patterns(model, n, [0], steps=1)[0].shape for n in ("first", "last")]
    assert sizes[0] == (1, 3, 3, 3) and sizes[1][1] == sizes[1][2] <= 10
    assert debugcnn.responses(model, noise(2, 40), "last").shape == (2, 5)
    assert debugcnn.grad_cam(model, noise(2, 64), 1).shape == (2, 64, 64)


def test_a_model_of_any_size_gets_canvases_of_the_least_size():
    model = randomise(sequential([*trunk(), layers.GlobalAveragePooling2D()], None))
    assert debugcnn.filter_patterns(model, "first", [0], steps=1)[0].shape == (1, 3, 3, 3)


def test_patterns_keep_to_the_range_of_values_that_the_model_takes():
    model = randomise(sequential([*trunk()[1:], layers.GlobalAveragePooling2D(), layers.Dense(1)]))
    patterns, _ = debugcnn.filter_patterns(model, "last", value_range=(-1, 1))
    assert -1 <= patterns.min() < -0.5 and 0.5 < patterns.max() <= 1


def test_a_dead_filter_gives_grey_and_no_warning():
    model = classifier()
    layer_of(model, "norm").gamma.assign(np.zeros(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patterns, reached = debugcnn.filter_patterns(model, "first", [0], steps=3)
    assert np.isfinite(patterns).all() and np.isfinite(reached).all()
    assert np.ptp(patterns) < 255 / 2


def test_many_convolutions_without_padding():
    """The unit sees less than its field in theory, without which the model cannot run."""
    model = chain(*[layers.Conv2D(3, 3, name=f"look{i}") for i in range(12)])
    patterns, reached = debugcnn.filter_patterns(model, "look11", steps=24)
    assert patterns.shape == (3, 25, 25, 3)
    ordinary = debugcnn.responses(model, images_for(model, 50), "look11")
    assert (reached > ordinary.max(0)).all()
    field, stride = debugcnn.receptive_field(model, "look11")
    assert field < 25 and stride == 1


def test_the_unit_that_is_optimized_sees_no_padding():
    """A canvas of 6 x 9 pixels, two strides, has no unit whose 5 x 5 pixels lie inside it."""
    look = layers.Conv2D(1, 5, strides=3, padding="same", kernel_initializer="ones", name="look")
    model = keras.Sequential([keras.Input((70, 90, 1)), look, layers.Flatten(), layers.Dense(1)])
    patterns, reached = debugcnn.filter_patterns(model, "look", steps=60, step_size=1, **PLAIN)
    assert 5 <= min(patterns.shape[1:3]) <= max(patterns.shape[1:3]) <= 12
    assert reached[0] == pytest.approx(25 * 255, rel=0.01)


@pytest.mark.parametrize(("layer", "side"), [("fine", 64), ("coarse3", 48)])
def test_canvases_are_large_enough_for_layers_that_run_before(layer, side):
    """The coarse stream runs before the fine one is done, and needs 43 pixels."""
    model = two_streams()
    patterns, reached = debugcnn.filter_patterns(model, layer, [0, 1])
    assert patterns.shape == (2, side, side, 3)
    ordinary = debugcnn.responses(model, images_for(model, 50), layer)[:, :2]
    assert (reached > ordinary.max(0)).all()
    assert np.abs(patterns - 127.5).mean(-1)[:, 2:-2, 2:-2].max() > 60


def test_canvases_fit_a_layer_of_a_fixed_size_that_runs_before():
    model = ensemble()
    sizes = {
        layer: debugcnn.filter_patterns(model, layer, [0], steps=1)[0].shape
        for layer in ("net0/look", "net1/look")
    }
    assert sizes == {"net0/look": (1, 3, 3, 3), "net1/look": (1, 32, 40, 3)}


def test_a_model_that_resizes_its_images_gets_canvases_of_its_own_size():
    body = [layers.Resizing(18, 24), layers.Conv2D(3, 3, name="look"), layers.Conv2D(3, 3)]
    patterns, _ = debugcnn.filter_patterns(chain(*body), "look", [0], steps=1)
    assert patterns.shape == (1, *SIDES, 3)


def test_patterns_in_the_values_of_caffe():
    model = chain(layers.Conv2D(4, 3, activation="relu", name="look"))
    patterns, _ = debugcnn.filter_patterns(model, "look", steps=60, value_range="caffe")
    low, high = patterns.min((0, 1, 2)), patterns.max((0, 1, 2))
    means = [103.939, 116.779, 123.68]
    assert (low >= -np.float32(means)).all() and (high <= 255 - np.float32(means)).all()
    assert (high - low > 200).all()
    pixels = debugcnn.to_pixels(patterns, "caffe")
    assert pixels.min() > -0.01 and pixels.max() < 255.01


# ----------------------------------------------------------------------------------------- pasted


def model_of_one_filter(kernel):
    """A model whose only filter, of 8 x 8 pixels, is the mean over the colours of `kernel`."""
    model = keras.Sequential([keras.Input((40, 56, 3)), layers.Conv2D(1, 8, name="only")])
    weights = np.repeat(kernel[:, :, None, None], 3, axis=2) / 192
    model.get_layer("only").set_weights([weights.astype(np.float32), np.zeros(1)])
    return model


FINE = np.indices((8, 8)).sum(axis=0) % 2 * 2 - 1
COARSE = np.where(np.arange(8) < 4, -1, 1) * np.ones((8, 1))


@pytest.mark.parametrize(
    ("kernel", "scale", "share", "survives"), [(COARSE, 2, 0.6, True), (FINE, 1, 0.1, False)]
)
def test_a_coarse_pattern_survives_pasting_and_a_fine_one_does_not(kernel, scale, share, survives):
    model, images = model_of_one_filter(kernel), np.full((5, 40, 56, 3), 128, np.uint8)
    pattern = np.repeat(127.5 + 127.5 * kernel[None, ..., None], 3, axis=3)
    with_pattern = np.full((1, 40, 56, 3), 127.5, np.float32)
    with_pattern[0, 4:12, 4:12] = pattern[0]
    whole = debugcnn.responses(model, with_pattern, "only")[0, 0]
    enlarged = pattern.repeat(scale, axis=1).repeat(scale, axis=2)
    pasted = debugcnn.pasted_responses(model, "only", [0], enlarged, images)
    assert pasted.shape == (1, 5)
    assert (pasted > share * whole).all() == survives


@pytest.fixture
def hosts(monkeypatch):
    """The batches of images with pasted patterns, to which filters 0 to 2 respond with 0 to 2."""
    batches = []

    def responses(model, images, layer):
        batches.append(images)
        return np.tile(np.arange(3), (len(images), 1))

    monkeypatch.setattr("debugcnn.views.patterns.responses", responses)
    return batches


def test_a_pattern_is_pasted_shrunk_near_the_middle_into_each_image(hosts):
    model = model_of_one_filter(np.ones((8, 8)))
    images = np.zeros((6, 40, 56, 3), np.uint8)
    patterns = np.full((2, 10, 20, 3), 200, np.float32)
    reached = debugcnn.pasted_responses(model, "only", [2, 1], patterns, images)
    assert (reached == np.array([[2], [1]])).all()
    corners = []
    for host in np.concatenate(hosts):
        rows, columns = np.nonzero(host[..., 0])
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (8, 16)
        assert np.allclose(host[host > 0], 200)
        corners.append((rows.min(), columns.min()))
    assert len(corners) == 12 and len(set(corners)) > 4
    offsets = np.array(corners) - [16, 20]
    assert np.abs(offsets.mean(0)).max() < 4 and (np.abs(offsets).max(0) <= [5, 7]).all()
    assert not images.any()


def test_a_pattern_is_blurred_before_it_is_pasted(hosts):
    pattern = np.random.default_rng(0).uniform(50, 250, (1, 30, 20, 3)).astype(np.float32)
    sharp = tf.image.resize(pattern, (24, 16), antialias=True).numpy()[0]
    images = np.zeros((1, 40, 56, 3), np.uint8)
    debugcnn.pasted_responses(model_of_one_filter(FINE), "only", [0], pattern, images)
    host = hosts[0][0]
    pasted = host[host.sum(axis=2) > 0].reshape(24, 16, 3)
    expected = cv2.blur(sharp, (3, 3), borderType=cv2.BORDER_REFLECT)
    np.testing.assert_allclose(pasted, expected, rtol=1e-4)


@pytest.mark.parametrize(("filters", "shape"), [([0], (1, 50, 20, 3)), ([0, 0], (1, 20, 20, 3))])
def test_patterns_that_cannot_be_pasted_get_a_sentence(filters, shape):
    images, patterns = np.zeros((1, 40, 56, 3), np.uint8), np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match="do not fit images"):
        debugcnn.pasted_responses(model_of_one_filter(FINE), "only", filters, patterns, images)
