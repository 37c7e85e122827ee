"""The healthy cases into which faults are injected: images, models and their training."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import debugcnn
from debugcnn.files.atomic import write_atomically

from . import datasets, models

HERE = Path(__file__).parent
WORK = HERE / "work"  # trained models and their training curves
PUBLISHED = {
    "upright": HERE.parent / "models" / "upright.keras",
    "shapes": HERE.parent / "examples" / "shapes.keras",
}
TRAIN_PER_CLASS, EXAMINED_PER_CLASS = 2500, 250

Build = Callable[[], keras.Model]
Arguments = dict[str, Any]  # of debugcnn.diagnose
Inject = Callable[["Experiment", Any], Arguments]  # for a healthy model, or a Build of one

BUILDS: dict[str, tuple[Build, int]] = {  # and how many epochs a healthy model is trained
    "normalised": (models.normalised, 8),
    "classic": (models.classic, 10),
    "residual": (models.residual, 10),
    "digits": (models.digit_classifier, 30),
}


class Experiment:
    """The images of an instance, and how its models are trained.

    `name` is that of the instance, `data` a folder that data_separator.py wrote, `model_name` a key
    of BUILDS or PUBLISHED. `seed` chooses the training images and the initial weights, `sample` the
    images to examine. `images` (n, height, width, channels) float32 have values from 0 to 255,
    which the healthy model takes in `value_range`; `train` are training images and labels.
    """

    def __init__(
        self, name: str, data: str | os.PathLike[str], seed: int, model_name: str, sample: int = 0
    ) -> None:
        self.name, self.data, self.seed, self.model_name = name, data, seed, model_name
        self.build, self.epochs = BUILDS.get(model_name, (None, None))
        self.per_class = EXAMINED_PER_CLASS // (2 if model_name == "upright" else 1)
        self.skip = sample * self.per_class
        self.train, (images, self.labels) = self._read()
        self.images = np.float32(images)
        self.value_range = (0, 255) if model_name == "upright" else (0, 1)

    def _read(self) -> tuple[datasets.Labelled, datasets.Labelled]:
        count, skip = self.per_class, self.skip
        if self.model_name == "shapes":
            return (
                datasets.drawn_shapes("training", 500),
                datasets.drawn_shapes("held out", 2 * count, 2 * skip),
            )
        if self.model_name == "digits":
            first = 1000 + 398 * (skip // count % 2)
            return datasets.handwritten_digits(1000), datasets.handwritten_digits(398, first)
        side, train_per_class = datasets.SIDE, TRAIN_PER_CLASS
        if self.model_name == "upright":
            side, train_per_class = 176, 50
        first = self.seed * TRAIN_PER_CLASS % 7500
        return (
            datasets.cats_and_dogs(self.data, "train", train_per_class, first, side),
            datasets.cats_and_dogs(self.data, "validation", count, skip, side),
        )

    def large_images(self) -> np.ndarray:
        """The examined images (n, 180, 180, 3) uint8, as they are in the files."""
        split = (self.data, "validation", self.per_class, self.skip, 180)
        return datasets.cats_and_dogs(*split)[0]

    def fit(
        self,
        build: Build,
        images: np.ndarray,
        labels: np.ndarray,
        epochs: int | None = None,
        *,
        validation: np.ndarray | None = None,
        name: str | None = None,
        **options: Any,
    ) -> keras.Model:
        """A trained model: from its file in WORK, or trained now with `options` of models.train.

        `validation` are examined images, if not those of the experiment; `name` is that of the
        file, if not that of the instance.
        """
        file = file_of(name or self.name)
        if not file.exists():
            keras.utils.set_random_seed(self.seed)
            model = build()
            validation = self.images if validation is None else np.float32(validation)
            held_out = debugcnn.from_pixels(validation, self.value_range), self.labels
            epochs = self.epochs if epochs is None else epochs
            options |= dict(scale=255 / self.value_range[1], seed=self.seed, validation=held_out)
            curve = models.train(model, images, labels, epochs, **options) if epochs else None
            WORK.mkdir(exist_ok=True)
            write_atomically(file.with_suffix(".json"), json.dumps(curve))
            model.save(file.with_suffix(".partial.keras"))
            os.replace(file.with_suffix(".partial.keras"), file)
        return debugcnn.load_model(file)

    def healthy_model(self) -> keras.Model:
        """The healthy model of this name and seed: published, trained before, or trained now."""
        if self.model_name in PUBLISHED:
            return debugcnn.load_model(PUBLISHED[self.model_name])
        name = f"healthy / {self.model_name} {self.seed}"
        return self.fit(self.build, *self.train, name=name)

    def arguments(self) -> Arguments:
        """Those of `debugcnn.diagnose` for the healthy case, but for the model."""
        return dict(images=self.images, labels=self.labels, value_range=self.value_range)


def file_of(name: str) -> Path:
    """The file of a model that was trained for the instance `name`."""
    return WORK / f"{name}.keras".replace(" / ", ", ").replace(" ", "_")


def healthy(experiment: Experiment, model: keras.Model) -> Arguments:
    """Inject nothing; a fifth of the training images are known."""
    return dict(model=model, train=tuple(part[::5] for part in experiment.train))
