"""What else the input may be: value ranges, colours, orientations, sizes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from tiny_classifiers import (
    INPUT_CAUSES,
    colours,
    offered,
    textured,
    two_classes,
    with_bars,
    with_mistakes,
)

import debugcnn
from debugcnn.diagnosis.causes.flipped_or_rotated import rotated
from debugcnn.diagnosis.causes.resize import TALLER, WIDER, scaled
from debugcnn.diagnosis.forms import Feed
from debugcnn.diagnosis.registry import NotExamined
from debugcnn.statistics import auc

# -------------------------------------------------------------------------------------------- forms


@pytest.fixture
def feed():
    return Feed(colours(40)[0], (0, 1))


def all_forms(feed):
    """{cause: {name: Form}} of the input, for a model that separates the classes."""
    labels = np.arange(len(feed.pixels)) % 2
    return {cause: offered(cause, feed, labels, with_mistakes(labels, 0)) for cause in INPUT_CAUSES}


def test_each_form_changes_the_images_and_their_resized_variants_alike():
    images = textured(4, 24)
    other = images[:, :, ::-1, ::-1].copy()
    feed, second = Feed(images, (0, 1), {"cropping": other}), Feed(other, (0, 1))
    options, options_of_other = all_forms(feed), all_forms(second)
    for name, form in options.pop("resize").items():
        assert not form.apply(feed).resized_variants, name  # not resized twice
    for cause in options:
        for name, form in options[cause].items():
            changed = form.apply(feed)
            expected = options_of_other[cause][name].apply(second)
            np.testing.assert_array_equal(changed.resized_variants["cropping"], expected.pixels)
            assert changed.value_range == expected.value_range
            assert changed.pixels.shape == images.shape
    np.testing.assert_array_equal(feed.pixels, textured(4, 24))


NEGATIVE = "black and white exchanged"
GAMMA = "pixels to the power of 1 / 2.2 (gamma)"


def test_value_ranges_that_are_tried(feed):
    options = all_forms(feed)["input_scale"]
    ranges = {f"pixel values {name}" for name in ("0 to 255", "-1 to 1", "caffe", "torch")}
    assert set(options) == {*ranges, NEGATIVE, GAMMA}
    grey = replace(feed, pixels=feed.pixels[..., :1])
    kept = ranges - {"pixel values caffe", "pixel values torch"}
    labels = np.arange(40) % 2
    of_grey = offered("input_scale", grey, labels, with_mistakes(labels, 0))
    assert set(of_grey) == {*kept, NEGATIVE, GAMMA}
    for name, form in options.items():
        assert (form.handicap > 0) is (name in ("pixel values caffe", NEGATIVE))
        if name in ranges:
            expected = debugcnn.from_pixels(feed.pixels, form.apply(feed).value_range)
            np.testing.assert_array_equal(form.apply(feed).images, expected)
    np.testing.assert_array_equal(options[NEGATIVE].apply(feed).pixels, 255 - feed.pixels)


def test_a_negative_is_tried_unless_predictions_are_inverted(feed):
    labels = np.arange(100) % 2
    for wrong, tried in ((0, True), (50, True), (54, True), (56, False), (100, False)):
        scores = 2.0 * labels - 1
        scores[:wrong] *= -1  # of both classes as many: of the pairs, 1 - wrong / 100 are in order
        logits = two_classes(scores)
        assert auc(logits, labels) == pytest.approx(1 - wrong / 100)
        assert (NEGATIVE in offered("input_scale", feed, labels, logits)) is tried


def test_gamma_undoes_linear_light(feed):
    linear = replace(feed, pixels=255 * (feed.pixels / 255) ** 2.2)
    restored = all_forms(feed)["input_scale"][GAMMA].apply(linear)
    np.testing.assert_allclose(restored.pixels, feed.pixels, rtol=1e-3)


def test_orientations(feed):
    changed = {name: form.apply(feed) for name, form in offered("flipped_or_rotated", feed).items()}
    expected = {
        "the images upside down": feed.pixels[:, ::-1, ::-1],
        "the images rotated to the left": np.rot90(feed.pixels, 1, (1, 2)),
        "the images rotated to the right": np.rot90(feed.pixels, -1, (1, 2)),
        "the images mirrored": feed.pixels[:, :, ::-1],
    }
    assert list(changed) == list(expected)
    for name, pixels in expected.items():
        np.testing.assert_array_equal(changed[name].pixels, pixels)


def test_rotated_images_keep_their_size():
    images = textured(3, 40)[:, :30]
    left, right = rotated(images, 1), rotated(images, 3)
    assert left.shape == right.shape == images.shape
    # What was the right edge is above now.
    edge = cv2.resize(images[0][:, -1][None], (40, 1), interpolation=cv2.INTER_LINEAR)[0]
    assert np.corrcoef(left[0, 0].ravel(), edge.ravel())[0, 1] > 0.9
    np.testing.assert_allclose(rotated(left, 2), right, atol=1e-3)
    np.testing.assert_array_equal(rotated(images, 2), images[:, ::-1, ::-1])
    assert rotated(images[..., :1], 1).shape == (3, 30, 40, 1)


# ------------------------------------------------------------------------------------- colour forms


@pytest.mark.parametrize("kind", ["YCrCb", "HSV"])
def test_other_colour_spaces_are_offered_where_the_images_look_like_them(kind):
    """As where cv2.cvtColor was called with another code; OpenCV is the oracle."""
    shades = np.linspace(0, 160, 32)[:, None, None]
    tints = np.random.default_rng(0).uniform(30, 80, (6, 1, 1, 3))
    images = np.float32(np.uint8(shades + tints * np.ones((32, 32, 1))))
    code = getattr(cv2, f"COLOR_RGB2{kind}")
    converted = np.float32([cv2.cvtColor(np.uint8(image), code) for image in images])
    usual = {"red and blue exchanged", "colour taken away"}
    for pixels, more in ((images, set()), (converted, {f"the channels taken for {kind}"})):
        feed = Feed(pixels, (0, 1))
        options = offered("channel_order", feed)
        assert set(options) == usual | more
        for name in more:
            again = options[name].apply(feed).pixels
            assert again.dtype == np.float32
            assert np.abs(again - images).mean() < 3 < 20 < np.abs(converted - images).mean()


def test_grey_images_have_no_order_of_channels(feed):
    with pytest.raises(NotExamined, match="do not have three channels"):
        offered("channel_order", replace(feed, pixels=feed.pixels[..., :1]))


def test_colours_of_forms(feed):
    options = offered("channel_order", feed)
    assert set(options) == {"red and blue exchanged", "colour taken away"}
    swapped = options["red and blue exchanged"].apply(feed).pixels
    np.testing.assert_array_equal(swapped, feed.pixels[..., [2, 1, 0]])
    grey = np.repeat(feed.pixels.mean(-1, keepdims=True), 3, -1)
    np.testing.assert_allclose(options["colour taken away"].apply(feed).pixels, grey, atol=1e-3)


# ------------------------------------------------------------------------------------- resize forms


def resize_forms(images, variants=None):
    """{name: images} that `resize` offers."""
    feed = Feed(images, (0, 1), variants or {})
    return {name: form.apply(feed).pixels for name, form in offered("resize", feed).items()}


BARS_OFF = "the bars at their edges cut off"
SHRUNK = "the images shrunk to {} and mirrored beyond"
ALWAYS = {SHRUNK.format("75%"), SHRUNK.format("60%"), WIDER, TALLER}


@pytest.mark.parametrize(
    ("shape", "above", "beside", "colour"),
    [
        ((28, 48), 10, 0, (0, 0, 0)),  # to a square
        ((48, 30), 0, 9, (255, 255, 255)),
        ((20, 44), 6, 0, (0, 0, 0)),  # to 32 x 44
        ((24, 40), 0, 8, (90, 160, 30)),  # to 24 x 56
        ((24, 40), 3, 5, (0, 0, 0)),
    ],
)
def test_bars_are_cut_off(shape, above, beside, colour):
    for channels in (3, 1):
        inside = textured(6)[:, : shape[0], : shape[1], :channels]
        padded = with_bars(inside, above, beside, colour)
        changed = resize_forms(padded, {"padding": padded[::-1]})
        assert set(changed) == {"the images resized by padding", BARS_OFF, *ALWAYS}
        size = padded.shape[2], padded.shape[1]
        truth = np.stack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in inside])
        np.testing.assert_array_equal(changed[BARS_OFF], truth.reshape(padded.shape))
        np.testing.assert_array_equal(changed["the images resized by padding"], padded[::-1])


def test_images_without_bars_stay():
    images = textured(20, 32)
    few, flat = images.copy(), np.full_like(images, 80)
    few[:6, :5] = 0  # 30 % of the images, and no more
    thin, middle = flat.copy(), images.copy()
    thin[:, 14:18] = images[:, 14:18]  # less than a quarter is left
    middle[:, 10:20] = 0  # not at the edges
    noisy = with_bars(images[:, 4:-4], 4)
    for bar in np.s_[:, :4], np.s_[:, -4:]:
        noisy[bar] += np.random.default_rng(0).uniform(0, 30, noisy[bar].shape)
    for pixels in (images, few, flat, thin, middle, noisy):
        assert set(resize_forms(pixels)) == ALWAYS
    few[6, :5] = 0
    cut = resize_forms(few)[BARS_OFF]
    np.testing.assert_allclose(cut[7:], images[7:], atol=1e-3)
    truth = cv2.resize(images[0, 5:], (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(cut[0], truth, atol=1e-3)


@pytest.mark.parametrize("colour", [0, 255])
def test_padding_at_one_side_is_cut_off(colour):
    images = textured(20, 40)[:, :32]
    padded = np.full_like(images, colour)
    padded[:, :16, :20] = images[:, 8:24, 10:30]
    cut = resize_forms(padded)[BARS_OFF]
    for i in range(20):
        truth = cv2.resize(images[i, 8:24, 10:30], (40, 32), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(cut[i], truth, atol=1e-3)


def test_scaled_images_keep_their_middle_or_are_mirrored():
    images = textured(2, 48)[:, :36]
    wide = scaled(images, 1, 2)
    expected = cv2.resize(images[0], (96, 36), interpolation=cv2.INTER_LINEAR)[:, 24:72]
    np.testing.assert_allclose(wide[0], expected, atol=1e-3)
    low = scaled(images, 0.5, 1)
    small = cv2.resize(images[1], (48, 18), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(low[1, 9:27], small, atol=1e-3)
    np.testing.assert_allclose(low[1, 8], low[1, 10])
    np.testing.assert_allclose(scaled(images, 1, 1), images)
    assert wide.shape == low.shape == images.shape
    shrunk = scaled(textured(2, 50)[:, :40, :, :1], 0.6, 0.6)
    small = cv2.resize(textured(2, 50)[0, :40, :, :1], (30, 24), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(shrunk[0, 8:32, 10:40, 0], small, atol=1e-3)
    np.testing.assert_allclose(shrunk[0, 7], shrunk[0, 9])
    np.testing.assert_allclose(shrunk[0, :, 40], shrunk[0, :, 38])
