"""Masks of the subjects of images."""

from collections.abc import Sequence
from pathlib import Path


def which_have_mask(files: Sequence[Path], masks: Path) -> list[bool]:
    """Which of the image files have a mask in the folder `masks`. Raises ValueError if none has."""
    mask_files = [Path(masks, file.parent.name, f"{file.stem}.png") for file in files]
    exist = [file.exists() for file in mask_files]
    if not any(exist):
        first = f"{mask_files[0].parent.name}/{mask_files[0].name}"
        raise ValueError(
            f"{str(masks)!r} holds no mask of these images: {first} would be that of the first."
        )
    return exist
