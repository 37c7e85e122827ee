"""Do the images differ from those trained on in a way that costs accuracy?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from . import pictures
from .forms import Feed
from .interventions import CUE_AUC, Loss, blurred, less_colourful, loss_of, two_sided_auc
from .registry import Evidence, Limit, NotExamined

MAX_TRAINING_IMAGES = 500
BLUR_SIZES = 0.8, 0.65, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15  # of the sides
NOISE_LEVELS = 3, 6, 10, 15, 22, 32, 45, 65  # standard deviations, of 255
LIMIT = Limit(
    0.05,
    "accuracy that training images lose when they are made alike",
    "set by hand on darkened, tinted, blurred and noisy images of the development half",
)
FIX = "Read these images as in training, if the program changed them, or train on such images, too."
# Property: the cause that it belongs to, and what the images are beside those trained on.
PROPERTIES = {
    "light": ("input_scale", "lighter or darker than"),
    "contrast": ("input_scale", "of another contrast than"),
    "tint": ("channel_order", "of another tint than"),
    "colour": ("channel_order", "less colourful than"),
    "sharpness": ("resize", "sharper, noisier or less sharp than"),
}


class Shift(NamedTuple):
    """A property in which images differ from those trained on, and what that costs."""

    name: str  # in PROPERTIES
    auc: float  # with which the property alone tells the two sets apart
    imitate: Callable[[np.ndarray], np.ndarray]  # makes training images like these
    loss: Loss  # of accuracy on the training images, when they are made so


def explanation(case, feed: Feed, logits: np.ndarray) -> Shift | None:
    """The Shift that explains the missing accuracy, or None if none does."""
    shifts = shifts_of(case, feed)
    accuracy = np.mean(logits.argmax(1) == case.labels)
    if not shifts or shifts[0].loss.low <= LIMIT.value:
        return None
    return shifts[0] if accuracy <= shifts[0].loss.accuracy - LIMIT.value else None


def evidence(case, cause: str) -> Evidence:
    """What the search found of a shift that belongs to a cause."""
    if case.train is None:
        raise NotExamined("No training images were given.")
    shift = case.search.shift
    if shift is None or PROPERTIES[shift.name][0] != cause:
        return Evidence(0.0, "The images look like those trained on.")
    message = (
        f"These images are {PROPERTIES[shift.name][1]} those trained on (AUC {shift.auc:.2f}). "
        f"Accuracy on training images drops from {shift.loss.accuracy:.1%} to "
        f"{shift.loss.left:.1%} when they are made alike."
    )
    return Evidence(shift.loss.low, message, fix=FIX, details=shift)


def shifts_of(case, feed: Feed) -> list[Shift]:
    """How the images differ from those trained on, what costs most first.

    As many training images of each class are taken as are among the images. What does not show on
    most images is left out, and so is more colour, which cannot be added to training images.
    """
    chosen = _stratified(case.train[1], case.labels)
    trained, labels = np.float32(case.train[0][chosen]), case.train[1][chosen]
    if not len(trained):
        return []

    def predicted(pixels):
        return Feed(pixels, feed.value_range).logits(case.model, case.output).argmax(1)

    ours, theirs = properties(feed.pixels), properties(trained)
    correct, shifts = predicted(trained) == labels, []
    for name, imitate in _imitations(feed.pixels, trained).items():
        both = np.concatenate([ours[name], theirs[name]])
        area = two_sided_auc(both, np.arange(len(both)) < len(feed.pixels))
        if area > CUE_AUC:
            loss = loss_of(name, correct, predicted(imitate(trained)) == labels, labels)
            shifts.append(Shift(name, float(area), imitate, loss))
    return sorted(shifts, key=lambda shift: -shift.loss.low)


def _stratified(trained: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices of `trained` labels (m,): of each class the first ones, with its share among the
    `labels` (n,), MAX_TRAINING_IMAGES at most; classes that one side lacks do not count.
    """
    classes = np.intersect1d(trained, labels)
    shares = np.array([np.mean(labels == k) for k in classes])
    counts = np.array([np.sum(trained == k) for k in classes])
    total = min([MAX_TRAINING_IMAGES / max(shares.sum(), 1e-9), *(counts / shares)])
    parts = [np.flatnonzero(trained == k)[: int(s * total)] for k, s in zip(classes, shares)]
    return np.sort(np.concatenate([*parts, np.zeros(0, int)]))


def properties(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """{name in PROPERTIES: (n,)}: the mean pixel, the standard deviation, red less blue, the mean
    range of colours in a pixel, and the mean step between neighbours over the standard deviation.
    """
    colours = pixels[..., :3] if pixels.shape[3] >= 3 else pixels[..., :1]
    grey = colours.mean(-1)
    spread = grey.std((1, 2))
    steps = np.abs(np.diff(grey, axis=2)).mean((1, 2))
    values = (
        *(grey.mean((1, 2)), spread, (colours[..., 0] - colours[..., -1]).mean((1, 2))),
        *(np.ptp(colours, -1).mean((1, 2)), steps / np.maximum(spread, 1)),
    )
    return dict(zip(PROPERTIES, values))


def _imitations(pixels, trained):
    """{property: a function that gives training images that of the others}."""
    ours, theirs = ({k: np.median(v) for k, v in properties(p).items()} for p in (pixels, trained))
    gain = ours["contrast"] / max(theirs["contrast"], 1)

    def with_light_and_contrast(p):
        return np.clip((p - theirs["light"]) * gain + ours["light"], 0, 255)

    changes = dict.fromkeys(("light", "contrast"), with_light_and_contrast)
    if pixels.shape[3] >= 3:
        shift = np.subtract(*(np.median(p.mean((1, 2)), 0)[:3] for p in (pixels, trained)))
        shift = np.r_[shift - shift.mean(), np.zeros(pixels.shape[3] - 3)]
        changes["tint"] = lambda p: np.clip(p + shift, 0, 255)
        if ours["colour"] < theirs["colour"]:
            share = ours["colour"] / max(theirs["colour"], 1)
            changes["colour"] = lambda p: less_colourful(p, share)
    ways = _blurs(pixels.shape) if ours["sharpness"] < theirs["sharpness"] else _noises()
    sharpness = [np.median(properties(way(trained[:64]))["sharpness"]) for way in ways]
    changes["sharpness"] = ways[int(np.argmin(np.abs(np.subtract(sharpness, ours["sharpness"]))))]
    return changes


def _blurs(shape):
    sizes = [tuple(max(2, round(share * side)) for side in shape[1:3]) for share in BLUR_SIZES]
    return [lambda p, size=size: np.stack([blurred(image, size) for image in p]) for size in sizes]


def _noises():
    def with_noise(pixels, level):
        noise = np.random.default_rng(0).normal(0, level, pixels.shape)
        return np.float32(np.clip(pixels + noise, 0, 255))

    return [lambda p, level=level: with_noise(p, level) for level in NOISE_LEVELS]


def picture(case):
    """Training images, made like the examined ones, as (figure, caption); None without a shift."""
    shift = case.search.shift
    if shift is None:
        return None
    trained = np.float32(case.train[0][: pictures.SHOWN // 2])
    examined = case.given.pixels[: pictures.SHOWN // 2]
    titles = ["examined"] * len(examined) + ["trained on"] * len(trained)
    tiles = np.concatenate([examined, trained, shift.imitate(trained)])
    caption = (
        "Above, images as the model is given them; then images that it was trained on, and below "
        "the same training images made like the examined ones."
    )
    return pictures.image_grid(tiles, [*titles, *["made alike"] * len(trained)]), caption
