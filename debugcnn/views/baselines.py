"""What takes the place of removed pixels."""

import numpy as np
from scipy.ndimage import gaussian_filter

from .methods import Baseline, ValueRange
from .value_ranges import limits


def baseline_fill(images: np.ndarray, baseline: Baseline, value_range: ValueRange) -> np.ndarray:
    """The values of removed pixels, a float32 array that broadcasts to `images`.

    `images` are (n, height, width, channels). None is the middle of `value_range`, grey; any other
    `baseline` is a value, one for each channel, or images. Raises ValueError if it does not fit
    `images`.
    """
    if baseline is None:
        return np.float32(np.mean(limits(value_range), axis=0))
    baseline = np.asarray(baseline, np.float32)
    try:
        fits = np.broadcast_shapes(baseline.shape, images.shape) == images.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"baseline is a value or images of the shape {images.shape}, not {baseline.shape}."
        )
    return baseline


def blurred(images: np.ndarray, sigma: float | None = None) -> np.ndarray:
    """Images (n, height, width, channels) without details, float32: a baseline.

    A Gaussian blur with a standard deviation of `sigma` pixels; None is a sixteenth of the shorter
    side.
    """
    images = np.asarray(images, np.float32)
    sigma = min(images.shape[1:3]) / 16 if sigma is None else sigma
    return gaussian_filter(images, (0, sigma, sigma, 0), mode="reflect")
