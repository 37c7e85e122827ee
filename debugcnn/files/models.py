"""Keras models read from files."""

import json  # noqa: I001
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import quiet  # noqa: F401  # first, before anything imports TensorFlow

import keras
from keras.src.saving.serialization_lib import SafeModeScope

from ..text import printable
from . import keras2
from .hdf5 import layers_no_larger_than, opened_checked
from .keras_archive import (
    CONFIG,
    METADATA,
    extract_weights,
    is_plain,
    read_json,
    without_training,
    without_unset,
    write_copy,
)
from .load_errors import SAVE, Unusable, kind_of_file, kind_of_folder, kind_of_zip, reason
from .permissions import check_permission

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK"
MOST_UNSET = 20  # settings that a newer Keras may have added
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
    own by name, if they are not registered with Keras. `safe_mode=False` lets the file run Python
    code, as a Lambda layer does, and read other files: only for files that you trust.

    Raises ValueError, in one sentence, if there is no such file, if it is no model of Keras, or if
    it would need that trust.
    """
    path = Path(path)
    try:
        start = _first_bytes(path)
        with SafeModeScope(safe_mode):
            if start.startswith(HDF5):
                return _from_hdf5(path, custom_objects, safe_mode)
            if start.startswith(ZIP):
                return _from_zip(path, custom_objects, safe_mode)
        why, cause = kind_of_file(start), None
    except WrongPath as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # a damaged file can fail anywhere in the readers
        why, cause = reason(error), error
    raise ValueError(f"{str(path)!r} cannot be loaded as a Keras model: {why}") from cause


class WrongPath(Exception):
    """That a path leads to no file, as a sentence."""


def _first_bytes(path):
    if os.path.isdir(path):
        raise WrongPath(f"{str(path)!r} is {kind_of_folder(path)}")
    if not os.path.exists(path):  # also if the name is longer than any may be
        raise WrongPath(f"There is no model file {str(path)!r}: give the path of a .keras file.")
    if not os.path.isfile(path):  # opening a pipe would wait for whoever writes into it
        raise WrongPath(f"{str(path)!r} is no regular file: give the path of a .keras file.")
    with open(path, "rb") as file:
        return file.read(200)


def _from_hdf5(path, custom_objects, safe_mode):
    with opened_checked(path, path.stat().st_size) as (file, stored):
        if "model_config" not in file.attrs:
            weights = "layer_names" in file.attrs or {"layers", "vars"} & set(file)
            raise Unusable(
                "it holds weights, but no description of the layers: build the model in Python, "
                f"call its load_weights with this file, and {SAVE}."
                if weights
                else "it is an HDF5 file, but Keras did not write it."
            )
        version = _text(file.attrs.get("keras_version", "1"))
        config = json.loads(_text(file.attrs["model_config"]))
        if safe_mode:
            check_permission(config, custom_objects)
        if _major(version) < 3:
            weights = file["model_weights"], keras2.fill_from_hdf5
            with layers_no_larger_than(stored):
                return _rebuilt(path, version, config, *weights, custom_objects)
    with layers_no_larger_than(stored), tempfile.TemporaryDirectory() as folder:
        if path.suffix != ".h5":  # Keras goes by the name
            path = shutil.copyfile(path, Path(folder, "model.h5"))
        try:
            return keras.models.load_model(path, custom_objects, compile=False, safe_mode=safe_mode)
        except (TypeError, ValueError) as error:
            if _unknown_settings(error):
                raise _from_another_keras(version) from error
            raise


def _from_zip(path, custom_objects, safe_mode):
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        if CONFIG not in archive.namelist():
            raise Unusable(kind_of_zip(archive.namelist()))
        version = read_json(archive, METADATA)["keras_version"]
        described = read_json(archive, CONFIG)
        config = without_training(described)
        if safe_mode:
            check_permission(config, custom_objects)
        weights = extract_weights(archive, Path(folder))
        with opened_checked(weights, path.stat().st_size) as (file, stored):
            if _major(version) < 3:
                fill = file, keras2.fill_from_zip
                with layers_no_larger_than(stored):
                    return _rebuilt(path, version, config, *fill, custom_objects)
        if path.suffix != ".keras" or not is_plain(archive) or config != _without_top(described):
            path = write_copy(archive, config, weights, Path(folder, "copy.keras"))
        unset = set()
        while True:
            try:
                with layers_no_larger_than(stored):
                    return keras.models.load_model(
                        path, custom_objects, compile=False, safe_mode=safe_mode
                    )
            except (TypeError, ValueError) as error:
                names = _unknown_settings(error)
                if not names:
                    raise
                if names <= unset or len(unset) > MOST_UNSET:
                    raise _from_another_keras(version) from error
            unset |= names  # a newer Keras has added them, and they say None
            config = without_unset(config, unset)
            path = write_copy(archive, config, weights, Path(folder, f"copy-{len(unset)}.keras"))


def _rebuilt(path, version, config, weights, fill, custom_objects):
    """The model in an open file of Keras 2."""
    if _major(version) < 2:
        raise Unusable(f"Keras {version} wrote it: open it with Keras 2 and {SAVE}.")
    model, changes = keras2.load(config, weights, fill, custom_objects)
    if changes:
        warnings.warn(
            printable(
                f"{path.name} was written by Keras {version}. Changed for Keras 3, with the same "
                f"predictions: {'; '.join(changes)}."
            ),
            stacklevel=4,
        )
    return model


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _without_top(config):
    """What Keras itself leaves out where a model is not compiled."""
    return {key: value for key, value in config.items() if key != "compile_config"}


def _unknown_settings(error):
    return {name for pair in UNKNOWN.findall(str(error)) for name in pair if name}


def _from_another_keras(version):
    return Unusable(
        f"Keras {version} wrote it, and {keras.__version__} here does not know all of its "
        "settings: install that version with pip."
    )


def _major(version):
    return int(str(version).partition(".")[0])
