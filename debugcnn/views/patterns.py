"""View 2: what each filter looks for, by gradient ascent on the pixels."""

from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from .tracing import (
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

CANVAS_PIXELS = 2**18  # of the canvases that are drawn on at once
SEEN = 0.05  # of the largest gradient makes a pixel part of the receptive field
MAP_SHARE = 0.1  # of the mean over the map in what filter_patterns raises
COLOUR = 0.15  # part of the contrast in photos that differs between the channels


class Objective(NamedTuple):
    """The numbers that `responses` reads and `filter_patterns` raises for a layer."""

    layer: str  # the layer itself, or the normalisation right behind it
    before_activation: bool


def objective(model, layer):
    """The Objective of a layer: what the next layer reads, before an activation."""
    entry = survey(model)[_objective(model, layer)]
    return Objective(entry.name, entry.activated)


def _objective(model, layer):
    return survey(model)[find(model, layer)].objective


def responses(model, images, layer):
    """How strongly each filter of a layer responds to each image: (n, filters) float32.

    This is the maximum over the map of what `objective` names: the sum before the activation, after
    the normalisation. Images may be of another size than the model's own.
    """
    images = check_images(model, images, any_size=True)
    index = _objective(model, layer)

    def highest(batch):
        return tf.reduce_max(maps_of(model, batch, index, before=True)[0], (1, 2))

    return in_batches(highest, images, keep=(model, (responses, index)))


def receptive_field(model, layer, value_range=(0, 255)):
    """Pixels that a unit of a layer looks at, and pixels from one unit to the next.

    The stride is counted along the graph; where it is not the same for rows and columns, the larger
    one. The field is measured on noise within `value_range`: the side of the square that holds
    every pixel by which a unit in the middle has at least 5 % of its largest gradient. What lies
    further out belongs to the field in theory (`layer_table`), but hardly counts (Luo et al.,
    NeurIPS 2016, arXiv:1701.04128).
    """
    index = _objective(model, layer)
    place = survey(model)[index].map
    first, behind = _seen(model, index, value_range)
    stride = float(max(place.rows.stride, place.columns.stride))
    return behind - first, int(stride) if stride.is_integer() else stride


def _seen(model, index, value_range):
    """What a unit sees of its field in theory, (first, behind the last) in pixels from where that
    begins. One square for rows and columns.
    """
    check_gradient(model)
    low, high = limits(value_range)
    shape = image_shape(model)
    noise = np.random.default_rng(0).uniform(low, high, (4, *shape)).astype(np.float32)
    place = survey(model)[index].map
    lines = place.rows, place.columns
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
    model,
    layer,
    filters=None,
    steps=24,
    step_size=0.16,
    jitter=8,
    decorrelate=True,
    seed=0,
    value_range=(0, 255),
):
    """The image that each filter of a layer responds to most, by gradient ascent on the pixels.

    Returns the images, (k, height, width, channels) float32 within `value_range` (the lowest and
    the highest value that the model takes), and the `responses` that they reach, (k,) float32.
    `filters` are k indices; None takes all filters of the layer. The images are as large as the
    receptive field, rounded up to whole strides; where the layers up to this one cannot run on so
    small an image, as large as they need; and at most as large as the model's own images.

    The ascent raises what `objective` names, in one unit and a little in the whole map. Each step
    is the gradient divided by its standard deviation. Two cures keep noise out: at each step the
    canvas is rolled by up to `jitter` pixels (Mordvintsev et al., Inceptionism, 2015; an eighth of
    the receptive field at most, and ever less towards the last step), and the gradient is
    decorrelated, that is, weighted like the frequencies and colours of photos (a simple form of
    Olah et al., Feature Visualization, Distill 2017, doi:10.23915/distill.00007). Plain ascent is
    jitter=0, decorrelate=False.

    Raises ValueError for a layer without a map or a filter that it does not have.
    """
    index = _objective(model, layer)
    count = survey(model)[index].shape[survey(model)[index].map.order[2] - 1]
    filters = np.arange(count) if filters is None else np.asarray(filters)
    if filters.ndim != 1 or not np.isin(filters, np.arange(count)).all():
        raise ValueError(f"Layer {layer!r} has the filters 0 to {count - 1}, not {filters}.")
    seen = _seen(model, index, value_range)
    (height, width), unit = _canvas(model, index, seen)
    channels = image_shape(model)[2]
    jitter = min(jitter, round((seen[1] - seen[0]) / 8))
    low, high = limits(value_range)

    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((1, height, width, channels)).astype(np.float32)
    calm = np.linspace(1, 0, steps)[:, None]
    shifts = tf.constant(np.rint(rng.uniform(-jitter, jitter, (steps, 2)) * calm).astype(np.int32))

    def to_image(latent):
        return low + (high - low) * tf.sigmoid(latent)

    def ascend(chosen):
        def step(number, latent):
            rolled = tf.roll(to_image(latent), shifts[number], (1, 2))
            maps, _ = maps_of(model, rolled, index, before=True)
            goal = maps[:, unit[0], unit[1]] + MAP_SHARE * tf.reduce_mean(maps, (1, 2))
            gradient = tf.gradients(tf.gather(goal, chosen, batch_dims=1), latent)[0]
            if decorrelate:
                gradient = _like_photos(gradient)
            spread = tf.math.reduce_std(gradient, (1, 2, 3), keepdims=True)
            return number + 1, latent + step_size * tf.math.divide_no_nan(gradient, spread)

        start = tf.repeat(0.1 * noise, tf.shape(chosen)[0], axis=0)
        _, latent = tf.while_loop(lambda number, _: number < steps, step, (0, start))
        images = to_image(latent)
        reached = tf.reduce_max(maps_of(model, images, index, before=True)[0], (1, 2))
        return images, tf.gather(reached, chosen, batch_dims=1)

    batch = max(1, CANVAS_PIXELS // (height * width))
    return in_batches(ascend, filters.astype(np.int32), batch=batch)


def _canvas(model, index, seen):
    """(height, width) of a canvas for the layer, and the unit in the middle of its map.

    As large as what the unit sees, rounded up to whole strides. Where that is too small for what
    runs before the layer (other branches, convolutions without padding, layers of a fixed size), as
    large as the field in theory, then twice that and so on, up to the model's own size.
    """
    place, own = survey(model)[index].map, image_shape(model)
    lines = place.rows, place.columns
    known = [(line.stride, line.field) for line in lines]  # a canvas that is resized has others
    strides = [max(1, ceil(line.stride)) for line in lines]
    first = [max(0, ceil(-(line.start + seen[0]) / line.stride)) for line in lines]
    sizes = [
        [_sees(line, unit, seen)[1] for line, unit in zip(lines, first)],
        [line.field for line in lines],
    ]
    while max(sizes[-1]) < max(own[:2]):
        sizes.append([2 * side for side in sizes[-1]])
    for sides in sizes:
        sides = [ceil(side / stride) * stride for side, stride in zip(sides, strides)]
        size = tuple(min(side, most) for side, most in zip(sides, own))
        try:
            on_canvas = _place(model, index, size)
        except Exception:  # the model says in its own words that it needs more
            if size == own[:2]:
                raise
            continue
        lines = on_canvas.rows, on_canvas.columns
        units = [_middle(line, side, seen) for line, side in zip(lines, size)]
        ends = [_sees(line, unit, seen) for line, unit in zip(lines, units)]
        inside = all(begin >= 0 and end <= side for (begin, end), side in zip(ends, size))
        alike = [(line.stride, line.field) for line in lines] == known
        if inside and alike:
            break
    return size, units


def _sees(line, unit, seen):
    """The first pixel that a unit sees, and the pixel behind the last one."""
    begin = line.start + unit * line.stride
    return begin + seen[0], begin + seen[1]


def _middle(line, side, seen):
    """The unit whose field lies in the middle of a canvas."""
    unit = (Fraction(side) - sum(_sees(line, 0, seen))) / 2 / line.stride
    return min(max(round(unit), 0), line.size - 1)


def _place(model, index, size):
    """The Map of a layer on a canvas of another size than the model's own."""
    found = []
    trace(
        lambda canvas: found.append(maps_of(model, canvas, index)[1]),
        (*size, image_shape(model)[2]),
    )
    return found[0]


def _like_photos(gradient):
    """A gradient weighted like photos: by 1 / frequency, and most of it alike in all colours."""
    height, width = gradient.shape[1:3]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    weight = 1 / np.maximum(frequency, 1 / max(height, width))
    spectrum = tf.signal.rfft2d(tf.transpose(gradient, (0, 3, 1, 2)))
    smooth = tf.signal.irfft2d(spectrum * weight.astype(np.complex64), (height, width))
    smooth = tf.transpose(smooth, (0, 2, 3, 1))
    return COLOUR * smooth + (1 - COLOUR) * tf.reduce_mean(smooth, -1, keepdims=True)


def pasted_responses(model, layer, filters, patterns, photos, seed=0):
    """How strongly filters respond to their own patterns in photos: (k, n) float32.

    Each of the k `patterns` (k, h, w, c), one for each of the `filters` of the layer, is shrunk to
    four fifths, blurred by a box of 3 x 3 pixels, and pasted into each of the n `photos` (n,
    height, width, c), up to an eighth of their sides from the middle. A pattern that shows what
    the filter looks for survives that (transformation robustness: Olah et al., Feature
    Visualization, Distill 2017), while noise that only adds up pixel by pixel does not. Compare
    with `responses` to the photos as they are.

    `patterns` and `photos` hold the values that the model takes. Raises ValueError for patterns
    larger than the photos, a layer without a map, and photos of a wrong shape.
    """
    photos = check_images(model, photos)
    sides, whole = np.array(patterns.shape[1:3]), np.array(photos.shape[1:3])
    if (sides > whole).any() or len(filters) != len(patterns):
        raise ValueError(
            f"{len(filters)} filters and patterns {patterns.shape} do not fit photos {whole}."
        )
    small = np.maximum(1, np.rint(0.8 * sides)).astype(int)
    weak = tf.image.resize(patterns, small, antialias=True)
    edges = [[0, 0], [1, 1], [1, 1], [0, 0]]
    weak = tf.nn.avg_pool2d(tf.pad(weak, edges, "SYMMETRIC"), 3, 1, "VALID").numpy()
    rng = np.random.default_rng(seed)
    found = np.empty((len(patterns), len(photos)), np.float32)
    for row, (pattern, k) in enumerate(zip(weak, filters)):
        hosts = photos.astype(np.float32)
        for host in hosts:
            y, x = np.rint((whole - small) / 2 + rng.uniform(-1, 1, 2) * whole / 8).astype(int)
            y, x = np.clip((y, x), 0, whole - small)
            host[y : y + small[0], x : x + small[1]] = pattern
        found[row] = responses(model, hosts, layer)[:, k]
    return found
