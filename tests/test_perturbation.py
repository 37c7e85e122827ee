"""Heatmaps by perturbation, against closed forms and the papers' formulas written out."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
from heatmap_models import (
    GREY,
    SIDES,
    assert_close,
    cached_classifier,
    chain,
    classifier,
    linear_model,
    logits,
    maps_of,
    random_images,
    upsampled,
)
from keras import layers
from small_models import layer_of

import debugcnn
from debugcnn.views import perturbation, tracing
from debugcnn.views.perturbation import masked_logits, random_masks


def score_cam_by_hand(model, images, target, layer="last", baseline=GREY):
    heatmaps, fill = [], np.broadcast_to(baseline, images.shape)
    for image, maps, empty in zip(images, maps_of(model, images, layer).numpy(), fill):
        scores = []
        for channel in np.moveaxis(maps, -1, 0):
            mask = tf.image.resize(channel[..., None], SIDES).numpy()
            mask = (mask - mask.min()) / (np.ptp(mask) or 1)
            masked = mask * image + (1 - mask) * empty
            scores.append(logits(model, masked[None])[0, target])
        heatmaps.append(np.maximum(maps @ (np.exp(scores) / np.exp(scores).sum()), 0))
    return upsampled(heatmaps)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_score_cam_weighs_each_map_by_what_it_shows(head, monkeypatch):
    model, images = classifier(head), random_images()
    last = layer_of(model, "last")
    last.kernel.assign(last.kernel * np.float32([1, 1, 1, 0, 1]))
    last.bias.assign([0.1, 0.2, 0.1, 1.0, 0.0])
    assert (maps_of(model, images).numpy()[..., 3] == 1).all()  # a mask that shows nothing
    dense = layer_of(model, "dense")
    dense.kernel.assign(dense.kernel * 4)
    result = debugcnn.score_cam(model, images, 1)
    assert_close(result, score_cam_by_hand(model, images, 1))
    for layer, fill in (("last", 0), ("norm", random_images(seed=2))):  # and maps below zero
        heatmaps = debugcnn.score_cam(model, images, 1, layer=layer, baseline=fill)
        assert_close(heatmaps, score_cam_by_hand(model, images, 1, layer, fill))
    monkeypatch.setattr(tracing, "BATCH", 2)
    monkeypatch.setattr(perturbation, "BATCH", 2)  # fewer than the five channels
    assert_close(debugcnn.score_cam(model, images, 1), result)
    dense.kernel.assign(-dense.kernel)
    assert np.abs(debugcnn.score_cam(model, images, 1) - result).max() > 0.01 * result.max()


def test_score_cam_of_maps_with_nothing_in_them_is_zero():
    model = classifier()
    last = layer_of(model, "last")
    last.set_weights([np.zeros_like(last.kernel), np.zeros(5)])
    np.testing.assert_array_equal(debugcnn.score_cam(model, random_images(), 1), 0)


def test_rise_finds_the_region_that_the_logit_is_the_mean_of():
    inside = np.zeros(SIDES, bool)
    inside[1:4, 9:14] = True
    model = chain(layers.Flatten(), layers.Dense(1))
    kernel = np.repeat(inside[..., None] / inside.sum() / 3, 3, 2)
    model.set_weights([kernel.reshape(-1, 1), np.zeros(1)])
    options = dict(target=1, samples=800, cells=5)
    bright, dark = (np.full((1, *SIDES, 3), value, "f4") for value in (200, 55))
    heatmap = debugcnn.rise(model, bright, **options)[0]
    assert inside[np.unravel_index(heatmap.argmax(), SIDES)]
    assert heatmap[inside].mean() > 3 * np.abs(heatmap[~inside]).mean()
    # Against grey, a dark region is evidence for the other class.
    assert_close(debugcnn.rise(model, dark, **options)[0], -heatmap, 1e-3)


@pytest.mark.parametrize("fill", [None, 20.0, "array"])
def test_rise_is_the_mean_logit_of_the_masks_that_show_a_pixel(fill):
    model, images = cached_classifier(), random_images(2)
    fill = random_images(2, seed=2) if fill == "array" else fill
    options = dict(samples=40, cells=3, baseline=fill, seed=5)
    result = debugcnn.rise(model, images, [2, 0], **options)
    masks = np.concatenate([*random_masks(*SIDES, 40, 3, np.random.default_rng(5))])
    expected = []
    for i, target in enumerate([2, 0]):
        empty = GREY if fill is None else np.broadcast_to(fill, images.shape)[i]
        masked = masks[..., None] * images[i] + (1 - masks[..., None]) * empty
        scores = logits(model, masked.astype("f4")).numpy()[:, target]
        expected.append(np.einsum("k,khw->hw", scores - scores.mean(), masks) / masks.sum(0))
    assert_close(result, np.array(expected), 1e-3)
    np.testing.assert_array_equal(debugcnn.rise(model, images, [2, 0], **options), result)
    reseeded = debugcnn.rise(model, images, [2, 0], **options | dict(seed=6))
    assert np.abs(reseeded - result).max() > 0.1 * result.max()


def test_random_masks():
    masks = np.concatenate([*random_masks(20, 60, 400, 5, np.random.default_rng(0))])
    assert masks.shape == (400, 20, 60) and masks.min() == 0 and masks.max() == 1
    assert np.abs(masks.mean(0) - 0.5).max() < 0.12 and masks.mean() == pytest.approx(0.5, abs=0.01)
    # A cell is 4 pixels high and 12 wide, over which an edge takes as long to rise.
    steepest = [np.abs(np.diff(masks, axis=axis)).max() for axis in (1, 2)]
    np.testing.assert_allclose(steepest, [1 / 4, 1 / 12], rtol=1e-3)
    slopes = np.abs(np.diff(masks, axis=2)).mean((0, 1))[12:-12]
    assert slopes.max() < 1.2 * slopes.min()  # they lie anywhere, not at the ends of cells


@pytest.mark.parametrize("fill", [None, 20, "array"])
def test_occlusion_of_a_linear_model_is_what_lay_under_the_squares(fill):
    model, weights = linear_model()
    images = random_images(2)
    fill = random_images(2, seed=2) if fill == "array" else fill
    result = debugcnn.occlusion(model, images, [2, 0], size=4, stride=3, baseline=fill)
    empty = np.broadcast_to(GREY if fill is None else fill, images.shape)
    for i, target in enumerate([2, 0]):
        losses = ((images[i] - empty[i]) * weights[..., target]).sum(-1) / 255
        total, count = np.zeros((2, *SIDES))
        for y in (0, 3, 6):
            for x in (0, 3, 6, 9, 12):
                square = slice(y, y + 4), slice(x, x + 4)
                total[square] += losses[square].sum()
                count[square] += 1
        assert_close(result[i], total / count, 1e-3)


def test_masked_logits_are_those_of_what_a_mask_shows():
    model, images, fill = cached_classifier(), random_images(4), random_images(4, seed=2)
    small = np.random.default_rng(0).uniform(0, 1, (4, 2, 5))
    masks = upsampled(small)[..., None]
    targets = [0, 1, 2, 1]
    for shown, empty in ((images, fill), (images[:1], fill), (images, fill[:1])):
        expected = logits(model, masks * shown + (1 - masks) * empty).numpy()
        assert_close(masked_logits(model, shown, empty, small, 2), expected[:, 2])
        result = masked_logits(model, shown, empty, small, targets)
        assert_close(result, expected[range(4), targets])


def test_a_blurred_image_has_no_details():
    images = random_images()
    for sigma, options in ((10 / 16, {}), (2.0, {"sigma": 2.0})):
        side = 2 * int(4 * sigma + 0.5) + 1
        expected = [
            cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT)
            for image in images
        ]
        assert_close(debugcnn.blurred(np.uint8(images), **options), np.stack(expected))
