"""Images resized in another way than in training."""

from dataclasses import replace

import cv2
import numpy as np

from .. import distribution_shift, pictures
from ..forms import Feed, Form
from ..registry import Evidence, cause

# Origin of these: set by hand on crops and letterboxes of the development half.
SHRINK = 0.75, 0.6  # of the sides
STRETCH = 4 / 3
BARRED = 0.3  # of the images have bars at their edges
BAR = 12  # of 255: rows that differ by less have one colour
# Seeing better what is larger is no matter of proportions, so each has to beat the other.
WIDER, TALLER = "the images stretched in width", "the images stretched in height"


@cause(
    "resize",
    stage="input",
    title="images are not resized as in training",
    symptom="somewhat worse than reported",
    check="draw what the model is given",
    fix="Resize images with the same function and filter as in training.",
)
def resize(case) -> Evidence:
    return case.search_evidence("resize")


@resize.measurement(limit=distribution_shift.LIMIT)
def unlike_training(case) -> Evidence:
    """Whether the images are sharper, noisier or less sharp than those trained on."""
    return distribution_shift.evidence(case, "resize")


@resize.variants
def ways_to_resize(case, feed: Feed, logits) -> list[Form]:
    forms = [_variant(name) for name in feed.resized_variants]
    inside = [_without_bars(image) for image in feed.pixels]
    if np.mean([part.shape != feed.pixels[0].shape for part in inside]) > BARRED:
        forms.append(_changed("the bars at their edges cut off", _cut_bars))
    for share in SHRINK:
        name = f"the images shrunk to {share:.0%} and mirrored beyond"
        forms.append(_changed(name, lambda pixels, share=share: scaled(pixels, share, share)))
    forms.append(_changed(WIDER, lambda pixels: scaled(pixels, 1, STRETCH), TALLER))
    forms.append(_changed(TALLER, lambda pixels: scaled(pixels, STRETCH, 1), WIDER))
    return forms


def _variant(name):
    def apply(feed):
        return replace(feed, pixels=feed.resized_variants[name], resized_variants={})

    return Form(f"the images resized by {name}", apply, needs_variants=True)


def _changed(name, change, rival=None):
    def apply(feed):
        return replace(feed, pixels=change(feed.pixels), resized_variants={})

    return Form(name, apply, rival=rival)


def scaled(pixels: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """Images whose sides are multiplied by `rows` and `columns`, at their former size: mirrored
    beyond their edges, or cut to their middle.
    """
    size = pixels.shape[1:3]
    height, width = round(size[0] * rows), round(size[1] * columns)
    interpolation = cv2.INTER_AREA if rows * columns < 1 else cv2.INTER_LINEAR

    def scale(image):
        whole = cv2.resize(image, (width, height), interpolation=interpolation)
        y, x = (max(0, side - fits) // 2 for side, fits in zip((height, width), size))
        part = whole[y : y + size[0], x : x + size[1]]
        y, x = (fits - side for side, fits in zip(part.shape, size))
        edges = y // 2, y - y // 2, x // 2, x - x // 2
        return cv2.copyMakeBorder(part, *edges, cv2.BORDER_REFLECT_101)

    return np.stack([scale(np.ascontiguousarray(image)) for image in pixels]).reshape(pixels.shape)


def _cut_bars(pixels):
    size = pixels.shape[2], pixels.shape[1]
    parts = [np.ascontiguousarray(_without_bars(image)) for image in pixels]
    parts = [cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in parts]
    return np.stack(parts).reshape(pixels.shape)


def _without_bars(image):
    """What lies inside the rows and columns at each edge that have the colour of the edge."""
    inside = []
    for rows in (image, image.swapaxes(0, 1)):
        first, last = (
            np.argmin([*(np.abs(lines - lines[0].mean(0)).max((1, 2)) < BAR), False])
            for lines in (rows, rows[::-1])
        )
        inside.append(slice(first, len(rows) - last))
    part = image[tuple(inside)]
    return image if min(np.divide(part.shape, image.shape)[:2]) < 1 / 4 else part


@resize.picture
def as_fed_and_as_fixed(case, evidence):
    return distribution_shift.picture(case) or pictures.as_fed_and_as_fixed(case)
