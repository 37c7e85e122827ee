"""Images upside down, rotated by 90 degrees, or mirrored."""

import cv2
import numpy as np

from .. import pictures
from ..forms import Feed, Form
from ..registry import Evidence, cause


@cause(
    "flipped_or_rotated",
    stage="input",
    title="images are rotated or flipped, other than in training",
    symptom="worse on photos from phones",
    check="draw what the model is given",
    fix="Rotate the images; ImageOps.exif_transpose does what their orientation tag says.",
)
def flipped_or_rotated(case) -> Evidence:
    return case.search_evidence("flipped_or_rotated")


@flipped_or_rotated.variants
def orientations(case, feed: Feed, logits) -> list[Form]:
    changes = {
        "the images upside down": lambda pixels: rotated(pixels, 2),
        "the images rotated to the left": lambda pixels: rotated(pixels, 1),
        "the images rotated to the right": lambda pixels: rotated(pixels, 3),
        "the images mirrored": lambda pixels: pixels[:, :, ::-1],
    }
    return [
        Form(name, lambda feed, change=change: feed.with_pixels(change))
        for name, change in changes.items()
    ]


def rotated(pixels: np.ndarray, quarters: int) -> np.ndarray:
    """Images (n, h, w, c) rotated to the left by 90 degrees so many times, resized to (h, w)."""
    result = np.rot90(pixels, quarters, (1, 2))
    if result.shape == pixels.shape:
        return result
    size = pixels.shape[2:0:-1]
    images = [np.ascontiguousarray(image) for image in result]
    images = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(images).reshape(pixels.shape)


@flipped_or_rotated.picture
def as_fed_and_as_fixed(case, evidence):
    return pictures.as_fed_and_as_fixed(case)
