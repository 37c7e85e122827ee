"""Pictures of arrays: nothing here knows a model."""

import io

import IPython.display
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import tensorflow as tf

OPACITY = 0.8  # of the highest heat
JOINS = {"Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"}
NESTED = {"Functional", "Model", "Sequential"}
COLOURS = {
    "convolution": "tab:blue",
    "pooling, upsampling": "tab:orange",
    "joins branches": "tab:green",
    "dense": "tab:purple",
}


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
    heat = np.clip(heat / (peak if peak > 0 else 1), 0, 1)
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


def to_rgb(pixels):
    """Pictures (n, h, w, channels), 0 to 255, as RGB: grey three times, of more than three channels
    the first three. What is no number is grey.
    """
    pixels = np.nan_to_num(pixels, nan=127.5)
    return np.repeat(pixels[..., :1], 3, -1) if pixels.shape[-1] < 3 else pixels[..., :3]


def confusion_figure(counts, words):
    """A figure of a matrix of counts: a row for each label, a column for each answer."""
    side = 0.55 * len(words)
    figure, axis = plt.subplots(figsize=(side + 2.4, side + 1.2), layout="constrained")
    axis.imshow(counts, cmap="Blues", vmin=0)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axis.text(column, row, str(count), ha="center", va="center", color=colour)
    axis.set_xticks(range(len(words)), words, rotation=45, ha="right")
    axis.set_yticks(range(len(words)), words)
    axis.set(xlabel="answer", ylabel="label")
    return figure


def layers_figure(facts):
    """A figure of a net, from its `layer_table`: for each convolution, pooling, joining and dense
    layer, in the order in which they run, the longer side of its map (upwards) and its channels
    (downwards), both on a logarithmic scale.
    """
    blocks = []
    for layer in facts:
        group = _group(layer.kind)
        if layer.kind not in NESTED and layer.shape and group:
            height, width = layer.shape[:2] if layer.field and len(layer.shape) == 3 else (1, 1)
            blocks.append((layer.name, group, (height, width), layer.shape[-1]))
    figure, (up, down) = plt.subplots(
        2, 1, figsize=(9, 4.2), sharex=True, layout="constrained", gridspec_kw={"hspace": 0}
    )
    x = np.arange(len(blocks))
    colours = [COLOURS[group] for _, group, _, _ in blocks]
    sides = np.array([max(size) for _, _, size, _ in blocks])
    channels = np.array([count for *_, count in blocks])
    up.bar(x, np.log2(sides) + 0.3, width=0.9, color=colours)
    down.bar(x, -np.log2(channels) - 0.3, width=0.9, color=colours)
    first = [i for i in x if i == 0 or blocks[i][2] != blocks[i - 1][2]]
    many = len(blocks) > 24
    for begin, end in zip(first, [*first[1:], len(blocks)]):
        height, width = blocks[begin][2]
        text = f"{height} x {width}" if height * width > 1 else "no map"
        room = (end - begin) / len(blocks) > 0.07
        place = (begin + end - 1) / 2, np.log2(max(height, width)) + 0.4
        up.text(*place, text, ha="center", va="bottom", rotation=0 if room else 90, fontsize=8)
        counts = channels[begin:end]
        if many and room:
            low, high = counts.min(), counts.max()
            text = f"{low:,} to {high:,}" if low != high else f"{low:,}"
            down.text(place[0], -np.log2(high) - 0.5, text, ha="center", va="top", fontsize=8)
    if not many:
        for i, count in enumerate(channels):
            down.text(i, -np.log2(count) - 0.5, f"{count:,}", ha="center", va="top", fontsize=8)
    top, bottom = np.log2(max(sides.max(), 2)), np.log2(max(channels.max(), 2))
    up.set(ylim=(0, 1.35 * top + 1.5), yticks=[])
    down.set(ylim=(-bottom - 2, 0), yticks=[])
    up.set_ylabel("map\n(height x width)")
    down.set_ylabel("channels")
    down.set_xticks(x, [name[-24:] for name, *_ in blocks] if not many else [""] * len(x))
    down.tick_params(axis="x", rotation=60, length=0, labelsize=8)
    for axis in (up, down):
        axis.spines[["top", "right", "bottom", "left"]].set_visible(False)
    down.axhline(0, color="white", linewidth=2)
    used = [name for name in COLOURS if name in {group for _, group, _, _ in blocks}]
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name in used]
    up.legend(handles, used, loc="upper right", ncols=len(used), frameon=False, fontsize=8)
    return figure


def _group(kind):
    if "Conv" in kind:
        return "convolution"
    if "Pool" in kind or "UpSampling" in kind:
        return "pooling, upsampling"
    if kind in JOINS:
        return "joins branches"
    return "dense" if "Dense" in kind else None


def show(figure, alt="", quality=55, format="jpeg"):
    """Display a figure in a notebook with an alternative text, and close it.

    As a JPEG, photos take a tenth of the room; format="png" keeps lines sharp, and 256 colours.
    """
    file, options = io.BytesIO(), {}
    if format == "jpeg":
        options = {"pil_kwargs": {"quality": quality, "optimize": True}}
    figure.savefig(file, format=format, dpi=100, **options)
    plt.close(figure)
    if format == "png":
        few = PIL.Image.open(file).convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE)
        file = io.BytesIO()
        few.save(file, format, optimize=True)
    picture = IPython.display.Image(file.getvalue(), format=format, alt=alt or None)
    IPython.display.display(picture)
