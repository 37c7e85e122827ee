"""Checks of command line arguments, made before anything that takes time is imported."""

import os
from collections.abc import Sequence
from pathlib import Path


def value_range(words: Sequence[str]) -> tuple[float, float] | str:
    """The argument of --value-range: (lowest, highest) value of a pixel, "caffe" or "torch".

    Raises ValueError for anything else.
    """
    if len(words) == 1 and words[0] in ("caffe", "torch"):
        return words[0]
    try:
        low, high = map(float, words)
    except ValueError:  # not two, or no numbers
        low, high = 0.0, 0.0
    if not low < high:
        raise ValueError(
            "--value-range is the lowest and the highest pixel value, such as 0 255, or caffe or "
            f"torch, not {' '.join(words)}."
        )
    return low, high


def check_count(count: int) -> None:
    """Raises ValueError for a number of images below one."""
    if count < 1:
        raise ValueError(f"--images is a number of images from 1 up, not {count}.")


def check_model_file(path: Path) -> None:
    """Raises ValueError if there is no such file."""
    if not path.exists():
        raise ValueError(f"There is no model file {str(path)!r}: give a .keras or .h5 file.")


def check_folder(path: Path) -> None:
    """Raises ValueError if there is no such folder."""
    if not path.is_dir():
        raise ValueError(
            f"There is no folder {str(path)!r}: give one with a folder for each class."
        )


def check_output_file(path: Path) -> None:
    """Raises ValueError if no file can be written there."""
    folder = path.absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)) or path.is_dir():
        raise ValueError(f"{str(path)!r} cannot be written: give a file in a folder that can.")
