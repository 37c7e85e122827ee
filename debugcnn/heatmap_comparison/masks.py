"""Masks of the subjects of images: a folder like that of the images, with a PNG for each."""

from collections.abc import Sequence
from pathlib import Path


def mask_of(file: Path, masks: Path) -> Path:
    """The mask of an image file in the folder `masks`, whether it exists or not."""
    return Path(masks, file.parent.name, f"{file.stem}.png")


def check_masks(files: Sequence[Path], masks: Path) -> None:
    """Raises ValueError if none of the image files has a mask."""
    if not any(mask_of(file, masks).exists() for file in files):
        first = mask_of(files[0], masks)
        raise ValueError(
            f"{str(masks)!r} holds no mask of these images: {first.parent.name}/{first.name} would "
            "be that of the first."
        )
