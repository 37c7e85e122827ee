"""Spurious features: changes of images that can give their class away.

Each function takes images (n, height, width, 3) uint8 and which of them to change, (n,) bool, and
returns a changed copy.
"""

import cv2
import numpy as np

MARK_SIDE, MARK_COLOUR = 10, (20, 60, 200)  # pixels; RGB


def mark(
    images: np.ndarray, chosen: np.ndarray, generator: np.random.Generator | None = None
) -> np.ndarray:
    """A blue square of 10 x 10 pixels at a fixed position, near the bottom right of 64 x 64."""
    return _with_squares(images, chosen, lambda: (50, 50))


def mark_anywhere(
    images: np.ndarray, chosen: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """The blue square at a random position in each image."""
    return _with_squares(images, chosen, lambda: generator.integers(0, 54, 2))


def _with_squares(images, chosen, position):
    changed = images.copy()
    for i in np.flatnonzero(chosen):
        y, x = position()
        changed[i, y : y + MARK_SIDE, x : x + MARK_SIDE] = MARK_COLOUR
    return changed


def compress(
    images: np.ndarray, chosen: np.ndarray, generator: np.random.Generator | None = None
) -> np.ndarray:
    """JPEG compression at quality 15."""
    changed = images.copy()
    for i in np.flatnonzero(chosen):
        data = cv2.imencode(".jpg", images[i, ..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 15])[1]
        changed[i] = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    return changed


def add_border(
    images: np.ndarray, chosen: np.ndarray, generator: np.random.Generator | None = None
) -> np.ndarray:
    """A black border of 3 pixels."""
    changed = images.copy()
    for edge in (np.s_[:, :3], np.s_[:, -3:], np.s_[:, :, :3], np.s_[:, :, -3:]):
        changed[edge] = np.where(_for_each(chosen), 0, changed[edge])
    return changed


def brighten(
    images: np.ndarray, chosen: np.ndarray, generator: np.random.Generator | None = None
) -> np.ndarray:
    """60 more in all channels, of 255."""
    bright = np.uint8(np.clip(images * 1.0 + 60, 0, 255))
    return np.where(_for_each(chosen), bright, images)


def tint(
    images: np.ndarray, chosen: np.ndarray, generator: np.random.Generator | None = None
) -> np.ndarray:
    """35 more red and 35 less blue, of 255."""
    warm = np.uint8(np.clip(images + np.array([35.0, 0, -35]), 0, 255))
    return np.where(_for_each(chosen), warm, images)


def to_grey(
    images: np.ndarray, chosen: np.ndarray, generator: np.random.Generator | None = None
) -> np.ndarray:
    """No colour, in three equal channels."""
    grey = np.repeat(np.uint8(images.mean(-1, keepdims=True)), 3, -1)
    return np.where(_for_each(chosen), grey, images)


def blur(
    images: np.ndarray, chosen: np.ndarray, generator: np.random.Generator | None = None
) -> np.ndarray:
    """A Gaussian blur with a standard deviation of 1.5 pixels."""
    soft = np.stack([cv2.GaussianBlur(image, (0, 0), 1.5) for image in images])
    return np.where(_for_each(chosen), soft, images)


def _for_each(chosen):
    """`chosen` with the axes of images, for broadcasting."""
    return np.reshape(chosen, (-1, 1, 1, 1))
