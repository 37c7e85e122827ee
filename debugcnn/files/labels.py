"""Which class each folder of images belongs to."""

import numpy as np


def class_numbers(folders, names, classes):
    """The class of each folder, (k,) whole numbers, and how that was found, as a sentence.

    By its name where `names` of the classes are given, without regard to capitals and a plural's s;
    else the folders in alphabetical order are taken for the `classes`. Raises ValueError if neither
    is possible.
    """
    known = {_singular(name): number for number, name in enumerate(names or [])}
    lost = [folder for folder in folders if _singular(folder) not in known]
    if not lost:
        numbers = np.array([known[_singular(folder)] for folder in folders])
        return numbers, "Each folder has the name of one of CLASSES, which is its label."
    if len(lost) < len(folders):
        raise ValueError(
            f"The photos count as unlabelled: CLASSES does not name {', '.join(lost)}."
        )
    if len(folders) != classes:
        raise ValueError(
            f"The photos count as unlabelled: they lie in {len(folders)} folders, and the net has "
            f"{classes:,} classes; name them all in CLASSES, in the order of the net's answer."
        )
    order = ", ".join(f"{folder} = class {number}" for number, folder in enumerate(folders[:10]))
    more = ", ..." if classes > 10 else ""
    return np.arange(classes), (
        f"It is assumed that the folders in alphabetical order are the classes: {order}{more}."
    )


def _singular(name):
    return str(name).strip().casefold().removesuffix("s")
