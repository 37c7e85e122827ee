"""Files in zip archives, also in archives inside them, read within bounds.

What an archive says of itself may be wrong: sizes are bounded by its table of contents, and again
while it is unpacked. Nothing is ever written to a path that an archive names.
"""

import io
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

# What `read_entry` raises for an entry that is damaged, or not packed as the archive says.
UNREADABLE = (
    *(OSError, zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(ValueError, OverflowError, NotImplementedError, RuntimeError),
)
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # how entries may be packed
MAX_DEPTH = 10  # archives inside each other
MAX_INNER_BYTES = 2**31  # of all archives inside an archive, which are kept in memory
MAX_FILES = 2_000_000  # in all archives together; each takes about 1 kB of memory
MAX_TABLE_BYTES = 64 * MAX_FILES  # of the table of contents of one archive
MAX_RATIO = 1032  # to which deflate can shrink its input; beyond it, entries overlap
CHUNK = 2**20  # bytes that are unpacked at once


class ArchiveError(Exception):
    """Why an archive is not read, as a sentence."""


class Entry(NamedTuple):
    """A file in an archive."""

    path: str  # with /, through the archives that it lies in
    size: int  # bytes, as the archive says
    read: Callable[[], bytes]  # from any thread; raises UNREADABLE


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """The bytes of one entry. Raises BadZipFile if they are more than `limit` or than the archive
    says, and UNREADABLE if the entry is damaged.
    """
    if info.file_size > limit:
        raise zipfile.BadZipFile(f"{info.filename} is larger than {limit:,} bytes")
    chunks = []
    with archive.open(info) as file:
        while chunk := file.read(CHUNK):  # no more than file_size bytes, whose checksum is checked
            chunks.append(chunk)
    return b"".join(chunks)


def zip_entries(file: Path, name: str, closing: ExitStack, prefix: str = "") -> Iterator[Entry]:
    """Every file in the zip `file`, and in zips inside it; `prefix` begins their paths.

    The entries can be read until `closing` closes the zip.

    Raises ArchiveError, which gives the archive's `name`, if one is damaged, encrypted, nested too
    deep or too large.
    """
    opened = closing.enter_context(io.FileIO(file))
    yield from _entries(opened, name, prefix, _Bounds())


class _Bounds:
    """What the archives inside an archive have used up so far."""

    def __init__(self):
        self.inner_bytes = 0
        self.files = 0

    def add_archive(self, info, name):
        self.inner_bytes += info.file_size
        if self.inner_bytes > MAX_INNER_BYTES:
            raise ArchiveError(
                f"{name} and the archives before it take more than {MAX_INNER_BYTES / 2**30:g} GB: "
                "unpack the outer archive first."
            )

    def add_files(self, infos, size, name):
        self.files += len(infos)
        if self.files > MAX_FILES:
            raise ArchiveError(f"{name} makes it more than {MAX_FILES:,} files: give fewer.")
        if sum(info.file_size for info in infos) > MAX_RATIO * size:
            raise ArchiveError(
                f"{name} claims to hold more than fits into it: it may be a zip bomb."
            )


class _BoundedReader(io.BufferedReader):
    """A file that gives no more at once than a table of contents may have."""

    def __init__(self, raw):
        super().__init__(raw)
        self.size = self.seek(0, io.SEEK_END)

    def read(self, size=-1):
        if size is None or not 0 <= size <= CHUNK:
            left = max(0, self.size - self.tell())
            size = left if size is None or size < 0 else min(size, left)
            if size > MAX_TABLE_BYTES:
                raise zipfile.BadZipFile("its table of contents is too large")
        return super().read(size)


def _entries(file, name, prefix, bounds, depth=0):
    infos, archive, size = _opened(file, name)
    lock = threading.Lock()  # two threads must not move about in the file at once
    bounds.add_files(infos, size, name)
    for info in infos:
        path = prefix + info.filename.replace("\\", "/")
        if info.flag_bits & 1 or info.compress_type not in PACKED:
            raise ArchiveError(f"{name} is encrypted or packed in a rare way: give it unpacked.")
        if path.lower().endswith(".zip"):
            if depth + 1 >= MAX_DEPTH:
                raise ArchiveError(
                    f"{name} lies in {depth} other archives and holds more: unpack it first."
                )
            bounds.add_archive(info, path)
            try:
                inner = read_entry(archive, info, MAX_INNER_BYTES)
            except UNREADABLE as error:
                raise ArchiveError(_not_whole(path, error)) from error
            yield from _entries(io.BytesIO(inner), path, path + "/", bounds, depth + 1)
        elif not path.endswith("/"):
            yield Entry(path, info.file_size, partial(_read_locked, lock, archive, info))


def _read_locked(lock, archive, info):
    with lock:
        return read_entry(archive, info, info.file_size)


def _opened(file, name):
    """(entries, ZipFile, bytes of the file)."""
    try:
        reader = _BoundedReader(file)
        archive = zipfile.ZipFile(reader)
        return archive.infolist(), archive, reader.size
    except UNREADABLE as error:
        raise ArchiveError(_not_whole(name, error)) from error


def _not_whole(name, error):
    return f"{name} is not a whole zip archive ({error}): get it again."
