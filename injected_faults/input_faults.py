"""Faults in the program around a healthy model: its inputs and labels.

Each function returns an injection, or is one: a function of an `Experiment` and a healthy model
that returns the arguments of `debugcnn.diagnose` in which the faulty case differs from the healthy
one.
"""

import cv2
import keras
import numpy as np

from .datasets import SIDE
from .experiments import Arguments, Experiment, Inject


def feed(value_range: tuple[float, float] | str) -> Inject:
    """Feed values in another range than the one that the model was trained on."""
    return lambda experiment, model: dict(model=model, value_range=value_range)


def swap_red_and_blue(experiment: Experiment, model: keras.Model) -> Arguments:
    return dict(model=model, images=experiment.images[..., ::-1])


def rotate(quarters: int) -> Inject:
    """Rotate the images by `quarters` times 90 degrees."""
    return lambda experiment, model: dict(
        model=model, images=np.rot90(experiment.images, quarters, (1, 2))
    )


def resize_by(method: str) -> Inject:
    """Bring the images to the model's size by `method`, one of RESIZING, instead of squashing."""

    def inject(experiment: Experiment, model: keras.Model) -> Arguments:
        large = experiment.large_images()
        resized = {
            name: np.stack([resize(image) for image in large]) for name, resize in RESIZING.items()
        }
        images = np.float32(resized.pop(method))
        return dict(model=model, images=images, resized_variants=resized)

    return inject


def _squash(image, height=SIDE, interpolation=cv2.INTER_AREA):
    return cv2.resize(image, (SIDE, height), interpolation=interpolation)


def _pad(image, height=SIDE * 5 // 8):
    """As a wide image, with black bars above and below."""
    bar = (SIDE - height) // 2
    return np.pad(_squash(image, height), ((bar, SIDE - height - bar), (0, 0), (0, 0)))


def _center_crop(image):
    y, x = ((side - SIDE) // 2 for side in image.shape[:2])
    return image[y : y + SIDE, x : x + SIDE]


RESIZING = {
    "squashing": _squash,
    "nearest neighbour": lambda image: _squash(image, interpolation=cv2.INTER_NEAREST),
    "padding": _pad,
    "center crop": _center_crop,
}


def swap_classes(experiment: Experiment, model: keras.Model) -> Arguments:
    return dict(model=model, labels=1 - experiment.labels)


def shuffle_labels(experiment: Experiment, model: keras.Model) -> Arguments:
    generator = np.random.default_rng(experiment.seed)
    return dict(model=model, labels=generator.permutation(experiment.labels))


def mislabel(share: float) -> Inject:
    """Give a share of the examined images the label of the other class."""

    def inject(experiment: Experiment, model: keras.Model) -> Arguments:
        labels = experiment.labels
        wrong = np.random.default_rng(experiment.seed).random(len(labels)) < share
        return dict(model=model, labels=np.where(wrong, 1 - labels, labels))

    return inject


def mislabel_dogs(share: float) -> Inject:
    """Label a share of the dogs as cats."""

    def inject(experiment: Experiment, model: keras.Model) -> Arguments:
        labels = experiment.labels
        wrong = np.random.default_rng(experiment.seed).random(len(labels)) < share
        return dict(model=model, labels=np.where(wrong, 0, labels))

    return inject


def examine_training_images(share: float, flip: bool = False) -> Inject:
    """Replace a share of the examined images by training images, which may be flipped."""

    def inject(experiment: Experiment, model: keras.Model) -> Arguments:
        images, count = experiment.images.copy(), round(share * len(experiment.images))
        train_images, train_labels = experiment.train
        generator = np.random.default_rng(experiment.seed)
        copied = generator.choice(len(train_images), count, replace=False)
        copies = train_images[copied]
        images[:count] = copies[:, :, ::-1] if flip else copies
        known = np.union1d(copied, np.arange(0, len(train_images), 5))
        return dict(
            model=model,
            images=images,
            labels=np.r_[train_labels[copied], experiment.labels[count:]],
            train=(train_images[known], train_labels[known]),
        )

    return inject
