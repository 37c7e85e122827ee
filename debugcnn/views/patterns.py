"""View 2: what each filter responds to most, by gradient ascent on the pixels."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from .axes import Line, Map
from .methods import ValueRange
from .tracing import (
    LayerOrName,
    check_gradient,
    check_images,
    find,
    image_shape,
    in_batches,
    maps_of,
    survey,
    trace,
)
from .value_ranges import limits

CANVAS_PIXELS = 2**18  # of the canvases that are optimized at once
SEEN = 0.05  # of the largest gradient makes a pixel part of the receptive field
MAP_SHARE = 0.1  # of the mean over the map in what filter_patterns raises
COLOUR = 0.15  # part of the contrast in photos that differs between the channels
SHRINK = 0.8  # of a pattern's sides when it is pasted
OFFSET = 1 / 8  # of an image's sides: how far from the middle a pattern is pasted, at most


class Objective(NamedTuple):
    """The numbers that `responses` reads and `filter_patterns` raises for a layer."""

    layer: str  # the layer itself, or the normalization right behind it
    before_activation: bool


def objective(model: keras.Model, layer: LayerOrName) -> Objective:
    """The Objective of a layer: what the next layer reads, before an activation.

    Raises ValueError for a layer without a map.
    """
    entry = survey(model)[_objective(model, layer)]
    return Objective(entry.name, entry.activated)


def _objective(model, layer):
    return survey(model)[find(model, layer)].objective


def responses(model: keras.Model, images: Any, layer: LayerOrName) -> np.ndarray:
    """How strongly each filter of a layer responds to each image: (n, filters) float32.

    This is the maximum over the map of what `objective` names: the sum before the activation, after
    the normalization. `images` are (n, height, width, channels) with the values that the model
    takes, also of another size than the model's own. Raises ValueError for a layer without a map,
    and for images that the model does not take.
    """
    images = check_images(model, images, any_size=True)
    index = _objective(model, layer)

    def highest(batch):
        return tf.reduce_max(maps_of(model, batch, index, before=True)[0], (1, 2))

    return in_batches(highest, images, keep=(model, (responses, index)))


def receptive_field(
    model: keras.Model, layer: LayerOrName, value_range: ValueRange = (0, 255)
) -> tuple[int, float]:
    """(side in pixels of what a unit of a layer sees, pixels from one unit to the next).

    The stride is counted along the graph; where it is not the same for rows and columns, the larger
    one. The field is measured on noise within `value_range`: the side of the square that holds
    every pixel for which a unit in the middle has at least 5 % of its largest gradient. Pixels
    further out belong to the field in theory (`layer_table`), but hardly count (Luo et al., NeurIPS
    2016, arXiv:1701.04128). Raises ValueError for a layer without a map, and for a model that takes
    whole numbers.

    >>> import debugcnn, keras
    >>> body = [keras.layers.Conv2D(4, 5, strides=2, kernel_initializer="ones", name="conv")]
    >>> model = keras.Sequential([keras.Input((24, 24, 3)), *body])
    >>> debugcnn.receptive_field(model, "conv")
    (5, 2)
    """
    index = _objective(model, layer)
    layout = survey(model)[index].map
    first, behind = _seen(model, index, value_range)
    stride = float(max(layout.rows.stride, layout.columns.stride))
    return behind - first, int(stride) if stride.is_integer() else stride


def _seen(model, index, value_range):
    """What a unit sees of its field in theory, (first, behind the last) in pixels from where that
    begins. One square for rows and columns.
    """
    check_gradient(model)
    low, high = limits(value_range)
    shape = image_shape(model)
    noise = np.random.default_rng(0).uniform(low, high, (4, *shape)).astype(np.float32)
    layout = survey(model)[index].map
    lines = layout.rows, layout.columns
    middle = [line.size // 2 for line in lines]

    def by_pixels(images):
        maps, _ = maps_of(model, images, index, before=True)
        return tf.gradients(maps[:, middle[0], middle[1]], images)[0]

    strength = np.abs(in_batches(by_pixels, noise)).mean((0, 3))
    if not strength.max() > 0:  # a dead layer
        return 0, ceil(max(line.field for line in lines))
    seen = np.argwhere(strength >= SEEN * strength.max())
    begin = [ceil(line.start + unit * line.stride) for line, unit in zip(lines, middle)]
    return int((seen - begin).min()), int((seen - begin).max()) + 1


def filter_patterns(
    model: keras.Model,
    layer: LayerOrName,
    filters: Sequence[int] | np.ndarray | None = None,
    steps: int = 24,
    step_size: float = 0.16,
    jitter: int = 8,
    decorrelate: bool = True,
    seed: int = 0,
    value_range: ValueRange = (0, 255),
) -> tuple[np.ndarray, np.ndarray]:
    """The image that each filter of a layer responds to most, by gradient ascent on the pixels.

    Returns the images, (k, height, width, channels) float32 within `value_range` (the lowest and
    the highest value that the model takes, or "caffe" or "torch"), and the `responses` that they
    reach, (k,) float32. `filters` are k indices; None takes all filters of the layer. The images
    are as large as the receptive field, rounded up to whole strides; where the layers up to this
    one cannot run on so small an image, as large as they need; and at most as large as the model's
    own images.

    The ascent raises what `objective` names, in one unit and a little in the whole map. Each step
    is the gradient divided by its standard deviation. Two regularizers suppress noise: at each step
    the canvas is rolled by up to `jitter` pixels (Mordvintsev et al., Inceptionism, 2015; an eighth
    of the receptive field at most, and ever less towards the last step), and the gradient is
    decorrelated, that is, weighted like the frequencies and colours of photos (a simple form of
    Olah et al., Feature Visualization, Distill 2017, doi:10.23915/distill.00007). Plain ascent is
    jitter=0, decorrelate=False.

    Raises ValueError for a layer without a map, for a filter that it does not have, and for a model
    that takes whole numbers.

    >>> import debugcnn, keras
    >>> conv = keras.layers.Conv2D(6, 3, name="conv")
    >>> model = keras.Sequential([keras.Input((24, 24, 3)), conv])
    >>> patterns, reached = debugcnn.filter_patterns(model, "conv", filters=[0, 5], steps=2)
    >>> patterns.shape, reached.shape
    ((2, 3, 3, 3), (2,))
    """
    index = _objective(model, layer)
    entry = survey(model)[index]
    filters = _checked_filters(layer, filters, entry.shape[entry.map.order[2] - 1])
    seen = _seen(model, index, value_range)
    (height, width), (row, column) = _canvas(model, index, seen)
    low, high = limits(value_range)

    rng = np.random.default_rng(seed)
    shape = 1, height, width, image_shape(model)[2]
    noise = rng.standard_normal(shape).astype(np.float32)
    shifts = _shifts(rng, steps, min(jitter, round((seen[1] - seen[0]) / 8)))

    def to_image(latent):
        return low + (high - low) * tf.sigmoid(latent)

    def ascend(chosen):
        def step(number, latent):
            rolled = tf.roll(to_image(latent), shifts[number], (1, 2))
            maps, _ = maps_of(model, rolled, index, before=True)
            goal = maps[:, row, column] + MAP_SHARE * tf.reduce_mean(maps, (1, 2))
            gradient = tf.gradients(_chosen(goal, chosen), latent)[0]
            if decorrelate:
                gradient = decorrelated(gradient)
            spread = tf.math.reduce_std(gradient, (1, 2, 3), keepdims=True)
            return number + 1, latent + step_size * tf.math.divide_no_nan(gradient, spread)

        start = tf.repeat(0.1 * noise, tf.shape(chosen)[0], axis=0)
        _, latent = tf.while_loop(lambda number, _: number < steps, step, (0, start))
        images = to_image(latent)
        reached = tf.reduce_max(maps_of(model, images, index, before=True)[0], (1, 2))
        return images, _chosen(reached, chosen)

    batch = max(1, CANVAS_PIXELS // (height * width))
    return in_batches(ascend, filters, batch=batch)


def _chosen(values, columns):
    """(n,): of each row of `values` that in its column; quicker to trace than tf.gather."""
    rows = tf.range(tf.shape(values)[0])
    return tf.gather_nd(values, tf.stack([rows, columns], 1))


def _checked_filters(layer, filters, count):
    filters = np.arange(count) if filters is None else np.asarray(filters)
    if filters.ndim != 1 or not np.isin(filters, np.arange(count)).all():
        raise ValueError(f"Layer {layer!r} has the filters 0 to {count - 1}, not {filters}.")
    return filters.astype(np.int32)


def _shifts(rng, steps, jitter):
    """By how many pixels the canvas is rolled at each step, (steps, 2), ever less."""
    decay = np.linspace(1, 0, steps)[:, None]
    return tf.constant(np.rint(rng.uniform(-jitter, jitter, (steps, 2)) * decay).astype(np.int32))


def _canvas(model, index, seen):
    """(height, width) of a canvas for the layer, and the unit in the middle of its map.

    As large as what the unit sees, rounded up to whole strides. Where that is too small for what
    runs before the layer (other branches, convolutions without padding, layers of a fixed size), as
    large as the field in theory, then twice that and so on, up to the model's own size.
    """
    layout, own = survey(model)[index].map, image_shape(model)[:2]
    lines = layout.rows, layout.columns
    geometry = [(line.stride, line.field) for line in lines]
    for size in _canvas_sizes(lines, own, seen):
        try:
            on_canvas = _map_on_canvas(model, index, size)
        except Exception:  # the model says in its own words that it needs more
            if size == own:
                raise
            continue
        lines = on_canvas.rows, on_canvas.columns
        units = [_middle(line, side, seen) for line, side in zip(lines, size)]
        ends = [_sees(line, unit, seen) for line, unit in zip(lines, units)]
        inside = all(begin >= 0 and end <= side for (begin, end), side in zip(ends, size))
        # A model that resizes its images has other strides on another canvas.
        if inside and [(line.stride, line.field) for line in lines] == geometry:
            break
    return size, units


def _canvas_sizes(lines, own, seen):
    """Candidates for (height, width), from the smallest up to the model's own."""
    strides = [max(1, ceil(line.stride)) for line in lines]
    first = [max(0, ceil(-(line.start + seen[0]) / line.stride)) for line in lines]
    sizes = [
        [_sees(line, unit, seen)[1] for line, unit in zip(lines, first)],
        [line.field for line in lines],
    ]
    while max(sizes[-1]) < max(own):
        sizes.append([2 * side for side in sizes[-1]])
    for sides in sizes:
        sides = [ceil(side / stride) * stride for side, stride in zip(sides, strides)]
        yield tuple(min(side, most) for side, most in zip(sides, own))


