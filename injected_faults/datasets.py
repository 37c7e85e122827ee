"""Images and labels for the small models: cats and dogs, drawn shapes, handwritten digits."""

import functools
import os
from pathlib import Path

import cv2
import numpy as np

import debugcnn
from examples import shapes

SIDE = 64  # pixels
CLASSES = ("cats", "dogs")

Labelled = tuple[np.ndarray, np.ndarray]  # images (n, height, width, channels) and labels (n,)


@functools.lru_cache(4)
def cats_and_dogs(
    data: str | os.PathLike[str], split: str, per_class: int, skip: int = 0, side: int = SIDE
) -> Labelled:
    """Images (n, side, side, 3) uint8 RGB of one split, and labels (n,): 0 for cats, 1 for dogs.

    `data` is a folder that data_separator.py wrote, `split` one of its folders. From each class
    come `per_class` images after the first `skip`, by file name. The images are resized without
    regard to their shape, with area averaging.
    """
    files, labels = [], []
    for label, name in enumerate(CLASSES):
        chosen = debugcnn.image_files(Path(data, split, name))[skip : skip + per_class]
        files += chosen
        labels += [label] * len(chosen)
    images = np.empty((len(files), side, side, 3), np.uint8)
    for image, file in zip(images, files):
        full_size = cv2.imread(str(file))[..., ::-1]
        image[:] = cv2.resize(full_size, (side, side), interpolation=cv2.INTER_AREA)
    return images, np.array(labels)


def drawn_shapes(split: str, count: int, skip: int = 0) -> Labelled:
    """Images (count, 48, 64, 3) uint8 of shapes, drawn as in examples/shapes.py, and labels.

    `split` is one of `shapes.SPLITS`; the first `skip` images of it are left out.
    """
    generator = np.random.default_rng([shapes.SEED, list(shapes.SPLITS).index(split)])
    images, labels = shapes.draw_many(skip + count, generator)
    return images[skip:], labels[skip:]


def handwritten_digits(count: int, skip: int = 0) -> Labelled:
    """Digits (count, 32, 32, 1) uint8, white on black, and labels 0 to 9.

    They are the digits that come with scikit-learn (Alpaydin and Kaynak 1998) in a fixed random
    order, without the first `skip`, enlarged from 8 x 8 pixels.
    """
    from sklearn.datasets import load_digits  # only this healthy model needs scikit-learn

    digits = load_digits()
    chosen = np.random.default_rng(0).permutation(len(digits.images))[skip : skip + count]
    small = np.float32(digits.images[chosen]) * 255 / 16
    large = [cv2.resize(image, (32, 32), interpolation=cv2.INTER_CUBIC) for image in small]
    return np.uint8(np.clip(np.stack(large), 0, 255))[..., None], digits.target[chosen]
