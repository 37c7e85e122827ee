"""HDF5 files as strangers may have made them: what they hold is checked before it is read."""

import math

import h5py

from .load_errors import Unusable

FLOOR = 2**26  # bytes that weights may take, however small their file
MAX_EXPANSION = 50  # times the bytes of its file that weights may take; stored as they are, 1 time


def check_weights(file: h5py.File, size: int) -> None:
    """Raises Unusable if anything in an open HDF5 file leads out of it, or claims to be too large.

    Links have to be hard ones: soft and external links, external storage and virtual data sets can
    turn the bytes of other files into weights. All data sets together may take `MAX_EXPANSION`
    times the `size` in bytes of the file that they came in, or `FLOOR`. Nothing is read or
    allocated but the structure of the file.
    """
    left = max(FLOOR, MAX_EXPANSION * size)
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
                left -= _claimed_bytes(name, item)
        if left < 0:
            raise Unusable(
                f"its weights claim to take more than {MAX_EXPANSION} times the room of the file."
            )


def _claimed_bytes(name, dataset):
    """How much memory reading a data set may take. Raises Unusable if it is not in the file."""
    if dataset.external or dataset.is_virtual:
        raise Unusable(f"its part {name!r} takes its numbers from another file.")
    chunk = math.prod(dataset.chunks or (0,))
    return max(math.prod(dataset.shape or (0,)), chunk) * dataset.dtype.itemsize