def _sees(line: Line, unit, seen):
    """The first pixel that a unit sees, and the pixel behind the last one."""
    begin = line.start + unit * line.stride
    return begin + seen[0], begin + seen[1]


def _middle(line: Line, side, seen):
    """The unit whose field lies in the middle of a canvas."""
    unit = (Fraction(side) - sum(_sees(line, 0, seen))) / 2 / line.stride
    return min(max(round(unit), 0), line.size - 1)


def _map_on_canvas(model, index, size) -> Map:
    """The Map of a layer on a canvas of another size than the model's own."""
    layouts = []

    def look(canvas):
        layouts.append(maps_of(model, canvas, index)[1])

    trace(look, (*size, image_shape(model)[2]))
    return layouts[0]


def decorrelated(gradient: tf.Tensor) -> tf.Tensor:
    """A gradient (n, height, width, channels) weighted like photos: by 1 / frequency, and most of
    it alike in all colours.
    """
    height, width = gradient.shape[1:3]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    weight = 1 / np.maximum(frequency, 1 / max(height, width))
    spectrum = tf.signal.rfft2d(tf.transpose(gradient, (0, 3, 1, 2)))
    smooth = tf.signal.irfft2d(spectrum * weight.astype(np.complex64), (height, width))
    smooth = tf.transpose(smooth, (0, 2, 3, 1))
    return COLOUR * smooth + (1 - COLOUR) * tf.reduce_mean(smooth, -1, keepdims=True)


