"""The images of a comparison, and heatmaps of them that are computed once and kept in files."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from ..files.atomic import write_atomically
from ..loading import load_labelled
from ..views.heatmap_catalogue import HEATMAP_METHODS, heatmaps_by_name
from ..views.methods import ValueRange
from ..views.predictions import logits as logits_of
from ..views.tracing import model_digest
from ..views.value_ranges import from_pixels
from .masks import mask_of

CHUNK = 25  # images whose heatmaps are computed and kept at once


@dataclass
class ComparedImages:
    """Images of a model, the classes in turn, and its heatmaps of them, each computed once."""

    model: keras.Model
    value_range: ValueRange
    files: list[Path]  # (n,)
    unreadable: int  # files that were left out
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
    per_class: int | None,
    value_range: ValueRange,
    *,
    work: Path,
    masks: Path | None = None,
    class_names: Sequence[str] | None = None,
) -> ComparedImages:
    """Images of a folder with a folder for each class: `per_class` of each at most (None: all), if
    `masks` is a folder only those that have a mask there.

    Heatmaps go to a folder inside `work`, whose name depends on the model's weights and the images.
    Raises ValueError if there are no images, or the folders do not fit the model.
    """
    loaded = load_labelled(
        model,
        folder,
        per_class=per_class,
        chosen=masks and (lambda file: mask_of(file, masks).exists()),
        class_names=class_names,
    )
    occurrence = [int(np.sum(loaded.labels[:i] == k)) for i, k in enumerate(loaded.labels)]
    in_turn = np.argsort(occurrence, kind="stable")
    files = [loaded.files[i] for i in in_turn]
    images = from_pixels(loaded.pixels[in_turn], value_range)
    names = [f"{file.parent.name}/{file.stem}" for file in files]
    key = f"{model_digest(model)}{names}{value_range}{images.shape}"
    work = work / hashlib.sha256(key.encode()).hexdigest()[:12]
    work.mkdir(parents=True, exist_ok=True)
    logits, labels = logits_of(model, images), loaded.labels[in_turn]
    return ComparedImages(
        model,
        value_range,
        files,
        loaded.unreadable,
        images,
        labels,
        logits,
        target=logits.argmax(1),
        work=work,
    )
