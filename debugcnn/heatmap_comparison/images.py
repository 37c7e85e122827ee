"""The images of a comparison, and heatmaps of them that are computed once and kept in files."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from ..files.atomic import write_atomically
from ..files.images import labelled_files, load_images
from ..files.labels import class_numbers
from ..views.heatmap_catalogue import HEATMAP_METHODS, heatmaps_by_name
from ..views.methods import ValueRange
from ..views.predictions import classifier_head
from ..views.predictions import logits as logits_of
from ..views.tracing import image_shape, model_digest
from ..views.value_ranges import from_pixels
from .masks import which_have_mask

CHUNK = 25  # images whose heatmaps are computed and kept at once


@dataclass
class ComparedImages:
    """Images of a model, the classes in turn, and its heatmaps of them, each computed once."""

    model: keras.Model
    value_range: ValueRange
    names: list[str]  # folder/file, without the suffix
    images: np.ndarray  # (n, height, width, channels) float32, as the model takes them
    labels: np.ndarray  # (n,)
    logits: np.ndarray  # (n, classes)
    target: np.ndarray  # (n,) the predicted classes, which the heatmaps explain
    work: Path  # the folder of the heatmaps

    def chunks(self) -> list[slice]:
        """Which images are examined at once."""
        count = len(self.images)
        return [slice(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]

    def kept(self, name: str, chunk: slice, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array that `make` returned for a chunk, now or in an earlier run of the command."""
        file = self.work / f"{name} {chunk.start}-{chunk.stop}.npy"
        if not file.exists():
            buffer = io.BytesIO()
            np.save(buffer, make())
            write_atomically(file, buffer.getvalue())
        return np.load(file)

    def heatmaps(self, name: str, chunk: slice) -> np.ndarray:
        """(k, height, width) float32 of a chunk, by name; of a method, the highest magnitude is 1.

        They are kept in half precision.
        """

        def computed(method):
            images, target = self.images[chunk], self.target[chunk]
            heatmaps = HEATMAP_METHODS[method](
                self.model, images, target, value_range=self.value_range
            )
            peak = np.abs(heatmaps).max((1, 2), keepdims=True)
            zero = np.zeros_like(heatmaps)
            return np.divide(heatmaps, peak, out=zero, where=peak > 0).astype("f2")

        def explain(method):
            return self.kept(method, chunk, lambda: computed(method)).astype(np.float32)

        return heatmaps_by_name(name, explain, self.images[chunk])

    def heatmaps_of(
        self, name: str, images: np.ndarray, target: np.ndarray, kept_as: str
    ) -> np.ndarray:
        """Heatmaps by name of other images (k, height, width, channels), for the classes (k,)."""

        def explain(method):
            def computed():
                return HEATMAP_METHODS[method](
                    self.model, images, target, value_range=self.value_range
                )

            return self.kept(f"{kept_as} {method}", slice(0, len(images)), computed)

        return heatmaps_by_name(name, explain, images)


def load_compared_images(
    model: keras.Model,
    folder: str | Path,
    count: int | None,
    value_range: ValueRange,
    work: Path,
    masks: Path | None = None,
    class_names: Sequence[str] | None = None,
) -> ComparedImages:
    """Images of a folder with a folder for each class: `count` of each (None: all), or those that
    have a mask in the folder `masks`.

    Heatmaps go to a folder inside `work`, whose name depends on the model's weights and the images.
    Raises ValueError if there are no images or masks, or the folders do not fit the classes.
    """
    height, width, channels = image_shape(model)
    files, labels, folders = labelled_files(folder, None if masks else count)
    classes = classifier_head(model).classes
    labels = class_numbers(folders, class_names, classes)[0][labels]
    if masks:
        have_mask = np.flatnonzero(which_have_mask(files, masks))
        files, labels = [files[i] for i in have_mask], labels[have_mask]
    occurrence = [int(np.sum(labels[:i] == label)) for i, label in enumerate(labels)]
    in_turn = np.argsort(occurrence, kind="stable")
    files, labels = [files[i] for i in in_turn], labels[in_turn]
    pixels, _ = load_images(files, (height, width), channels)
    images = from_pixels(pixels, value_range)
    names = [f"{file.parent.name}/{file.stem}" for file in files]
    key = f"{model_digest(model)}{names}{value_range}{images.shape}"
    work = work / hashlib.sha256(key.encode()).hexdigest()[:12]
    work.mkdir(parents=True, exist_ok=True)
    logits = logits_of(model, images)
    return ComparedImages(model, value_range, names, images, labels, logits, logits.argmax(1), work)