def pasted_responses(
    model: keras.Model,
    layer: LayerOrName,
    filters: Sequence[int],
    patterns: np.ndarray,
    images: Any,
    seed: int = 0,
) -> np.ndarray:
    """How strongly filters respond to their own patterns in images: (k, n) float32.

    Each of the k `patterns` (k, h, w, c), one for each of the `filters` of the layer, is shrunk to
    four fifths, blurred by a box of 3 x 3 pixels, and pasted into each of the n `images` (n,
    height, width, c), up to an eighth of their sides from the middle. A pattern that shows what
    the filter responds to survives that (transformation robustness: Olah et al., Feature
    Visualization, Distill 2017), while noise that only adds up pixel by pixel does not. Compare
    with `responses` to the images as they are.

    `patterns` and `images` hold the values that the model takes. Raises ValueError for patterns
    larger than the images, a layer without a map, and images of a wrong shape.
    """
    images = check_images(model, images)
    pattern_sides, image_sides = np.array(patterns.shape[1:3]), np.array(images.shape[1:3])
    if (pattern_sides > image_sides).any() or len(filters) != len(patterns):
        raise ValueError(
            f"{len(filters)} filters and patterns {patterns.shape} do not fit images {image_sides}."
        )
    height, width = sides = np.maximum(1, np.rint(SHRINK * pattern_sides)).astype(int)
    shrunk = tf.image.resize(patterns, sides, antialias=True)
    edges = [[0, 0], [1, 1], [1, 1], [0, 0]]
    blurred = tf.nn.avg_pool2d(tf.pad(shrunk, edges, "SYMMETRIC"), 3, 1, "VALID").numpy()
    rng = np.random.default_rng(seed)
    reached = np.empty((len(patterns), len(images)), np.float32)
    for row, (pattern, index) in enumerate(zip(blurred, filters)):
        hosts = images.astype(np.float32)
        for host in hosts:
            offset = rng.uniform(-1, 1, 2) * image_sides * OFFSET
            corner = np.rint((image_sides - sides) / 2 + offset).astype(int)
            y, x = np.clip(corner, 0, image_sides - sides)
            host[y : y + height, x : x + width] = pattern
        reached[row] = responses(model, hosts, layer)[:, index]
    return reached
