"""HDF5 files as strangers may have made them: what they hold is checked before it is read."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import keras
import numpy as np

from .load_errors import Unusable

FLOOR = 2**26  # bytes that weights may take, however small their file
MAX_EXPANSION = 50  # times the bytes of its file that weights may take; stored as they are, 1 time


MAX_UNSTORED = 2**24  # numbers that layers may hold beyond those in the file
ONE_MODEL = threading.RLock()  # is built at a time


def check_weights(file: h5py.File, size: int) -> int:
    """The bytes that the weights in an open HDF5 file take in memory.

    Raises Unusable if anything in an open HDF5 file leads out of it, or claims to be too large.

    Links have to be hard ones: soft and external links, external storage and virtual data sets can
    turn the bytes of other files into weights. All data sets together may take `MAX_EXPANSION`
    times the `size` in bytes of the file that they came in, or `FLOOR`. Nothing is read or
    allocated but the structure of the file.
    """
    total, limit = 0, max(FLOOR, MAX_EXPANSION * size)
    seen, waiting = set(), [file]
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Unusable(f"its part {name!r} is a link, perhaps to another file.")
            item = group[name]
            place = h5py.h5o.get_info(item.id)
            if (place.fileno, place.addr) in seen:  # a loop, or a second name
                continue
            seen.add((place.fileno, place.addr))
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                total += _claimed_bytes(name, item)
        if total > limit:
            raise Unusable(
                f"its weights claim to take more than {MAX_EXPANSION} times the room of the file."
            )
    return total


@contextmanager
def layers_no_larger_than(stored: int) -> Iterator[None]:
    """While a model is built, layers may hold no more numbers than its file, of `stored` bytes.

    Keras fills all weights with random numbers first. Raises Unusable before it does so for layers
    that the file describes as far larger than what it holds. Whole numbers of 4 bits take half a
    byte each, which is the least.
    """
    left = 2 * stored + MAX_UNSTORED
    add_weight = keras.Layer.add_weight

    def bounded(layer, shape=None, *arguments, **options):
        nonlocal left
        left -= math.prod(np.atleast_1d(() if shape is None else shape).tolist())
        if left < 0:
            raise Unusable(f"its layer {layer.name!r} is larger than the weights in the file.")
        return add_weight(layer, shape, *arguments, **options)

    with ONE_MODEL:
        keras.Layer.add_weight = bounded
        try:
            yield
        finally:
            keras.Layer.add_weight = add_weight


def _claimed_bytes(name, dataset):
    """How much memory reading a data set may take. Raises Unusable if it is not in the file."""
    if dataset.external or dataset.is_virtual:
        raise Unusable(f"its part {name!r} takes its numbers from another file.")
    chunk = math.prod(dataset.chunks or (0,))
    return max(math.prod(dataset.shape or (0,)), chunk) * dataset.dtype.itemsize
