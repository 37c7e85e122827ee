"""Keras models read from files."""

import json
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras

from .. import quiet  # noqa: F401, I001  # first, before anything imports TensorFlow
from . import keras2
from .load_errors import SAVE, Unusable, kind_of_file, kind_of_folder, kind_of_zip, reason

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK"
# A setting that a layer does not have, as Keras reports it.
UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'|arguments passed to \w+: \{'(\w+)'")


def load_model(
    path: str | Path,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
) -> keras.Model:
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
        raise ValueError(f"{str(path)!r} is {kind_of_folder(path)}")
    with path.open("rb") as file:
        start = file.read(200)
    try:
        if start.startswith(HDF5):
            return _from_hdf5(path, custom_objects, safe_mode)
        if start.startswith(ZIP):
            return _from_zip(path, custom_objects, safe_mode)
        why, cause = kind_of_file(start), None
    except Exception as error:  # a damaged file can fail anywhere in the readers
        why, cause = reason(error), error
    raise ValueError(f"{str(path)!r} cannot be loaded as a Keras model: {why}") from cause


def _from_hdf5(path, custom_objects, safe_mode):
    with h5py.File(path) as file:
        if "model_config" not in file.attrs:
            weights = "layer_names" in file.attrs or {"layers", "vars"} & set(file)
            raise Unusable(
                "it holds weights, but no description of the layers: build the model in Python, "
                f"call its load_weights with this file, and {SAVE}."
                if weights
                else "it is an HDF5 file, but Keras did not write it."
            )
        version = file.attrs.get("keras_version", "1")
        version = version.decode() if isinstance(version, bytes) else str(version)
        if _major(version) < 3:
            return _rebuilt(path, file, version, custom_objects, safe_mode)
    return _unchanged(path, ".h5", version, custom_objects, safe_mode)


def _from_zip(path, custom_objects, safe_mode):
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        if "config.json" not in names:
            raise Unusable(kind_of_zip(names))
        version = json.loads(file.read("metadata.json"))["keras_version"]
        if _major(version) < 3:
            return _rebuilt(path, file, version, custom_objects, safe_mode)
    return _unchanged(path, ".keras", version, custom_objects, safe_mode)


def _rebuilt(path, file, version, custom_objects, safe_mode):
    """The model in an open file of Keras 2."""
    if _major(version) < 2:
        raise Unusable(f"Keras {version} wrote it: open it with Keras 2 and {SAVE}.")
    model, changes = keras2.load(file, custom_objects, safe_mode)
    if changes:
        warnings.warn(
            f"{path.name} was written by Keras {version}. Changed for Keras 3, with the same "
            f"predictions: {'; '.join(changes)}.",
            stacklevel=4,
        )
    return model


def _unchanged(path, suffix, version, custom_objects, safe_mode):
    """The model in a file of Keras 3, as Keras loads it."""
    options = {"custom_objects": custom_objects, "compile": False, "safe_mode": safe_mode}
    unknown = set()
    with tempfile.TemporaryDirectory() as folder:
        if path.suffix != suffix:  # Keras goes by the name
            path = shutil.copyfile(path, Path(folder, f"model{suffix}"))
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


def _major(version):
    return int(version.partition(".")[0])
