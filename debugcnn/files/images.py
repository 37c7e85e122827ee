"""Images read from files and folders."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

PHOTOS = frozenset(
    ".avif .bmp .gif .jfif .jpe .jpeg .jpg .png .tif .tiff .webp".split()  # noqa: SIM905
)
WAYS = {"squash": Image.Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names, by channels


def load_images(source, size, channels=3, way="squash", resample="bilinear"):
    """Photos as (n, height, width, channels) float32 from 0 to 255, and their names (n strings).

    `source` is a folder (the photos directly in it, by name, without hidden files), a file or a
    list of files. Each photo is turned as its Exif tag says and resized to `size`, an int or
    (height, width): it is squashed, or cropped to the shape of `size` from its middle
    (way="crop"), or put on black with its own shape ("pad"). `resample` is "bilinear", "nearest" or
    another of Pillow's filters, which look at all pixels that become one.

    With 3 channels they are RGB, with 1 grey, with 4 RGB and opacity; with fewer than 4,
    transparent pixels are laid on white. Sixteen bits and floating-point numbers are scaled to 0 to
    255; floats up to 1 count from 0 to 1, others up to 255 as they are, and up to 65,535 as sixteen
    bits.

    Raises ValueError if a path is wrong, a file is no photo or a folder holds none.
    """
    if isinstance(source, (str, Path)):
        source = Path(source)
        files = image_files(source) if source.is_dir() else [source]
        if not files:
            inside = "; its folders are classes?" if class_folders(source) else ""
            raise ValueError(
                f"The folder {str(source)!r} holds no photo (.jpg, .png, ...) directly{inside}."
            )
    else:
        files = [Path(file) for file in source]
    height, width = np.broadcast_to(size, 2).tolist()
    photos = np.empty((len(files), height, width, channels), np.float32)
    for photo, file in zip(photos, files):
        if not file.is_file():
            raise ValueError(f"There is no photo or folder {str(file)!r}: check the path.")
        try:
            with Image.open(file) as image:
                upright = _in_bytes(ImageOps.exif_transpose(image), channels)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{str(file)!r} cannot be read as a photo.") from error
        small = WAYS[way](upright, (width, height), Image.Resampling[resample.upper()])
        photo[:] = np.asarray(small).reshape(height, width, channels)
    return photos, [file.stem for file in files]


def load_labelled_images(folder, size, limit=None, channels=3):
    """Photos in a folder for each class: photos as of `load_images`, names, labels and classes.

    Names (n strings) begin with the folder's; labels and classes are those of `labelled_files`, as
    is `limit`. Raises ValueError as `load_images` does.
    """
    files, labels, classes = labelled_files(folder, limit)
    photos, names = load_images(files, size, channels)
    return photos, [f"{file.parent.name}/{n}" for file, n in zip(files, names)], labels, classes


def labelled_files(folder, limit=None):
    """Photo files in a folder for each class, (n paths); labels (n,), the numbers of the classes;
    and the classes, which are the folders by name (k strings).

    `limit` is how many of each class are taken at most, evenly spaced. Raises ValueError if there
    is no such folder.
    """
    folders = class_folders(folder)
    if not folders:
        raise ValueError(f"{str(folder)!r} holds no folders with photos, one for each class.")
    files, labels = [], []
    for label, inside in enumerate(folders):
        some = image_files(inside)
        places = np.linspace(0, len(some) - 1, min(len(some), limit or len(some)))
        files += [some[i] for i in places.round().astype(int)]
        labels += [label] * len(places)
    return files, np.array(labels), [inside.name for inside in folders]


def image_files(folder):
    """The photo files directly in a folder, by name, without hidden ones."""
    return [
        file
        for file in sorted(Path(folder).iterdir())
        if file.suffix.lower() in PHOTOS and not file.name.startswith(".")
    ]


def is_readable(file):
    """Whether a file can be read as a photo, to its end."""
    try:
        with Image.open(file) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def class_folders(folder):
    """The folders with photos in a folder that holds no photo itself, by name; [] for any other."""
    folder = Path(folder)
    if not folder.is_dir() or image_files(folder):
        return []
    inside = [f for f in sorted(folder.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    return [f for f in inside if image_files(f)]


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
    return image.convert(MODES[channels])
