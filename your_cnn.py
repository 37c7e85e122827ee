"""What YourCNN.ipynb needs beyond `visualize`; to be moved there."""

from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

from visualize import activations, convolution_layers, layer_table
from visualize.recording import ACTIVATIONS, check_images, image_shape

__all__ = [
    "check_images",
    "classes_of_folders",
    "confusion",
    "confusion_figure",
    "constants",
    "draw_layers",
    "image_shape",
    "in_colour",
    "matched",
    "rank_correlation",
    "section",
    "spread",
    "table",
    "unit_ends",
    "wilson",
]

JOINS = frozenset(
    ["Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"]
)
NESTED = frozenset(["Functional", "Model", "Sequential"])
COLOURS = {
    "convolution": "tab:blue",
    "pooling": "tab:orange",
    "joins branches": "tab:green",
    "dense": "tab:purple",
    "other": "tab:gray",
}


@contextmanager
def section(what):
    """What fails inside is told in one sentence, and the notebook goes on."""
    try:
        yield
    except Exception as error:
        plt.close("all")
        first = (str(error).strip() or "no message").splitlines()[0]
        known = isinstance(error, ValueError)
        print(f"{what}: left out. {first if known else f'{type(error).__name__}: {first}'}")


def spread(items, most):
    """At most `most` of the items, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def wilson(right, count, z=1.96):
    """The 95 % interval of a share, `right` of `count` (Wilson, JASA 1927)."""
    share, middle = right / count, right / count + z * z / (2 * count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low, high = (middle + sign * half for sign in (-1, 1))
    return max(0.0, low / (1 + z * z / count)), min(1.0, high / (1 + z * z / count))


def ranks(values):
    """Places in the order of size, (n,); equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse.ravel()]


def rank_correlation(one, other):
    """Spearman's rank correlation of two arrays, -1 to 1; NaN if one of them is constant."""
    one, other = (ranks(values) - (np.size(values) + 1) / 2 for values in (one, other))
    size = np.sqrt(np.sum(one**2) * np.sum(other**2))
    return float(np.sum(one * other) / size) if size else float("nan")


def in_colour(pixels):
    """Pictures (n, h, w, channels), 0 to 255, as RGB: grey three times, of more than three channels
    the first three. What is no number is grey.
    """
    pixels = np.nan_to_num(pixels, nan=127.5)
    return np.repeat(pixels[..., :1], 3, -1) if pixels.shape[-1] < 3 else pixels[..., :3]


def classes_of_folders(folders, names, classes):
    """The class (k,) of each folder, and how that was found, as a sentence.

    By its name where `names` are given, without regard to capitals and a plural's s, or else in
    alphabetical order. Raises ValueError if neither is possible.
    """
    known = {_plain(name): number for number, name in enumerate(names or [])}
    fits = [known[_plain(folder)] for folder in folders if _plain(folder) in known]
    if len(fits) == len(folders):
        return np.array(fits), "Each folder has the name of one of CLASSES, which is its label."
    if fits:
        lost = ", ".join(folder for folder in folders if _plain(folder) not in known)
        raise ValueError(f"The photos count as unlabelled: CLASSES does not name {lost}.")
    if len(folders) != classes:
        raise ValueError(
            f"The photos count as unlabelled: they lie in {len(folders)} folders, and the net has "
            f"{classes:,} classes; name them all in CLASSES, in the order of the net's answer."
        )
    order = ", ".join(f"{folder} = class {number}" for number, folder in enumerate(folders[:10]))
    more = ", ..." if classes > 10 else ""
    return np.arange(classes), (
        f"It is assumed that the folders in alphabetical order are the classes: {order}{more}."
    )


def _plain(name):
    return str(name).strip().casefold().removesuffix("s")


def table(head, rows, folded=None):
    """Show rows as a table; `folded` is the line to click on if it should be folded up."""
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in r) + " |" for r in lines)
    if folded:
        text = f"<details><summary>{folded}</summary>\n\n{text}\n\n</details>"
    display(Markdown(text))


