"""Figures of arrays: nothing here runs a model."""

import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import tensorflow as tf
from matplotlib.figure import Figure

from .tracing import LayerFacts

OPACITY = 0.8  # of the highest value of a heatmap
GROUPS = {  # in `layers_figure`: the label of each role, and its colour
    "convolution": ("convolution", "tab:blue"),
    "pooling": ("pooling, upsampling", "tab:orange"),
    "global pooling": ("pooling, upsampling", "tab:orange"),
    "upsampling": ("pooling, upsampling", "tab:orange"),
    "join": ("joins branches", "tab:green"),
    "dense": ("dense", "tab:purple"),
}
FEW_LAYERS = 24  # in `layers_figure`: up to so many have their names and channels written
WIDE_ENOUGH = 0.07  # share of the figure's width in which a number fits horizontally


def overlay(
    images: Any,
    heatmaps: Any,
    peak: float | None = None,
    value_range: tuple[float, float] = (0, 255),
) -> np.ndarray:
    """Images with heatmaps laid over them: (n, height, width, 3) uint8, RGB.

    `images` are (n, height, width, 1 or 3) within `value_range`; `heatmaps` are (n, h, w) of any
    size, from `grad_cam` or elsewhere. Colours run through matplotlib's inferno, from a value of 0,
    which leaves the image as it is, to `peak`. None is the highest value in `heatmaps`, so heatmaps
    that should be compared belong into one call.
    """
    images, heatmaps = np.asarray(images, np.float32), np.asarray(heatmaps, np.float32)
    low, high = value_range
    images = (images - low) / (high - low)
    peak = heatmaps.max() if peak is None else peak
    values = tf.image.resize(heatmaps[..., None], images.shape[1:3]).numpy()
    values = np.clip(values / (peak if peak > 0 else 1), 0, 1)
    colours = matplotlib.colormaps["inferno"](values[..., 0])[..., :3]
    mixed = images + OPACITY * values * (colours - images)
    return np.rint(255 * np.clip(mixed, 0, 1)).astype(np.uint8)


def grid(
    images: Sequence[np.ndarray] | np.ndarray,
    titles: Sequence[str] | None = None,
    columns: int = 8,
    side: float = 1.5,
    **imshow: Any,
) -> Figure:
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


def montage(tiles: Any, side: int, columns: int = 16, gap: int = 2) -> np.ndarray:
    """One image of many tiles (k, h, w) or (k, h, w, 3), each `side` pixels wide, row by row.

    Returns (height, width) or (height, width, 3) float32; between maps the values are 0, between
    images 255.
    """
    tiles = np.asarray(tiles, np.float32)
    maps = tiles.ndim == 3
    tiles = tf.image.resize(
        tiles[..., None] if maps else tiles, (side, side), antialias=True
    ).numpy()
    rows, columns = -(-len(tiles) // columns), min(columns, len(tiles))
    shape = rows * (side + gap), columns * (side + gap), tiles.shape[3]
    canvas = np.full(shape, 0 if maps else 255, np.float32)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (side + gap), i % columns * (side + gap)
        canvas[y : y + side, x : x + side] = tile
    canvas = canvas[:-gap, :-gap]
    return canvas[..., 0] if maps else canvas


def to_rgb(images: np.ndarray) -> np.ndarray:
    """Images (n, h, w, channels), 0 to 255, as RGB (n, h, w, 3).

    Grey images have their channel three times, images of more than three channels keep the first
    three, and NaN becomes grey.
    """
    images = np.nan_to_num(images, nan=127.5)
    return np.repeat(images[..., :1], 3, -1) if images.shape[-1] < 3 else images[..., :3]


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """A figure of a confusion matrix (k, k): a row for each label, a column for each prediction."""
    side = 0.55 * len(classes)
    figure, axis = plt.subplots(figsize=(side + 2.4, side + 1.2), layout="constrained")
    axis.imshow(counts, cmap="Blues", vmin=0)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axis.text(column, row, str(count), ha="center", va="center", color=colour)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="prediction", ylabel="label")
    return figure


class _Bar(NamedTuple):
    """What `layers_figure` shows of a layer."""

    name: str
    label: str
    colour: str
    size: tuple[int, int]  # height and width of its map; (1, 1) without a map
    channels: int


