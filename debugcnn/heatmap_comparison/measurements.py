"""What is measured of each heatmap method, product and trivial heatmap."""

import functools
import hashlib
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from ..files.images import load_images
from ..hardware import hardware
from ..views.baselines import baseline_fill, blurred
from ..views.heatmap_catalogue import (
    HEATMAP_METHODS,
    TRIVIAL_HEATMAPS,
    heatmaps_by_name,
    usable_methods,
)
from ..views.heatmap_metrics import (
    cascading_randomization,
    deletion_curve,
    energy_pointing,
    layers_with_weights,
    pointing_game,
    top_fraction_inside,
)
from ..views.methods import ValueRange
from ..views.predictions import logits as logits_of
from .images import ComparedImages, load_compared_images
from .masks import mask_of
from .report import bootstrap, summary

FRACTIONS = (0.1, 0.3)  # of the pixels that are removed or inserted
PAIRS = 100  # images made of two
# Of the randomization: random orders, images for each of them, and layers on the way down.
ORDERS, IMAGES_PER_ORDER, DEPTHS = 10, 2, 6

Scores = dict[str, dict[str, np.ndarray]]  # of each heatmap name: of each score, (n,)
Progress = Callable[[str], None]


class Pairs(NamedTuple):
    """Images whose halves are the middles of two images."""

    images: np.ndarray  # (k, height, width, channels)
    target: np.ndarray  # (k,) the class of one half
    own_half: np.ndarray  # (k, height, width) bool


def compare(
    model: keras.Model,
    folder: str | Path,
    per_class: int,
    value_range: ValueRange,
    *,
    work: Path,
    masks: Path | None = None,
    class_names: Sequence[str] | None = None,
    progress: Progress = print,
) -> dict[str, Any]:
    """The results of the command, as they are written to a file."""
    load = functools.partial(
        load_compared_images,
        model,
        folder,
        value_range=value_range,
        work=work,
        class_names=class_names,
    )
    case = load(per_class=per_class)
    accuracy = float(np.mean(case.target == case.labels))
    progress(f"{len(case.images)} images, {accuracy:.1%} classified correctly")
    if case.unreadable:
        progress(f"{case.unreadable} files cannot be read and are left out")
    names, reasons = usable_methods(model, case.images, case.target, value_range)
    for name, reason in reasons.items():
        progress(f"{name} is left out. {reason}")
    names += TRIVIAL_HEATMAPS
    on_subject = {}
    if masks:
        with_masks = load(per_class=None, masks=masks)
        on_subject = subject_scores(with_masks, names, masks, progress)
    halves = pair_scores(case, names, progress)
    layers = randomization_agreement(case, names, progress)
    removed, curves = deletion_scores(case, names, progress)
    scores = {n: on_subject.get(n, {}) | halves.get(n, {}) | removed[n] for n in names}
    return {
        "images": len(case.images),
        "folder": Path(folder).name,
        "accuracy": accuracy,
        "hardware": hardware(),
        "fractions": FRACTIONS,
        "scores": summary(scores),
        "curves": {name: curve.astype(float).round(3).tolist() for name, curve in curves.items()},
        "layers": {
            name: {layer: bootstrap(values) for layer, values in of_name.items()}
            for name, of_name in layers.items()
        },
        "cost": {name: round(multiple, 1) for name, multiple in cost(case, names).items()},
    }


def removal_logits(case: ComparedImages, name: str, chunk: slice) -> np.ndarray:
    """(k, 5, len(FRACTIONS)) logits: while the pixels with the highest values are removed to grey,
    inserted into grey, removed to blur, inserted into blur, and while those are removed to grey
    that the method chose for another image of the chunk (NaN if there is no other).
    """
    images, target = case.images[chunk], case.target[chunk]
    own = case.heatmaps(name, chunk)
    others = np.roll(own, 2 if len(own) > 2 else 1, axis=0)  # of the same class, if there are two
    blur = blurred(images)
    curves = [
        deletion_curve(
            case.model,
            images,
            heatmaps,
            FRACTIONS,
            target,
            baseline=baseline,
            value_range=case.value_range,
            insertion=insertion,
        )
        for heatmaps, baseline, insertion in (
            (own, None, False),
            (own, None, True),
            (own, blur, False),
            (own, blur, True),
            (others, None, False),
        )
    ]
    if len(own) == 1:
        curves[-1] *= np.nan
    return np.stack(curves, 1)


def deletion_scores(
    case: ComparedImages, names: Sequence[str], progress: Progress
) -> tuple[Scores, dict[str, np.ndarray]]:
    """{name: {score: (n,)}}, in logits, the higher the better, and {name: the mean of its
    `removal_logits`}.
    """
    every = np.arange(len(case.target))
    grey = np.broadcast_to(baseline_fill(case.images, None, case.value_range), case.images.shape)
    empty = np.stack(
        [logits_of(case.model, fill)[every, case.target] for fill in (grey, blurred(case.images))],
        axis=1,
    )
    whole = case.logits[every, case.target]
    scores, means = {}, {}
    for name in names:
        kept_as, curves = f"curves {FRACTIONS} {name}", []
        for chunk in case.chunks():
            make = functools.partial(removal_logits, case, name, chunk)
            curves.append(case.kept(kept_as, chunk, make))
            progress(f"{name}: pixels of {chunk.stop} images removed and inserted")
        curves = np.concatenate(curves)
        lost = whole[:, None] - curves[:, [0, 2, 4]].mean(2)
        gained = curves[:, [1, 3]].mean(2) - empty
        scores[name] = {
            "deletion to grey": lost[:, 0],
            "deletion to blur": lost[:, 1],
            "insertion into grey": gained[:, 0],
            "insertion into blur": gained[:, 1],
            "deletion less that of another's holes": lost[:, 0] - lost[:, 2],
        }
        means[name] = np.nanmean(curves, 0)
    return scores, means


