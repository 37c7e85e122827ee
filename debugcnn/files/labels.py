"""Which class each folder of images belongs to."""

from collections.abc import Sequence

import numpy as np


def class_numbers(
    folders: Sequence[str], class_names: Sequence[str] | None, count: int
) -> tuple[np.ndarray, str]:
    """The class of each folder, (k,) whole numbers, and how that was found, as a sentence.

    By its name where there are `class_names`, without regard to capitals and a plural's s; else the
    folders in alphabetical order are taken for the `count` classes of the model. Raises ValueError
    if neither is possible.
    """
    numbers = {_singular(name): number for number, name in enumerate(class_names or [])}
    unnamed = [folder for folder in folders if _singular(folder) not in numbers]
    if not unnamed:
        labels = np.array([numbers[_singular(folder)] for folder in folders])
        return labels, "Each folder has the name of one of CLASSES, which is its label."
    if len(unnamed) < len(folders):
        raise ValueError(
            f"The images count as unlabelled: CLASSES does not name {', '.join(unnamed)}."
        )
    if len(folders) != count:
        raise ValueError(
            f"The images count as unlabelled: they lie in {len(folders)} folders, and the model "
            f"has {count:,} classes; name them all in CLASSES, in the order of the model's output."
        )
    return np.arange(count), _alphabetical(folders)


def _alphabetical(folders):
    order = ", ".join(f"{folder} = class {number}" for number, folder in enumerate(folders[:10]))
    more = ", ..." if len(folders) > 10 else ""
    return f"It is assumed that the folders in alphabetical order are the classes: {order}{more}."


def _singular(name):
    return str(name).strip().casefold().removesuffix("s")
