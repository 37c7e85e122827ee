"""Pictures of arrays: nothing here knows a model."""

import io

import IPython.display
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

OPACITY = 0.8  # of the highest heat


def overlay(images, heatmaps, peak=None, value_range=(0, 255)):
    """Photos with heatmaps laid over them: (n, height, width, 3) uint8, RGB.

    `images` are (n, height, width, 1 or 3) within `value_range`; `heatmaps` are (n, h, w) of any
    size, from `grad_cam` or elsewhere. Colours run through matplotlib's inferno, from a value of 0,
    which leaves the photo as it is, to `peak`. None is the highest value in `heatmaps`, so what
    should be compared belongs into one call.
    """
    images, heatmaps = np.asarray(images, np.float32), np.asarray(heatmaps, np.float32)
    low, high = value_range
    photos = (images - low) / (high - low)
    peak = heatmaps.max() if peak is None else peak
    heat = tf.image.resize(heatmaps[..., None], images.shape[1:3]).numpy()
    heat = np.clip(heat / (peak or 1), 0, 1)
    colours = matplotlib.colormaps["inferno"](heat[..., 0])[..., :3]
    mixed = photos + OPACITY * heat * (colours - photos)
    return np.rint(255 * np.clip(mixed, 0, 1)).astype(np.uint8)


def grid(images, titles=None, columns=8, side=1.5, **imshow):
    """A figure of images, (n, h, w, 3) from 0 to 255, or of maps, (n, h, w), row by row.

    `side` is the width of one image in inches; other arguments go to matplotlib's `imshow`.
    """
    rows = -(-len(images) // columns)
    height = side * images[0].shape[0] / images[0].shape[1] + (0.25 if titles is not None else 0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(side * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes.flat, images)):
        axis.imshow(np.uint8(image) if image.ndim == 3 else image, **imshow)
        if titles is not None:
            axis.set_title(titles[i], fontsize=8)
    return figure


def montage(tiles, side, columns=16, gap=2):
    """One picture of many: tiles (k, h, w) or (k, h, w, 3), each `side` pixels wide, row by row."""
    tiles = np.asarray(tiles, np.float32)
    maps = tiles.ndim == 3
    tiles = tf.image.resize(
        tiles[..., None] if maps else tiles, (side, side), antialias=True
    ).numpy()
    rows, columns = -(-len(tiles) // columns), min(columns, len(tiles))
    background = 0 if maps else 255
    picture = np.full((rows * (side + gap), columns * (side + gap), tiles.shape[3]), background)
    picture = picture.astype(np.float32)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (side + gap), i % columns * (side + gap)
        picture[y : y + side, x : x + side] = tile
    picture = picture[:-gap, :-gap]
    return picture[..., 0] if maps else picture


def show(figure, alt="", quality=55, format="jpeg"):
    """Display a figure in a notebook with an alternative text, and close it.

    As a JPEG, photos take a tenth of the room; format="png" keeps lines sharp.
    """
    file, options = io.BytesIO(), {}
    if format == "jpeg":
        options = {"pil_kwargs": {"quality": quality, "optimize": True}}
    figure.savefig(file, format=format, dpi=100, **options)
    plt.close(figure)
    picture = IPython.display.Image(file.getvalue(), format=format, alt=alt or None)
    IPython.display.display(picture)