def side_by_side(case: ComparedImages) -> Pairs | None:
    """Images made of two, one of each of the first two classes; None without correct predictions
    for two classes.

    Only correctly classified images are used, and the class of the left and of the right half is
    explained in turn.
    """
    correct = np.flatnonzero(case.target == case.labels)
    by_class = [[i for i in correct if case.labels[i] == label] for label in np.unique(case.labels)]
    by_class = [indices for indices in by_class if indices]
    if len(by_class) < 2:
        return None
    height, width = case.images.shape[1:3]
    quarter, images, target, own_halves = width // 4, [], [], []
    for pair in range(min(PAIRS, *map(len, by_class[:2]))):
        indices = [by_class[k][pair] for k in ((0, 1) if pair % 4 < 2 else (1, 0))]
        left, right = (case.images[i][:, quarter : quarter + width // 2] for i in indices)
        images.append(np.concatenate([left, right, right[:, : width % 2]], axis=1))
        explained = pair % 2
        target.append(case.target[indices[explained]])
        own_half = np.zeros((height, width), bool)
        own_half[:, slice(width // 2, None) if explained else slice(width // 2)] = True
        own_halves.append(own_half)
    return Pairs(np.stack(images), np.array(target), np.stack(own_halves))


def pair_scores(case: ComparedImages, names: Sequence[str], progress: Progress) -> Scores:
    """{name: {"share in its own half", "peak in its own half": (k,)}}, or {} without pairs."""
    pairs = side_by_side(case)
    if pairs is None:
        return {}
    scores = {}
    for name in names:
        heatmaps = case.heatmaps_of(name, pairs.images, pairs.target, "pairs")
        scores[name] = {
            "share in its own half": energy_pointing(heatmaps, pairs.own_half),
            "peak in its own half": pointing_game(heatmaps, pairs.own_half),
        }
        progress(f"{name}: images of two halves")
    return scores


def subject_scores(
    case: ComparedImages, names: Sequence[str], folder: Path, progress: Progress
) -> Scores:
    """{name: {"share on the subject", "peak on the subject", "hottest tenth on the subject": (n,)}}
    of images that have a mask in `folder`.
    """
    files = [mask_of(file, folder) for file in case.files]
    masks = load_images(files, case.images.shape[1:3], 1)[0][..., 0] > 127
    scores = {}
    for name in names:
        heatmaps = np.concatenate([case.heatmaps(name, chunk) for chunk in case.chunks()])
        scores[name] = {
            "share on the subject": energy_pointing(heatmaps, masks),
            "peak on the subject": pointing_game(heatmaps, masks),
            "hottest tenth on the subject": top_fraction_inside(heatmaps, masks),
        }
        progress(f"{name}: {len(heatmaps)} images with a mask")
    return scores


def randomization_agreement(
    case: ComparedImages, names: Sequence[str], progress: Progress
) -> Scores:
    """{name: {layer: (orders, IMAGES_PER_ORDER)}}: `cascading_randomization` down to some layers.

    Each random order is applied to other images; there are ORDERS of them, or one for every fifty
    images, but at least two.
    """
    layers = _randomized_layers(case.model)

    def explain(model, images, target):
        """The heatmaps of all names, one name after the other."""

        @functools.cache
        def by_method(method):
            return HEATMAP_METHODS[method](model, images, target, value_range=case.value_range)

        return np.concatenate([heatmaps_by_name(name, by_method, images) for name in names])

    def agreement(order, indices):
        by_layer = cascading_randomization(
            case.model,
            explain,
            case.images[indices],
            case.target[indices],
            layers=layers,
            seed=order,
        )
        return np.stack([by_layer[layer].reshape(len(names), -1) for layer in layers])

    values = []
    kept_as = "cascade " + hashlib.sha256(f"{DEPTHS} {names}".encode()).hexdigest()[:8]
    for order in range(min(ORDERS, max(2, len(case.images) // 50))):
        chunk = slice(order * IMAGES_PER_ORDER, (order + 1) * IMAGES_PER_ORDER)
        indices = np.arange(chunk.start, chunk.stop) % len(case.images)
        values.append(case.kept(kept_as, chunk, functools.partial(agreement, order, indices)))
        progress(f"layers in {order + 1} random orders")
    values = np.stack(values, 2)  # (layers, names, orders, IMAGES_PER_ORDER)
    return {name: dict(zip(layers, values[:, i])) for i, name in enumerate(names)}


def _randomized_layers(model):
    """Names of DEPTHS layers with a kernel, evenly spaced, from the last to the first."""
    with_kernel = [
        layer.name
        for layer in layers_with_weights(model)
        if any(weights.ndim > 1 for weights in layer.get_weights())
    ][::-1]
    count = min(DEPTHS, len(with_kernel))
    spaced = np.linspace(0, len(with_kernel) - 1, count).round().astype(int)
    return [with_kernel[i] for i in spaced]


def cost(case: ComparedImages, names: Sequence[str]) -> dict[str, float]:
    """{method: seconds for an image, as a multiple of those of a forward pass}, here and now."""

    def seconds(work):
        work()  # compiles
        return min(timeit.repeat(work, number=1, repeat=2))

    batch, images, target = case.images[:32], case.images[:4], case.target[:4]
    forward = seconds(lambda: logits_of(case.model, batch)) / len(batch)

    def multiple(name):
        explain = functools.partial(
            HEATMAP_METHODS[name], case.model, images, target, value_range=case.value_range
        )
        return seconds(explain) / len(images) / forward

    return {name: multiple(name) for name in names if name in HEATMAP_METHODS}
