"""Keras models read from files."""

import json
import re
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path

import h5py
import keras

from .. import quiet  # noqa: F401, I001  # first, before anything imports TensorFlow
from . import keras2

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
