"""Images read from files and folders."""

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from .decoding import MAX_PIXELS, TooLarge, opened_image

SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)
WAYS = {"squash": Image.Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names, by channels


class Resizing(NamedTuple):
    """How an image is brought to the size that a model takes."""

    way: Literal["squash", "crop", "pad"] = "squash"
    resample: str = "bilinear"  # one of Pillow's filters, in lower case


def load_images(
    source: str | Path | Iterable[str | Path],
    size: int | tuple[int, int],
    channels: int = 3,
    way: Literal["squash", "crop", "pad"] = "squash",
    resample: str = "bilinear",
    max_pixels: int = MAX_PIXELS,
) -> tuple[np.ndarray, list[str]]:
    """Images as (n, height, width, channels) float32 from 0 to 255, and their names (n strings).

    `source` is a folder (the images directly in it, by name, without hidden files), a file or a
    list of files: JPEG, PNG, TIFF, WebP, AVIF, GIF or BMP, whatever their names. Each image is
    rotated as its Exif tag says and resized to `size`, an int or (height, width): squashed, or
    cropped to the shape of `size` from its center (way="crop"), or padded with black ("pad").
    `resample` is "bilinear", "nearest" or another of Pillow's filters, which weigh all pixels that
    become one.

    With 3 channels they are RGB, with 1 grey, with 4 RGB and opacity; with fewer than 4,
    transparent pixels are blended with white. Sixteen bits and floating-point numbers are scaled to
    0 to 255; floats up to 1 count from 0 to 1, others up to 255 as they are, and up to 65,535 as
    sixteen bits.

    Raises ValueError if a path is wrong, a file is no image or has more than `max_pixels`, or a
    folder holds none.
    """
    if isinstance(source, (str, Path)):
        source = Path(source)
        files = image_files(source) if os.path.isdir(source) else [source]
        if not files:
            inside = "; its folders are classes?" if class_folders(source) else ""
            raise ValueError(
                f"The folder {str(source)!r} holds no image (.jpg, .png, ...) directly{inside}."
            )
    else:
        files = [Path(file) for file in source]
    resizers = {"": _resizer(Resizing(way, resample), size)}
    images = _empty(resizers, len(files), size, channels)
    for number, file in enumerate(files):
        images[""][number] = _read(file, channels, resizers, max_pixels)[""]
    return images[""], [file.stem for file in files]


def load_resized_variants(
    files: Iterable[str | Path],
    size: int | tuple[int, int],
    channels: int,
    resizings: Mapping[str, Resizing],
    max_pixels: int = MAX_PIXELS,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The readable images among `files`, resized in several ways, each file decoded once.

    Returns {name of a resizing: (m, height, width, channels) float32 from 0 to 255} and which
    files were readable, (n,) bool with m True. Values and sizes are those of `load_images`.
    """
    files = [Path(file) for file in files]
    resizers = {name: _resizer(resizing, size) for name, resizing in resizings.items()}
    images = _empty(resizers, len(files), size, channels)
    readable = np.zeros(len(files), bool)
    for number, file in enumerate(files):
        try:
            resized = _read(file, channels, resizers, max_pixels)
        except ValueError:
            continue
        for name, image in resized.items():
            images[name][readable.sum()] = image
        readable[number] = True
    return {name: array[: readable.sum()] for name, array in images.items()}, readable


def load_labelled_images(
    folder: str | Path,
    size: int | tuple[int, int],
    limit: int | None = None,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
) -> tuple[np.ndarray, list[str], np.ndarray, list[str]]:
    """Images in a folder for each class: images as of `load_images`, names, labels and classes.

    Names (n strings) begin with the folder's; labels and classes are those of `labelled_files`, as
    is `limit`. Raises ValueError as `load_images` does.
    """
    files, labels, classes = labelled_files(folder, limit)
    images, names = load_images(files, size, channels, max_pixels=max_pixels)
    return images, [f"{file.parent.name}/{n}" for file, n in zip(files, names)], labels, classes


def labelled_files(
    folder: str | Path, limit: int | None = None
) -> tuple[list[Path], np.ndarray, list[str]]:
    """Image files in a folder for each class, (n paths); labels (n,), the numbers of the classes;
    and the classes, which are the folders by name (k strings).

    `limit` is how many of each class are taken at most, evenly spaced. Raises ValueError if there
    is no such folder.
    """
    folders = class_folders(folder)
    if not folders:
        raise ValueError(f"{str(folder)!r} holds no folders with images, one for each class.")
    files: list[Path] = []
    labels: list[int] = []
    for label, class_folder in enumerate(folders):
        inside = image_files(class_folder)
        spaced = np.linspace(0, len(inside) - 1, min(len(inside), limit or len(inside)))
        files += [inside[i] for i in spaced.round().astype(int)]
        labels += [label] * len(spaced)
    return files, np.array(labels), [class_folder.name for class_folder in folders]


def image_files(folder: str | Path) -> list[Path]:
    """The image files directly in a folder, by name and suffix, without hidden ones.

    Raises ValueError if the folder cannot be listed.
    """
    return [
        path
        for path in _listed(folder)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def class_folders(folder: str | Path) -> list[Path]:
    """The folders with images in a folder that holds no image itself, by name; [] for any other.

    Raises ValueError if a folder cannot be listed.
    """
    if not os.path.isdir(folder) or image_files(folder):
        return []
    folders = [f for f in _listed(folder) if os.path.isdir(f) and not f.name.startswith(".")]
    return [f for f in folders if image_files(f)]


def is_readable(file: str | Path, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether a file can be read as an image, to its end, within `max_pixels`."""
    try:  # Pillow warns of bad metadata, and of sizes, which max_pixels bounds
        with (
            warnings.catch_warnings(action="ignore"),
            opened_image(file, max_pixels=max_pixels) as image,
        ):
            image.draft(None, (1, 1))  # a JPEG is read to its end, but decoded at an eighth
            image.load()
    except Exception:  # a damaged file can fail anywhere in Pillow
        return False
    return True


def _listed(folder):
    try:
        return sorted(Path(folder).iterdir())
    except (OSError, ValueError) as error:  # ValueError: no folder can have this name
        reason = getattr(error, "strerror", error)
        raise ValueError(f"{str(folder)!r} cannot be listed: {reason}.") from error


def _empty(resizers, count, size, channels):
    height, width = np.broadcast_to(size, 2).tolist()
    return {name: np.empty((count, height, width, channels), np.float32) for name in resizers}


def _resizer(resizing, size):
    """A function that brings an image of Pillow to a size."""
    height, width = np.broadcast_to(size, 2).tolist()
    filters = {resampling.name.lower(): resampling for resampling in Image.Resampling}
    if resizing.way not in WAYS or resizing.resample not in filters:
        raise ValueError(
            f"Images are resized with one of {', '.join(WAYS)} and with one of "
            f"{', '.join(filters)}, not with {resizing.way!r} and {resizing.resample!r}."
        )
    return lambda image: WAYS[resizing.way](image, (width, height), filters[resizing.resample])


def _read(file, channels, resizers, max_pixels):
    """{name: (h, w, channels) uint8}, the image in a file, upright and resized by each resizer."""
    if not os.path.exists(file):
        raise ValueError(f"There is no image or folder {str(file)!r}: check the path.")
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            opened_image(file, max_pixels=max_pixels) as image,
        ):
            ImageOps.exif_transpose(image, in_place=True)
            image = _in_bytes(image, channels)
            return {
                name: np.asarray(small := resize(image)).reshape(*small.size[::-1], channels)
                for name, resize in resizers.items()
            }
    except TooLarge as error:
        raise ValueError(f"{str(file)!r} is not read, since {error}.") from error
    except Exception as error:  # a damaged file can fail anywhere in Pillow
        raise ValueError(f"{str(file)!r} cannot be read as an image.") from error


def _in_bytes(image, channels):
    """An image of any kind with 8 bits for each of 1, 3 or 4 channels."""
    if image.mode[0] in "IF":  # 16 or 32 bits, or floats; grey
        values = np.nan_to_num(np.asarray(image, np.float32))
        most = 255 if image.mode[0] == "F" and values.max() <= 255 else 65535
        most = 1 if image.mode == "F" and values.max() <= 1 else most
        image = Image.fromarray(np.uint8(np.clip(values / most, 0, 1) * 255 + 0.5))
    if image.has_transparency_data and channels < 4:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])