def confusion(labels, answers, classes):
    """Counts of photos (classes, classes): a row for each label, a column for each answer."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, answers), 1)
    return counts


def matched(counts):
    """How many photos are right if rows and columns of a confusion are paired one to one, the
    largest counts first.
    """
    counts, right = np.array(counts), 0
    for _ in range(np.count_nonzero(counts.sum(1))):
        row, column = np.unravel_index(counts.argmax(), counts.shape)
        right += counts[row, column]
        counts[row], counts[:, column] = -1, -1
    return int(right)


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


# ------------------------------------------------------------------------------------ layers


def _group(kind):
    if "Conv" in kind:
        return "convolution"
    if "Pool" in kind or "UpSampling" in kind:
        return "pooling"
    if kind in JOINS:
        return "joins branches"
    return "dense" if "Dense" in kind else None


def draw_layers(model):
    """A figure: for each convolution, pooling, joining and dense layer, in the order in which they
    run, the longer side of its map (upwards) and its channels (downwards).
    """
    blocks = []
    for facts in layer_table(model):
        group = _group(facts.kind)
        if facts.kind not in NESTED and facts.shape and group:
            height, width = facts.shape[:2] if facts.field and len(facts.shape) == 3 else (1, 1)
            blocks.append((facts.name, group, (height, width), facts.shape[-1]))
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


def _has_map(facts):
    return facts.field and len(facts.shape) == 3 and facts.shape[:2] != (1, 1)


def unit_ends(model):
    """Names of the layers with a map at which a convolution, with the normalisation and activation
    right behind it, ends.
    """
    ends, open_shape = [], None
    for facts in layer_table(model):
        follows = "Normalization" in facts.kind or facts.kind.lower() in ACTIVATIONS
        if "Conv" in facts.kind and _has_map(facts):
            ends.append(facts.name)
            open_shape = facts.shape
        elif follows and facts.shape == open_shape:
            ends[-1] = facts.name
        else:
            open_shape = None
    convolution_layers(model)  # raises ValueError if there is none
    return list(dict.fromkeys(ends))


def constants(model, images, batch=4):
    """For each layer that ends a convolution (`unit_ends`), activates or joins, and has a map, over
    all images: {layer: (its channels that have one and the same value everywhere, all its channels,
    its values that are NaN or infinite)}.
    """
    ends = unit_ends(model)
    watched = [
        facts.name
        for facts in layer_table(model)
        if facts.name in ends
        or ((facts.kind in JOINS or facts.kind.lower() in ACTIVATIONS) and _has_map(facts))
    ]
    seen = {}
    for start in range(0, len(images), batch):
        for name, maps in activations(model, images[start : start + batch], watched).items():
            low, high, wrong = maps.min((0, 1, 2)), maps.max((0, 1, 2)), np.sum(~np.isfinite(maps))
            if name in seen:
                was = seen[name]
                low, high, wrong = np.minimum(low, was[0]), np.maximum(high, was[1]), wrong + was[2]
            seen[name] = low, high, wrong
    return {n: (int(np.sum(lo == hi)), len(lo), int(w)) for n, (lo, hi, w) in seen.items()}


# ------------------------------------------------- stand-ins, until visualize has them itself

import inspect  # noqa: E402
from pathlib import Path  # noqa: E402

import visualize  # noqa: E402

if not hasattr(visualize, "load_labelled_photos"):

    def _load_labelled(folder, size, limit=None, channels=3):
        folders = sorted(f for f in Path(folder).iterdir() if f.is_dir())
        photos, names, labels = [], [], []
        for label, inside in enumerate(folders):
            files = sorted(f for f in inside.iterdir() if f.suffix.lower() in (".jpg", ".png"))
            some, called = visualize.load_photos(files[:limit], size, channels)
            photos.append(some)
            names += called
            labels += [label] * len(some)
        return np.concatenate(photos), names, np.array(labels), [f.name for f in folders]

    visualize.load_labelled_photos = _load_labelled

if "channels" not in inspect.signature(visualize.load_photos).parameters:
    _load_photos = visualize.load_photos

    def _load(source, size, channels=3):
        photos, names = _load_photos(source, size)
        if channels == 4:
            photos = np.concatenate([photos, np.full_like(photos[..., :1], 255)], -1)
        return (photos.mean(-1, keepdims=True) if channels == 1 else photos), names

    visualize.load_photos = _load
