"""The parts of a .keras file, unpacked within bounds, and a copy that holds nothing else."""

import json
import shutil
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .archives import CHUNK, read_entry
from .load_errors import Unusable

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
ASSETS = "assets/"  # vocabularies, for instance
MAX_TEXT = 2**26  # bytes of config.json, of metadata.json, of all assets
FLOOR = 2**28  # bytes that weights may unpack to, however small they are packed
MAX_EXPANSION = 50  # times the packed bytes that weights may unpack to; Keras does not pack them


def read_json(archive: zipfile.ZipFile, name: str) -> Any:
    """What a JSON file in the archive says. Raises Unusable if it is too large or not there."""
    if archive.getinfo(name).file_size > MAX_TEXT:
        raise Unusable(f"its {name} is larger than {MAX_TEXT // 2**20} MB.")
    return json.loads(read_entry(archive, archive.getinfo(name), MAX_TEXT))


def extract_weights(archive: zipfile.ZipFile, folder: Path) -> Path:
    """A file in `folder` with the weights. Raises Unusable if they are too large or not there."""
    if WEIGHTS not in archive.namelist():
        raise Unusable(f"it holds no weights ({WEIGHTS}): save the whole model again.")
    info = archive.getinfo(WEIGHTS)
    if info.file_size > max(FLOOR, MAX_EXPANSION * info.compress_size):
        raise Unusable(f"its weights unpack to more than {MAX_EXPANSION} times their size.")
    path = folder / WEIGHTS
    with archive.open(info) as packed, open(path, "wb") as file:
        shutil.copyfileobj(packed, file, CHUNK)  # no more than file_size bytes
    return path


def is_plain(archive: zipfile.ZipFile) -> bool:
    """Whether an archive is as Keras writes it, so that Keras reads what was checked: three parts,
    each there once, and none packed.
    """
    names = [info.filename for info in archive.infolist()]
    stored = all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    return stored and sorted(names) == [CONFIG, METADATA, WEIGHTS]


def write_copy(archive: zipfile.ZipFile, config: Any, weights: Path, path: Path) -> Path:
    """Write a .keras file with another config.json, the extracted weights and the archive's assets.

    Raises Unusable if the assets are too large.
    """
    left = MAX_TEXT
    with zipfile.ZipFile(path, "w") as copy:
        copy.writestr(METADATA, json.dumps(read_json(archive, METADATA)))
        copy.writestr(CONFIG, json.dumps(config))
        copy.write(weights, WEIGHTS)
        for info in archive.infolist():
            if info.filename.startswith(ASSETS) and not info.filename.endswith("/"):
                left -= info.file_size
                if left < 0:
                    raise Unusable(f"its assets are larger than {MAX_TEXT // 2**20} MB.")
                copy.writestr(info.filename, read_entry(archive, info, MAX_TEXT))
    return path


def without_training(config: Any) -> Any:
    """A description without what belongs to training: Keras would run it for models in models."""
    return _filtered(config, lambda entry, key: key == "compile_config" and "class_name" in entry)


def without_unset(config: Any, names: Collection[str]) -> Any:
    """A description without the settings of these names that are None."""
    return _filtered(config, lambda entry, key: key in names and entry[key] is None)


def _filtered(value, is_left_out):
    if isinstance(value, list):
        return [_filtered(item, is_left_out) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _filtered(item, is_left_out)
        for key, item in value.items()
        if not is_left_out(value, key)
    }
