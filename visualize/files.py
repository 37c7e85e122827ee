"""Models and photos, read from files."""

import json
import re
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
from PIL import Image, ImageOps

from . import keras2

PHOTOS = frozenset(
    ".avif .bmp .gif .jfif .jpe .jpeg .jpg .png .tif .tiff .webp".split()  # noqa: SIM905
)
WAYS = {"squash": Image.Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names, by channels
HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK"
# A setting that a layer does not have, as Keras tells it.
UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'|arguments passed to \w+: \{'(\w+)'")
SAVE = "save the whole net again, with model.save('net.keras')"
# How files begin that are no models of Keras, and what they are.
OTHERS = {
    b"version https://git-lfs": "only the pointer that Git LFS keeps in place of a large file: run "
    "'git lfs pull' there",
    b"\x80": "a Python pickle, perhaps of PyTorch or scikit-learn",
    b'{"': "JSON: it may describe the layers, but it holds no weights",
}


# -------------------------------------------------------------------------------------- models


def load_model(path, custom_objects=None, safe_mode=True):
    """The image classifier saved at `path` (.keras or .h5, under any name), without its optimizer.

    Files of Keras 2 and tf_keras are rebuilt in Keras 3; a warning (UserWarning) says what had to
    be changed for that. The file stays as it is. `custom_objects` are classes and functions of your
    own by name, if they are not registered with Keras. `safe_mode=False` runs Python code that the
    file holds, as a Lambda layer does: only for files that you trust.

    Raises ValueError, in one sentence, if there is no such file or if it is no model of Keras.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"There is no model file {str(path)!r}: give the path of a .keras file.")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is {_kind_of_folder(path)}")
    with path.open("rb") as file:
        start = file.read(200)
    try:
        if start.startswith(HDF5):
            return _from_hdf5(path, custom_objects, safe_mode)
        if start.startswith(ZIP):
            return _from_zip(path, custom_objects, safe_mode)
        reason = _kind_of_file(start)
    except Exception as error:  # a damaged file can fail anywhere in the readers
        reason, cause = _reason(error), error
    else:
        cause = None
    raise ValueError(f"{str(path)!r} cannot be loaded as a Keras model: {reason}") from cause


class Unusable(Exception):
    """What a file is that holds no model, as the end of a sentence."""


def _from_hdf5(path, custom_objects, safe_mode):
    with h5py.File(path) as file:
        if "model_config" not in file.attrs:
            weights = "layer_names" in file.attrs or {"layers", "vars"} & set(file)
            raise Unusable(
                "it holds weights, but no description of the layers: build the net in Python, call "
                f"its load_weights with this file, and {SAVE}."
                if weights
                else "it is an HDF5 file, but Keras did not write it."
            )
        version = _text(file.attrs.get("keras_version", "1"))
        if _major(version) < 3:
            return _rebuilt(path, file, version, custom_objects, safe_mode)
    return _as_it_is(path, ".h5", version, custom_objects, safe_mode)


def _from_zip(path, custom_objects, safe_mode):
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        if "config.json" not in names:
            inside = [name for name in names if Path(name).suffix in {".h5", ".hdf5", ".keras"}]
            if any(Path(name).name == "data.pkl" for name in names):
                raise Unusable("PyTorch wrote it.")
            if any(Path(name).name == "saved_model.pb" for name in names):
                raise Unusable(f"it is a zipped SavedModel: where TensorFlow opens it, {SAVE}.")
            raise Unusable(
                "it is a zip without the config.json of a .keras file: "
                + (f"unpack it and give {inside[0]!r}." if inside else "give a .keras or .h5 file.")
            )
        version = json.loads(file.read("metadata.json"))["keras_version"]
        if _major(version) < 3:
            return _rebuilt(path, file, version, custom_objects, safe_mode)
    return _as_it_is(path, ".keras", version, custom_objects, safe_mode)


def _rebuilt(path, file, version, custom_objects, safe_mode):
    if _major(version) < 2:
        raise Unusable(f"Keras {version} wrote it: open it with Keras 2 and {SAVE}.")
    model, changes = keras2.load(file, custom_objects, safe_mode)
    if changes:
        warnings.warn(
            f"{path.name} was written by Keras {version}. Changed for Keras 3, with the same "
            f"answers: {'; '.join(changes)}.",
            stacklevel=4,
        )
    return model


def _as_it_is(path, suffix, version, custom_objects, safe_mode):
    options = {"custom_objects": custom_objects, "compile": False, "safe_mode": safe_mode}
    unknown = set()
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix != suffix:  # Keras goes by the name
            path = shutil.copyfile(path, Path(folder, f"net{suffix}"))
        while True:
            try:
                return keras.models.load_model(path, **options)
            except (TypeError, ValueError) as error:
                names = {name for pair in UNKNOWN.findall(str(error)) for name in pair if name}
                if not names:
                    raise
                if suffix != ".keras" or names <= unknown:
                    raise Unusable(
                        f"Keras {version} wrote it, and {keras.__version__} here does not know all "
                        "of its settings: install that version with pip."
                    ) from error
            unknown |= names
            path = _without(path, unknown, Path(folder, f"without-{len(unknown)}.keras"))


def _without(path, names, copy):
    """A copy of a .keras file without settings that say None, which a newer Keras has added."""

    def left(value):
        if isinstance(value, list):
            return [left(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {k: left(v) for k, v in value.items() if v is not None or k not in names}

    with zipfile.ZipFile(path) as file, zipfile.ZipFile(copy, "w") as changed:
        for name in file.namelist():
            data = file.read(name)
            if name == "config.json":
                data = json.dumps(left(json.loads(data)))
            changed.writestr(name, data)
    return copy


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _major(version):
    return int(version.partition(".")[0])


def _kind_of_folder(path):
    names = {file.name for file in path.iterdir()}
    if "saved_model.pb" in names:
        return (
            "a SavedModel folder, which Keras 3 does not open: where it was made, with TensorFlow "
            "2.15 or older or with tf_keras, load it there and " + SAVE + "."
        )
    if {"config.json", "metadata.json"} <= names:
        return "an unpacked .keras file: zip what is in it again, under a name that ends in .keras."
    return "a folder: give the path of a .keras or .h5 file."


def _kind_of_file(start):
    if not start:
        return "it is empty."
    if start[4:8] == b"TFL3":
        return "it is a TensorFlow Lite file, which cannot be looked into: give the .keras file."
    for beginning, kind in OTHERS.items():
        if start.startswith(beginning):
            return f"it is {kind}."
    try:
        text = start.decode().strip().lower()
    except UnicodeDecodeError:
        return "it is neither HDF5 nor a zip, as .h5 and .keras files are."
    if text.startswith(("<!doctype", "<html")):
        return "it is a web page: download the file itself, on GitHub with 'Download raw file'."
    return "it is text: give the path of a .keras or .h5 file."


def _reason(error):
    """Why a file does not open, from what the readers raise, in one sentence."""
    text = str(error)
    if isinstance(error, Unusable):
        return text
    damaged = isinstance(error, OSError) and error.errno is None  # as h5py tells it
    if damaged or isinstance(error, zipfile.BadZipFile | EOFError):
        return "it is damaged or breaks off: copy or download it again."
    if "ambda" in text and re.search("arbitrary code|unsafe", text):
        return (
            "a Lambda layer in it holds Python code, which would run here: if you trust the file, "
            "call load_model with safe_mode=False, in YourCNN.ipynb with TRUST = True."
        )
    missing = re.search(
        r"(?:Unknown layer|Could not locate (?:class|function)|Could not deserialize class):? "
        r"'(?:[\w.]+>)?(\w+)'",
        text,
    )
    if missing:
        return (
            f"it needs the class {missing[1]!r}, which is not part of Keras: import the code that "
            "defines it, under @keras.saving.register_keras_serializable(), or give it in "
            "custom_objects."
        )
    text = text.rpartition("Exception encountered:")[2].strip().partition("\n")[0]
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


# -------------------------------------------------------------------------------------- photos


def load_photos(source, size, channels=3, way="squash", resample="bilinear"):
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
        files = photos_in(source) if source.is_dir() else [source]
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


def load_labelled_photos(folder, size, limit=None, channels=3):
    """Photos in a folder for each class: photos as of `load_photos`, names, labels and classes.

    Names (n strings) begin with the folder's; labels and classes are those of `labelled_files`, as
    is `limit`. Raises ValueError as `load_photos` does.
    """
    files, labels, classes = labelled_files(folder, limit)
    photos, names = load_photos(files, size, channels)
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
        some = photos_in(inside)
        places = np.linspace(0, len(some) - 1, min(len(some), limit or len(some)))
        files += [some[i] for i in places.round().astype(int)]
        labels += [label] * len(places)
    return files, np.array(labels), [inside.name for inside in folders]


def photos_in(folder):
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
    if not folder.is_dir() or photos_in(folder):
        return []
    inside = [f for f in sorted(folder.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    return [f for f in inside if photos_in(f)]


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
