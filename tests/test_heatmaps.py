"""Heatmaps from activation maps and their gradients, against tapes and the papers' formulas."""

import numpy as np
import pytest
import tensorflow as tf
from heatmap_models import (
    assert_close,
    cached_classifier,
    classifier,
    logits,
    maps_of,
    random_images,
    upsampled,
)
from small_models import layer_of

import debugcnn
from debugcnn.views.heatmaps import evidence_heatmap

CAMS = ["grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam"]


def formula(name, maps, gradients):
    """The heatmap of one image before the ReLU, as in the papers; what is 0 / 0 adds nothing."""
    positive = np.maximum(gradients, 0)
    if name == "hires_cam":
        return (maps * gradients).sum(-1)
    if name == "layer_cam":
        return (maps * positive).sum(-1)
    if name == "grad_cam":
        return maps @ gradients.mean((0, 1))
    heatmap = np.zeros(maps.shape[:2])
    for channel in range(maps.shape[-1]):
        a, g = maps[..., channel], gradients[..., channel]
        denominator = 2 * g**2 + a.sum() * g**3
        alpha = np.divide(g**2, denominator, out=np.zeros_like(g), where=g != 0)
        heatmap += (alpha * positive[..., channel]).sum() * a
    return heatmap


@pytest.mark.parametrize("layer", ["relu", "pool", "last"])
@pytest.mark.parametrize("name", CAMS)
def test_maps_and_gradients_are_put_together_as_in_the_papers(name, layer):
    model, images, targets = cached_classifier(), random_images(), [2, 0, 1]
    maps = maps_of(model, images, layer)
    names = [part.name for part in model.layers]
    with tf.GradientTape() as tape:
        tape.watch(maps)
        rest = maps
        for part in model.layers[names.index(layer) + 1 : names.index("last") + 1]:
            rest = part(rest)
        logit = tf.gather(logits(model, images, rest), targets, batch_dims=1)
    gradients = tape.gradient(logit, maps).numpy().astype("f8")
    if layer == "relu":  # of each 2 x 2 positions, the pooling reads one
        assert (gradients == 0).mean() > 0.5
    expected = [formula(name, np.float64(m), g) for m, g in zip(maps.numpy(), gradients)]
    result = getattr(debugcnn, name)(model, images, targets, layer=layer)
    assert_close(result, upsampled(np.maximum(expected, 0)))


@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_hires_cam_is_grad_cam_where_only_a_mean_and_a_dense_layer_follow(head):
    heatmaps = debugcnn.hires_cam(cached_classifier(head), random_images(), 0)
    assert_close(heatmaps, debugcnn.grad_cam(cached_classifier(head), random_images(), 0))


def test_maps_times_gradients_add_up_to_the_logit_behind_relus_without_biases():
    model, images = classifier("logits"), random_images()
    for name in ("last", "dense"):
        bias = layer_of(model, name).bias
        bias.assign(tf.zeros_like(bias))
    for target in range(3):
        maps, gradients = debugcnn.evidence(model, images, target, layer="pool")
        np.testing.assert_allclose(
            (maps * gradients).sum((1, 2, 3)), model(images)[:, target], rtol=1e-3
        )
        heatmaps = np.maximum((maps * gradients).sum(-1), 0)
        assert_close(debugcnn.hires_cam(model, images, target, layer="pool"), upsampled(heatmaps))


def test_a_combination_is_kept_by_its_function_not_by_its_name():
    def combination(factor):
        def heatmaps(maps, gradients):
            return factor * tf.reduce_sum(maps * gradients, -1)

        return heatmaps

    options = cached_classifier(), random_images(), 1, None, None
    once, thrice = (evidence_heatmap(combination(factor), *options) for factor in (1, 3))
    assert_close(thrice, 3 * once)
