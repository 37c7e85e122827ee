"""View 3, by experiment: what the logit does where parts of the photo are taken away."""

import numpy as np
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from .heatmaps import evidence, logits_and_targets, targets_of
from .pixel_gradients import at_least_one, baseline_fill
from .predictions import choose_output, class_logits, logits_of
from .tracing import BATCH, check_images, in_batches, record


def occlusion(
    model,
    images,
    target=None,
    size=None,
    stride=None,
    baseline=None,
    value_range=(0, 255),
    output=None,
):
    """What a class's logit loses where a square covers the photo: (n, height, width) float32.

    Occlusion (Zeiler and Fergus, ECCV 2014, arXiv:1311.2901, section 4.2). The square of `size`
    pixels (None: a fifth of the shorter side) is moved by `stride` (None: half its size) over
    `images`, and is filled with `baseline`, a value or pictures that fit `images`; None is the
    middle of `value_range`, grey. Each pixel gets the mean loss over the squares that cover it;
    below zero where covering raises the logit.

    `target`, `output` and errors are those of `grad_cam`. Needs no gradient and no layer, but a run
    of the model for each square.
    """
    images = check_images(model, images)
    height, width = images.shape[1:3]
    size = max(1, round(min(height, width) / 5)) if size is None else size
    stride = max(1, size // 2) if stride is None else stride
    if not 0 < size <= min(height, width) or stride < 1:
        raise ValueError(
            f"size {size} and stride {stride} do not fit images of {height} x {width}."
        )
    logits, targets = logits_and_targets(model, images, target, output)
    fill = np.broadcast_to(baseline_fill(images, baseline, value_range), images.shape)
    places = [
        (min(y, height - size), min(x, width - size))
        for y in range(0, height - size + stride, stride)
        for x in range(0, width - size + stride, stride)
    ]
    heat, covered = np.zeros((2, *images.shape[:3]), np.float32)
    for i, image in enumerate(images):
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            squares = np.repeat(image[None].astype(np.float32), len(some), axis=0)
            for square, (y, x) in zip(squares, some):
                square[y : y + size, x : x + size] = fill[i, y : y + size, x : x + size]
            lost = (
                logits[i, targets[i]]
                - logits_and_targets(model, squares, targets[i], output)[0][:, targets[i]]
            )
            for (y, x), loss in zip(some, lost):
                heat[i, y : y + size, x : x + size] += loss
                covered[i, y : y + size, x : x + size] += 1
    return heat / covered


def score_cam(
    model, images, target=None, layer=None, baseline=None, value_range=(0, 255), output=None
):
    """A layer's maps, each weighted by what it shows of the photo: (n, height, width) float32.

    Score-CAM (Wang et al. 2020, arXiv:1910.01279, section 3): each map, upsampled and stretched to
    0 to 1, is laid over the photo as a mask; `baseline` (as in `occlusion`) stands where it is 0.
    The class's logits of all the masked photos, through a softmax over the channels, are the
    weights of the maps; their sum, ReLU, is the heatmap. It needs a run of the model for each
    channel, BATCH at a time. The other parameters and errors are those of `grad_cam`.
    """
    images = check_images(model, images)
    targets = targets_of(model, images, target, output)
    maps, _ = evidence(model, images, targets, layer, output)
    fill = np.broadcast_to(baseline_fill(images, baseline, value_range), images.shape)
    heat = []
    for i, image in enumerate(images):
        masks, some = np.moveaxis(maps[i], -1, 0), (image[None], fill[[i]])
        shown = masked_logits(model, *some, masks, targets[i], output, stretched=True)
        weights = np.exp(shown - shown.max())
        heat.append(np.maximum(maps[i] @ (weights / weights.sum()), 0))
    return tf.image.resize(np.stack(heat)[..., None], images.shape[1:3])[..., 0].numpy()


def rise(
    model,
    images,
    target=None,
    samples=256,
    cells=7,
    baseline=None,
    value_range=(0, 255),
    output=None,
    seed=0,
):
    """What a pixel adds to the logit where it can be seen: (n, height, width) float32.

    RISE (Petsiuk et al., BMVC 2018, arXiv:1806.07421, section 3): `samples` masks, each of `cells`
    x `cells` squares, half of them open at random, upsampled bilinearly and shifted by less than a
    square; `baseline` (as in `occlusion`) stands where a mask is closed. Each pixel gets the mean
    of mask times logit over the masks, divided by the mean of the mask. The logit's mean is taken
    off before, since it is the same for all pixels and would only add noise; so the values are
    above and below zero. All photos get the same masks, drawn with `seed`. `target`, `output` and
    errors are those of `grad_cam`.
    """
    images = check_images(model, images)
    targets = targets_of(model, images, target, output)
    fill = np.broadcast_to(baseline_fill(images, baseline, value_range), images.shape)
    at_least_one(samples=samples, cells=cells)
    heat = np.empty(images.shape[:3], np.float32)
    for i, image in enumerate(images):
        seen, product, logits = 0, 0, []
        rng = np.random.default_rng(seed)
        for masks in _random_masks(*images.shape[1:3], samples, cells, rng):
            shown = masked_logits(model, image[None], fill[[i]], masks, targets[i], output)
            seen, product = seen + masks.sum(0), product + np.tensordot(shown, masks, 1)
            logits.append(shown)
        heat[i] = (product - np.concatenate(logits).mean() * seen) / np.maximum(seen, 1e-9)
    return heat


def _random_masks(height, width, samples, cells, rng):
    """Masks from 0 to 1, BATCH at a time at most: (k, height, width)."""
    step_y, step_x = -(-height // cells), -(-width // cells)
    open_cells = rng.integers(0, 2, (samples, cells + 1, cells + 1, 1)).astype(np.float32)
    shifts = rng.integers(0, (step_y, step_x), (samples, 2))
    for start in range(0, samples, BATCH):
        some = slice(start, start + BATCH)
        large = tf.image.resize(open_cells[some], ((cells + 1) * step_y, (cells + 1) * step_x))
        cut = [m[y : y + height, x : x + width] for m, (y, x) in zip(large.numpy(), shifts[some])]
        yield np.stack(cut)[..., 0].astype(np.float64)


def masked_logits(model, images, fill, masks, targets, output=None, stretched=False):
    """The targets' logits (k,) of photos of which only what a mask shows is left.

    `images` and `fill`, what stands elsewhere, are (k, height, width, channels) or one for all
    (1, ...); `masks` are (k, h, w) of any size, 0 to 1, upsampled bilinearly and, if `stretched`,
    to 0 to 1; `targets` (k,) or a single class.
    """
    size = images.shape[1:3]

    def ask(batch, masks_of_batch, fill_of_batch, targets_of_batch):
        open_part = tf.image.resize(masks_of_batch[..., None], size)
        if stretched:
            low = tf.reduce_min(open_part, (1, 2), keepdims=True)
            high = tf.reduce_max(open_part, (1, 2), keepdims=True)
            open_part = tf.math.divide_no_nan(open_part - low, high - low)
        shown = fill_of_batch + open_part * (tf.cast(batch, tf.float32) - fill_of_batch)
        answer = choose_output(model, record(model, shown)[0], output)
        logits = class_logits(logits_of(answer)[0])
        return tf.gather(logits, targets_of_batch, batch_dims=1)

    many = len(masks)
    images, fill = (np.broadcast_to(a, (many, *a.shape[1:])) for a in (images, fill))
    targets = np.broadcast_to(np.asarray(targets, np.int32), many)
    rows = images, masks.astype(np.float32), fill, targets
    return in_batches(ask, *rows, keep=(model, (masked_logits, size, output, stretched)))


def blurred(images, sigma=None):
    """Photos (n, height, width, channels) without details, float32: what may stand for nothing.

    A Gaussian blur of `sigma` pixels; None is a sixteenth of the shorter side.
    """
    images = np.asarray(images, np.float32)
    sigma = min(images.shape[1:3]) / 16 if sigma is None else sigma
    return gaussian_filter(images, (0, sigma, sigma, 0), mode="reflect")