def layers_figure(table: Iterable[LayerFacts]) -> Figure:
    """A figure of a model, from its `layer_table`: for each convolution, pooling, joining and dense
    layer, in order of execution, the longer side of its map (upwards) and its channels (downwards),
    both on a logarithmic scale.
    """
    bars = [_bar(layer) for layer in table if layer.role in GROUPS and layer.shape]
    figure, (up, down) = plt.subplots(
        2, 1, figsize=(9, 4.2), sharex=True, layout="constrained", gridspec_kw={"hspace": 0}
    )
    x = np.arange(len(bars))
    colours = [bar.colour for bar in bars]
    sides = np.array([max(bar.size) for bar in bars])
    channels = np.array([bar.channels for bar in bars])
    up.bar(x, np.log2(sides) + 0.3, width=0.9, color=colours)
    down.bar(x, -np.log2(channels) - 0.3, width=0.9, color=colours)
    top, bottom = np.log2(max(sides.max(), 2)), np.log2(max(channels.max(), 2))
    up.set(ylim=(0, 1.35 * top + 1.5), yticks=[], ylabel="map\n(height x width)")
    down.set(ylim=(-bottom - 2, 0), yticks=[], ylabel="channels")
    _write_numbers(up, down, bars)
    down.tick_params(axis="x", rotation=60, length=0, labelsize=8)
    for axis in (up, down):
        axis.spines[["top", "right", "bottom", "left"]].set_visible(False)
    down.axhline(0, color="white", linewidth=2)
    shown = dict(
        pair for pair in GROUPS.values() if pair in {(bar.label, bar.colour) for bar in bars}
    )
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in shown.values()]
    up.legend(handles, shown, loc="upper right", ncols=len(shown), frameon=False, fontsize=8)
    return figure


def _bar(layer):
    has_map = layer.receptive_field and len(layer.shape) == 3
    size = layer.shape[:2] if has_map else (1, 1)
    return _Bar(layer.name, *GROUPS[layer.role], size, layer.shape[-1])


def _write_numbers(up, down, bars):
    """Sizes of maps above each run of equal ones; channels and names below each of few layers, or
    the range of the channels below each run of many.
    """
    few = len(bars) <= FEW_LAYERS
    starts = [i for i, bar in enumerate(bars) if i == 0 or bar.size != bars[i - 1].size]
    for begin, end in zip(starts, [*starts[1:], len(bars)]):
        height, width = bars[begin].size
        text = f"{height} x {width}" if height * width > 1 else "no map"
        wide_enough = (end - begin) / len(bars) > WIDE_ENOUGH
        middle, above = (begin + end - 1) / 2, np.log2(max(height, width)) + 0.4
        rotation = 0 if wide_enough else 90
        up.text(middle, above, text, ha="center", va="bottom", rotation=rotation, fontsize=8)
        if not few and wide_enough:
            channels = [bar.channels for bar in bars[begin:end]]
            low, high = min(channels), max(channels)
            text = f"{low:,} to {high:,}" if low != high else f"{low:,}"
            down.text(middle, -np.log2(high) - 0.5, text, ha="center", va="top", fontsize=8)
    if few:
        for i, bar in enumerate(bars):
            text, below = f"{bar.channels:,}", -np.log2(bar.channels) - 0.5
            down.text(i, below, text, ha="center", va="top", fontsize=8)
    down.set_xticks(range(len(bars)), [bar.name[-24:] if few else "" for bar in bars])


def show(figure: Figure, alt: str = "", quality: int = 55, format: str = "jpeg") -> None:
    """Display a figure in a notebook with an alternative text, and close it.

    As a JPEG of `quality` (1 to 95), photos take a tenth of the room; format="png" keeps lines
    sharp, and 256 colours. IPython, which displays it, comes with the notebooks.
    """
    import IPython.display

    file, options = io.BytesIO(), {}
    if format == "jpeg":
        options = {"pil_kwargs": {"quality": quality, "optimize": True}}
    figure.savefig(file, format=format, dpi=100, **options)
    plt.close(figure)
    if format == "png":
        image = PIL.Image.open(file).convert("RGB")
        file = io.BytesIO()
        image.quantize(256, dither=PIL.Image.Dither.NONE).save(file, format, optimize=True)
    IPython.display.display(IPython.display.Image(file.getvalue(), format=format, alt=alt or None))
