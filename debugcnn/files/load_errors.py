"""Why a file or folder cannot be loaded as a Keras model, in one sentence."""

import re
import zipfile
import zlib
from json import JSONDecodeError
from pathlib import Path

from ..text import printable

SAVE = "save the whole model again, with model.save('model.keras')"
DAMAGED = "it is damaged or breaks off: copy or download it again."
# How files begin that are no models of Keras, and what they are.
OTHER_FILES = {
    b"version https://git-lfs": "only the pointer that Git LFS keeps in place of a large file: run "
    "'git lfs pull' there",
    b"\x80": "a Python pickle, perhaps of PyTorch or scikit-learn",
    b'{"': "JSON: it may describe the layers, but it holds no weights",
}
MISSING_CLASS = re.compile(
    r"(?:Unknown layer|Could not locate (?:class|function)|Could not deserialize class):? "
    r"'(?:[\w.]+>)?(\w+)'"
)

# One of the parts whose weights Keras could not load, and why.
FAILED_PART = re.compile(r"objects could not be loaded.*? object (<[^>]*>):\n\n([^\n]+)", re.DOTALL)


class Unusable(Exception):
    """What a file is that cannot be loaded, as the end of a sentence."""


def kind_of_folder(path: Path) -> str:
    """What a folder is that was given instead of a file, as the end of a sentence."""
    try:
        names = {file.name for file in path.iterdir()}
    except OSError:
        names = set()
    if "saved_model.pb" in names:
        return (
            "a SavedModel folder, which Keras 3 does not open: where it was made, with TensorFlow "
            "2.15 or older or with tf_keras, load it there and " + SAVE + "."
        )
    if {"config.json", "metadata.json"} <= names:
        return "an unpacked .keras file: zip what is in it again, under a name that ends in .keras."
    return "a folder: give the path of a .keras or .h5 file."


def kind_of_file(start: bytes) -> str:
    """What a file with such first bytes is, neither HDF5 nor zip, as the end of a sentence."""
    if not start:
        return "it is empty."
    if start[4:8] == b"TFL3":
        return "it is a TensorFlow Lite file, which cannot be inspected: give the .keras file."
    for beginning, kind in OTHER_FILES.items():
        if start.startswith(beginning):
            return f"it is {kind}."
    try:
        text = start.decode().strip().lower()
    except UnicodeDecodeError:
        return "it is neither HDF5 nor a zip, as .h5 and .keras files are."
    if text.startswith(("<!doctype", "<html")):
        return "it is a web page: download the file itself, on GitHub with 'Download raw file'."
    return "it is text: give the path of a .keras or .h5 file."


def kind_of_zip(names: list[str]) -> str:
    """What a zip without a config.json is, by the names in it, as the end of a sentence."""
    inside = [name for name in names if Path(name).suffix in {".h5", ".hdf5", ".keras"}]
    if any(Path(name).name == "data.pkl" for name in names):
        return "PyTorch wrote it."
    if any(Path(name).name == "saved_model.pb" for name in names):
        return f"it is a zipped SavedModel: where TensorFlow opens it, {SAVE}."
    return "it is a zip without the config.json of a .keras file: " + (
        f"unpack it and give {inside[0]!r}." if inside else "give a .keras or .h5 file."
    )


def reason(error: Exception) -> str:
    """Why a file does not open, from what the readers raise, as the end of a sentence."""
    return printable(_reason(error, str(error))).replace("\n", " ")


def _reason(error, text):
    if isinstance(error, Unusable):
        return text
    damaged = isinstance(error, OSError) and error.errno is None  # as h5py reports it
    unreadable = zipfile.BadZipFile | zlib.error | EOFError | JSONDecodeError | UnicodeError
    if damaged or isinstance(error, unreadable):
        return DAMAGED
    if isinstance(error, OSError):
        return f"{error.strerror}."
    if isinstance(error, KeyError):
        return f"a part of it is missing: {text}."
    if isinstance(error, MemoryError):
        return "it takes more memory than there is."
    if isinstance(error, RecursionError):
        return "its description is nested too deeply."
    if "ambda" in text and re.search("arbitrary code|unsafe", text):
        return (
            "a Lambda layer in it holds Python code, which would run here: if you trust the file, "
            "call load_model with safe_mode=False, in YourCNN.ipynb with TRUST = True."
        )
    if missing := MISSING_CLASS.search(text):
        return (
            f"it needs the class {missing[1]!r}, which is not part of Keras: import the code that "
            "defines it, under @keras.saving.register_keras_serializable(), or give it in "
            "custom_objects."
        )
    if part := FAILED_PART.search(text):
        return f"the weights of {part[1]} cannot be loaded: {part[2]}"
    text = text.rpartition("Exception encountered:")[2].strip().partition("\n")[0]
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
