"""A model with labelled images and the names of its classes, as every command needs them."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .files.images import Resizing, class_folders, labelled_files, load_resized_variants
from .files.labels import class_numbers
from .files.models import load_model
from .views.predictions import classifier_head
from .views.tracing import image_shape

if TYPE_CHECKING:
    import keras

AS_THEY_ARE = "as they are"


class LabelledImages(NamedTuple):
    """Images that a model takes, and their labels.

    `pixels` (n, height, width, channels) float32 from 0 to 255; `labels` (n,); `class_names` in the
    order of the model's output; `files` (n paths); `unreadable` counts files that were left out;
    `variants` {name: the same images resized otherwise}.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: list[str]
    files: list[Path]
    unreadable: int
    variants: dict[str, np.ndarray]


def load_model_quietly(path: str | Path, **options) -> "keras.Model":
    """`load_model` without warnings of what had to be changed for Keras 3; options are the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_model(path, **options)


def load_labelled(
    model: "keras.Model",
    folder: str | Path,
    *,
    per_class: int | None = None,
    chosen: Callable[[Path], bool] | None = None,
    class_names: list[str] | None = None,
    output: str | int | None = None,
    variants: Mapping[str, Resizing] | None = None,
) -> LabelledImages:
    """The images of a folder with a folder for each class, resized for a model.

    `per_class` is how many of each class are taken at most, evenly spaced, and `chosen` which of
    these files; `class_names` are names in the order of the model's output, None where the folders
    in alphabetical order are the classes. Raises ValueError, in one sentence, if the folders do not
    fit the model.
    """
    *size, channels = image_shape(model)
    count = classifier_head(model, output).classes
    files, labels, folders = labelled_files(folder, per_class)
    if chosen:
        indices = [i for i, file in enumerate(files) if chosen(file)]
        files, labels = [files[i] for i in indices], labels[indices]
    numbers, _ = class_numbers(folders, class_names, count)
    resizings = {AS_THEY_ARE: Resizing()} | dict(variants or {})
    images, readable = load_resized_variants(files, tuple(size), channels, resizings)
    if not readable.any():
        raise ValueError(f"None of the {len(files)} images in {str(folder)!r} can be read.")
    names = class_names or (folders if len(folders) == count else [str(k) for k in range(count)])
    return LabelledImages(
        images.pop(AS_THEY_ARE),
        numbers[labels[readable]],
        list(names),
        [file for file, is_readable in zip(files, readable) if is_readable],
        int((~readable).sum()),
        images,
    )


def images_per_class(folder: str | Path, total: int) -> int:
    """How many images of each class make `total` at most, 1 at least."""
    return max(1, total // max(1, len(class_folders(folder))))
