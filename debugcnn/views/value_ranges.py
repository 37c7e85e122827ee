"""The values that a model takes for pixels, and conversion from and to 0 to 255."""

from typing import Any

import numpy as np

from .methods import ValueRange

# As Keras' preprocess_input for weights from Caffe (BGR, minus the means) and from PyTorch.
CAFFE_MEANS = np.array([103.939, 116.779, 123.68], np.float32)
TORCH_MEANS = np.array([0.485, 0.456, 0.406], np.float32)
TORCH_DEVIATIONS = np.array([0.229, 0.224, 0.225], np.float32)
VALUE_RANGES = ((0, 255), (0, 1), (-1, 1), "caffe", "torch")


def limits(value_range: ValueRange) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value of each channel (or of all), in the order of the model.

    Raises ValueError for what is no value range.
    """
    if isinstance(value_range, str):
        if value_range == "caffe":
            return -CAFFE_MEANS, 255 - CAFFE_MEANS
        if value_range == "torch":
            return -TORCH_MEANS / TORCH_DEVIATIONS, (1 - TORCH_MEANS) / TORCH_DEVIATIONS
    elif np.shape(value_range) == (2,) and np.all(np.diff(value_range) > 0):
        return tuple(np.asarray(value_range, np.float32))
    raise ValueError(
        f"value_range is the lowest and the highest value of a pixel, such as (0, 255), or 'caffe' "
        f"or 'torch', not {value_range!r}."
    )


def from_pixels(pixels: Any, value_range: ValueRange) -> np.ndarray:
    """Pixels (n, h, w, c), RGB from 0 to 255, as a model takes them: float32 within `value_range`.

    'caffe' is BGR minus the means of ImageNet, 'torch' RGB from 0 to 1, minus the means and divided
    by the standard deviations of ImageNet, as in keras.applications' preprocess_input. Raises
    ValueError for what is no value range.
    """
    low, high = limits(value_range)
    pixels = np.asarray(pixels, np.float32)
    pixels = pixels[..., ::-1] if value_range == "caffe" else pixels
    images = np.multiply(pixels, (high - low) / np.float32(255), order="C")
    images += low
    return images


def to_pixels(images: Any, value_range: ValueRange) -> np.ndarray:
    """The reverse of `from_pixels`: float32, RGB, 0 to 255."""
    low, high = limits(value_range)
    pixels = (np.asarray(images, np.float32) - low) / (high - low) * 255
    return pixels[..., ::-1] if value_range == "caffe" else pixels
