"""HDF5 files as strangers may have made them: what they hold is checked before it is read."""

import math
import mmap
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import keras
import numpy as np

from .load_errors import DAMAGED, Unusable

SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEAP = b"GCOL\x01"  # how a heap of texts begins
FLOOR = 2**26  # bytes that weights may take, however small their file
MAX_EXPANSION = 50  # times the bytes of its file that weights may take; stored as they are, 1 time


MAX_ATTRIBUTE = 2**26  # bytes of the description of a model, for instance
STRUCTURE = 2**29  # bytes of memory that reading all but the weights may take
MAX_UNSTORED = 2**24  # numbers that layers may hold beyond those in the file
ONE_MODEL = threading.RLock()  # is built at a time


@contextmanager
def opened_checked(path: Path, size: int) -> Iterator[tuple[h5py.File, int]]:
    """An HDF5 file in which nothing leads out of it, and the bytes that its weights claim to take.

    Links have to be hard ones: soft and external links, external storage and virtual data sets can
    turn the bytes of other files into weights. All data sets together may take `MAX_EXPANSION`
    times the `size` in bytes of the file that they came in, or `FLOOR`. Nothing is read for that
    but the structure of the file and its attributes, within `bounded_memory`, since the length of a
    text in a damaged file can be any. Raises Unusable.
    """
    with ExitStack() as closing:
        try:
            _check_heaps(path)
            with bounded_memory(STRUCTURE):
                file = closing.enter_context(h5py.File(path))
                claimed = _check_structure(file, max(FLOOR, MAX_EXPANSION * size))
        except Unusable:
            raise
        except Exception as error:  # a damaged file can fail anywhere in the library
            raise Unusable(DAMAGED) from error
        yield file, claimed


def _check_heaps(path):
    """Raises Unusable for a heap of texts on which the HDF5 library would loop without end.

    A heap is a chain of objects, and one without a length leads the library to itself (HDF5 File
    Format Specification 3.0, III.E).
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        lengths = data[13:15] if data[8] < 2 else data[9:11]
        if data[:8] != SIGNATURE or lengths != b"\x08\x08":
            raise Unusable("it is no HDF5 file as Keras writes it.")
        start = data.find(HEAP)
        while start >= 0:
            if start + 16 <= len(data):
                _check_heap(data, start)
            start = data.find(HEAP, start + 1)


def _check_heap(data, start):
    (size,) = struct.unpack_from("<Q", data, start + 8)
    at, end = start + 16, start + size
    if size < 4096 or end > len(data):
        return  # the library refuses it, or these bytes are no heap
    while at + 16 <= end:
        index, length = struct.unpack_from("<H6xQ", data, at)
        needed = 16 + -(-length // 8) * 8 if index else length  # 0 is the room that is left
        if needed < 16 or at + needed > end:
            raise Unusable(DAMAGED)
        at += needed


def _check_structure(file, limit):
    seen, waiting, claimed = set(), [file], 0
    while waiting:
        group = waiting.pop()
        _check_attributes(group)
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
                _check_attributes(item)
                claimed += _claimed_bytes(name, item)
        if claimed > limit:
            raise Unusable(
                f"its weights claim to take more than {MAX_EXPANSION} times the room of the file."
            )
    return claimed


def _check_attributes(item):
    """Read all attributes, which Keras reads too, once within bounds."""
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        if math.prod(attribute.shape) * attribute.dtype.itemsize > MAX_ATTRIBUTE:
            raise Unusable(f"its {name} is larger than {MAX_ATTRIBUTE // 2**20} MB.")
        item.attrs[name]


def _claimed_bytes(name, dataset):
    """How much memory reading a data set may take. Raises Unusable if it is not in the file."""
    if dataset.external or dataset.is_virtual:
        raise Unusable(f"its part {name!r} takes its numbers from another file.")
    chunk = math.prod(dataset.chunks or (0,))
    return max(math.prod(dataset.shape or (0,)), chunk) * dataset.dtype.itemsize


@contextmanager
def bounded_memory(size: int) -> Iterator[None]:
    """On Linux, memory that would make the process grow by more than `size` bytes is refused.

    This holds for all threads, so it is only for milliseconds.
    """
    if sys.platform != "linux":
        yield
        return
    import resource  # Windows has none

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([used + size, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


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
