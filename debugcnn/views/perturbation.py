"""View 3, by experiment: how the logit changes when parts of the image are removed."""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from .baselines import baseline_fill
from .heatmaps import evidence
from .methods import Baseline, Layer, Output, Target, ValueRange, method
from .pixel_gradients import at_least_one, check_no_layer
from .predictions import choose_output, class_logits, logits_of
from .targets import logits_and_targets, target_logits, targets_of
from .tracing import BATCH, check_images, in_batches, record


def _compared_size(model, images):
    return max(2, min(images.shape[1:3]) // 4)


def _compared_stride(model, images):
    return _compared_size(model, images) // 2


@method(
    "occlusion",
    paper="Zeiler and Fergus, ECCV 2014, arXiv:1311.2901, section 4.2",
    signed=True,
    size=_compared_size,
    stride=_compared_stride,
)
def occlusion(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
    size: int | None = None,
    stride: int | None = None,
    baseline: Baseline = None,
) -> np.ndarray:
    """How much the class's logit falls where a square occludes the image: (n, height, width)
    float32.

    Occlusion (Zeiler and Fergus, ECCV 2014, arXiv:1311.2901, section 4.2). The square of `size`
    pixels (None: a fifth of the shorter side) is moved by `stride` (None: half its size) over
    `images`, and is filled with `baseline`, a value or images that fit `images`; None is the middle
    of `value_range`, grey. Each pixel gets the mean loss over the squares that occlude it, which is
    below zero where the logit rises.

    `images`, `target` and `output` are those of `grad_cam`; `layer` must be None. It needs no
    gradient, but a run of the model for each square. Raises what `grad_cam` raises, and ValueError
    for a size, stride or baseline that does not fit the images.

    >>> import debugcnn, keras, numpy as np
    >>> inputs = keras.Input((8, 8, 1))
    >>> model = keras.Sequential(
    ...     [inputs, keras.layers.Flatten(), keras.layers.Dense(1, kernel_initializer="ones")]
    ... )
    >>> images = np.zeros((1, 8, 8, 1))
    >>> images[:, 2, 5] = 64
    >>> heatmaps = debugcnn.occlusion(model, images, target=1, size=2, stride=2, baseline=0)
    >>> heatmaps.shape, heatmaps[0, 2:4, 4:6].tolist()  # the square with the only bright pixel
    ((1, 8, 8), [[64.0, 64.0], [64.0, 64.0]])
    """
    check_no_layer(layer)
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
    squares = [
        (slice(y, y + size), slice(x, x + size))
        for y in (min(y, height - size) for y in range(0, height - size + stride, stride))
        for x in (min(x, width - size) for x in range(0, width - size + stride, stride))
    ]
    total, count = np.zeros((2, *images.shape[:3]), np.float32)
    for i, image in enumerate(images):
        for start in range(0, len(squares), BATCH):
            batch = squares[start : start + BATCH]
            occluded = np.repeat(image[None].astype(np.float32), len(batch), axis=0)
            for copy, square in zip(occluded, batch):
                copy[square] = fill[i][square]
            remaining, _ = logits_and_targets(model, occluded, targets[i], output)
            losses = logits[i, targets[i]] - remaining[:, targets[i]]
            for square, loss in zip(batch, losses):
                total[i][square] += loss
                count[i][square] += 1
    return total / count


@method("Score-CAM", paper="Wang et al. 2020, arXiv:1910.01279, section 3")
def score_cam(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
    baseline: Baseline = None,
) -> np.ndarray:
    """A layer's maps, each weighted by the logit of what it shows of the image: (n, height, width)
    float32.

    Score-CAM (Wang et al. 2020, arXiv:1910.01279, section 3): each map, upsampled and stretched to
    0 to 1, masks the image; where it is 0, there is the `baseline` (as in `occlusion`). The class's
    logits of all masked images, through a softmax over the channels, are the weights of the maps;
    their weighted sum, ReLU, is the heatmap. It needs a run of the model for each channel, BATCH at
    a time. The other parameters and errors are those of `grad_cam`.
    """
    images = check_images(model, images)
    targets = targets_of(model, images, target, output)
    maps, _ = evidence(model, images, targets, layer=layer, output=output)
    fill = np.broadcast_to(baseline_fill(images, baseline, value_range), images.shape)
    heatmaps = []
    for i, image in enumerate(images):
        masks, shown = np.moveaxis(maps[i], -1, 0), (image[None], fill[[i]])
        logits = masked_logits(model, *shown, masks, targets[i], output, stretched=True)
        weights = np.exp(logits - logits.max())
        heatmaps.append(np.maximum(maps[i] @ (weights / weights.sum()), 0))
    return tf.image.resize(np.stack(heatmaps)[..., None], images.shape[1:3])[..., 0].numpy()


@method(
    "RISE", paper="Petsiuk et al., BMVC 2018, arXiv:1806.07421, section 3", signed=True, samples=128
)
def rise(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
    samples: int = 256,
    cells: int = 7,
    baseline: Baseline = None,
    seed: int = 0,
) -> np.ndarray:
    """What a pixel adds to the logit where it is visible: (n, height, width) float32.

    RISE (Petsiuk et al., BMVC 2018, arXiv:1806.07421, section 3): `samples` masks, each of `cells`
    x `cells` squares, half of them open at random, upsampled bilinearly and shifted by less than a
    square; where a mask is closed, there is the `baseline` (as in `occlusion`). Each pixel gets the
    mean of mask times logit over the masks, divided by the mean of the mask. The mean logit is
    subtracted first, since it is the same for all pixels and would only add noise; so the values
    are above and below zero. All images get the same masks, drawn with `seed`. `images`, `target`
    and `output` are those of `grad_cam`; `layer` must be None. Raises what `occlusion` raises.
    """
    check_no_layer(layer)
    images = check_images(model, images)
    targets = targets_of(model, images, target, output)
    fill = np.broadcast_to(baseline_fill(images, baseline, value_range), images.shape)
    at_least_one(samples=samples, cells=cells)
    heatmaps = np.empty(images.shape[:3], np.float32)
    for i, image in enumerate(images):
        visible, product, logits = 0, 0, []
        rng = np.random.default_rng(seed)
        for masks in random_masks(*images.shape[1:3], samples, cells, rng):
            of_masks = masked_logits(model, image[None], fill[[i]], masks, targets[i], output)
            visible, product = visible + masks.sum(0), product + np.tensordot(of_masks, masks, 1)
            logits.append(of_masks)
        mean = np.concatenate(logits).mean()
        heatmaps[i] = (product - mean * visible) / np.maximum(visible, 1e-9)
    return heatmaps


def random_masks(
    height: int, width: int, samples: int, cells: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """The masks of RISE, from 0 to 1, at most BATCH at a time: (k, height, width) float64."""
    step_y, step_x = -(-height // cells), -(-width // cells)
    open_cells = rng.integers(0, 2, (samples, cells + 1, cells + 1, 1)).astype(np.float32)
    shifts = rng.integers(0, (step_y, step_x), (samples, 2))
    for start in range(0, samples, BATCH):
        batch = slice(start, start + BATCH)
        large = tf.image.resize(open_cells[batch], ((cells + 1) * step_y, (cells + 1) * step_x))
        corners = zip(large.numpy(), shifts[batch])
        masks = [mask[y : y + height, x : x + width] for mask, (y, x) in corners]
        yield np.stack(masks)[..., 0].astype(np.float64)


def masked_logits(
    model: keras.Model,
    images: np.ndarray,
    fill: np.ndarray,
    masks: np.ndarray,
    targets: np.ndarray | int,
    output: Output = None,
    stretched: bool = False,
) -> np.ndarray:
    """The targets' logits (k,) float32 of images of which only what a mask shows is left.

    `images`, and `fill`, which replaces the rest, are (k, height, width, channels) or one for all
    (1, ...); `masks` are (k, h, w) of any size, 0 to 1, upsampled bilinearly and, if `stretched`,
    to 0 to 1; `targets` (k,) or a single class.
    """
    size = images.shape[1:3]

    def predict(batch, masks_of_batch, fill_of_batch, targets_of_batch):
        visible = tf.image.resize(masks_of_batch[..., None], size)
        if stretched:
            low = tf.reduce_min(visible, (1, 2), keepdims=True)
            high = tf.reduce_max(visible, (1, 2), keepdims=True)
            visible = tf.math.divide_no_nan(visible - low, high - low)
        masked = fill_of_batch + visible * (tf.cast(batch, tf.float32) - fill_of_batch)
        prediction = choose_output(model, record(model, masked)[0], output)
        logits = class_logits(logits_of(prediction)[0])
        return target_logits(logits, targets_of_batch)

    count = len(masks)
    images, fill = (np.broadcast_to(a, (count, *a.shape[1:])) for a in (images, fill))
    targets = np.broadcast_to(np.asarray(targets, np.int32), count)
    rows = images, masks.astype(np.float32), fill, targets
    return in_batches(predict, *rows, keep=(model, (masked_logits, size, output, stretched)))
