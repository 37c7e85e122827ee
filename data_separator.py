"""Arrange labelled photos for training: data/train, data/validation, data/test, a folder per class.

    python data_separator.py SOURCE [--output data] [--split 80 10 10] [--seed 0]
                             [--copy] [--dry-run] [--download]

SOURCE is Kaggle's dogs-vs-cats.zip or train.zip, Microsoft's kagglecatsanddogs_5340.zip, the
unpacked folder of any of them, or any folder or zip with one folder per class. It is never changed.

From top to bottom, the script
1. lists every file, also those inside zips, and reads off its class;
2. looks at each photo and leaves out what cannot be trained on;
3. finds photos that are there twice: a copy in the test set makes a model look better than it is;
4. splits each class by the hash of its photos;
5. builds the result in a hidden folder and renames it once, so that it appears whole or not at all.

manifest.csv, in the result, has a row for every file: source, class, split (empty when left out),
reason (empty when kept), note, and the photo's name in the result.
"""

import argparse
import csv
import hashlib
import io
import mmap
import os
import re
import shutil
import stat
import struct
import sys
import urllib.request
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

# The photos keep all cores busy already; BLAS threads on top would wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SPLITS = ("train", "validation", "test")


class UserError(Exception):
    """The input cannot be used. The message says what it is and what to do."""


class PhotoError(Exception):
    """Why one file cannot be trained on: the reason in its row of the manifest."""


@dataclass
class File:
    """One file of the source, and what becomes of it."""

    source: str  # path inside the source, with /
    size: int  # bytes
    read: Callable[[], bytes] | None  # None: a link to a folder, a pipe, a device
    path: str = ""  # where it can be linked from; empty inside a zip
    label: str = ""
    split: str = ""
    reason: str = ""
    note: str = ""
    name: str = ""  # path inside the result
    suffix: str = ""
    pixels: int = 0  # width x height
    sha256: str = ""
    thumb: np.ndarray | None = None  # (THUMB, THUMB) uint8 luminance
    colour: np.ndarray | None = None  # (3,) mean B, G, R


# 1. The files and their classes

MAX_BYTES = 2**28  # of one file
MAX_CONTENTS = 40 * 2**20  # bytes of a zip's table of contents: some 400,000 photos
MAX_RATIO = 100  # photos hardly compress, zip bombs a thousandfold
MAX_DEPTH = 2  # a folder may hold dogs-vs-cats.zip, which holds train.zip
SPLIT_NAME = re.compile(r"train(ing)?|val(id(ation)?)?|test(ing)?\d*", re.IGNORECASE)


def find_files(source, output):
    """Every file of a folder or zip, sorted by path, with its class. OUTPUT is passed over."""
    if source.is_dir():
        files = list(folder_files(source, output))
    elif source.is_file():
        files = list(zip_files(map_file(source), source.name))
    else:
        raise UserError(f"{source} does not exist: give a zip or a folder, or add --download.")
    folders = {folder for file in files for folder in file.source.split("/")[:-1]}
    # A folder "train" is no class beside a folder "test"; beside "bus" it is one.
    splits = {clean(folder) for folder in folders if SPLIT_NAME.fullmatch(clean(folder))}
    for file in files:
        file.label = class_of(file.source, splits if len(splits) > 1 else ())
    return sorted(files, key=lambda file: file.source)


def class_of(source, splits=()):
    """Kaggle's cat.0.jpg is a cat; otherwise the folder that a photo lies in names its class."""
    *folders, name = source.split("/")
    kaggle = re.fullmatch(r"(cat|dog)\.\d+\.jpe?g", name, re.IGNORECASE)
    label = kaggle[1] if kaggle else clean((folders or [""])[-1])
    if label in splits or label.startswith("."):
        return ""
    return {"cat": "cats", "dog": "dogs"}.get(label.lower().removesuffix("s"), label)


def clean(name):
    """A name that every file system can store, without the .zip of a zipped folder."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", re.sub(r"(?i)\.zip$", "", name))[:100].rstrip(". ")


def folder_files(folder, output):
    own = {output.resolve(), partial_result(output).resolve()}
    for place, folders, names in os.walk(folder, onerror=raise_error):
        folders[:] = [name for name in folders if Path(place, name).resolve() not in own]
        for name in names + [name for name in folders if Path(place, name).is_symlink()]:
            path = Path(place, name)
            source = path.relative_to(folder).as_posix()
            if not path.is_file():
                yield File(source, 0, None)
            elif path.suffix.lower() == ".zip":
                yield from zip_files(map_file(path), source, source + "/", depth=1)
            else:
                yield File(source, path.stat().st_size, path.read_bytes, str(path))


def raise_error(error):
    raise error


def map_file(path):
    with open(path, "rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file
            return b""


def zip_files(view, name, prefix="", depth=0):
    """Files of a zip, given as a buffer. They are read where they lie, inner zips in memory."""
    try:
        if contents_size(view) > MAX_CONTENTS:
            raise UserError(f"{name} lists far too many files: it is refused.")
        file = io.BytesIO(view) if isinstance(view, bytes) else view
        infos = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError) as error:
        raise UserError(f"{name} is not a whole zip archive ({error}): get it again.") from None
    if sum(info.file_size for info in infos) > MAX_RATIO * (len(view) + 2**20):
        raise UserError(f"{name} would unpack to over {MAX_RATIO} times its size: it is refused.")
    for info in infos:
        inside = info.filename.replace("\\", "/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if re.match(r"/|[A-Za-z]:|$", inside) or ".." in inside.split("/"):
            raise UserError(f"{name} holds a path out of itself, {inside[:99]!r}: it is refused.")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{name} holds a link or device, {inside[:99]!r}: it is refused.")
        if info.flag_bits & 1 or info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise UserError(f"{name} is encrypted or packed in a rare way: give it unpacked.")
        source = prefix + inside
        if inside.lower().endswith(".zip") and depth < MAX_DEPTH:
            if info.file_size > 10 * info.compress_size + 2**20:  # zips hardly shrink once more
                raise UserError(f"{source} would unpack to over 10 times its size: it is refused.")
            yield from zip_files(unpack(view, info), source, source + "/", depth + 1)
        elif not inside.endswith("/"):
            yield File(source, info.file_size, partial(unpack, view, info))


def contents_size(view):
    """Bytes of a zip's table of contents, told before the table is read."""
    end = view.rfind(b"PK\x05\x06")
    if end < 0:
        raise zipfile.BadZipFile("it has no table of contents")
    size = struct.unpack_from("<L", view, end + 12)[0]
    if size == 0xFFFFFFFF:
        size = struct.unpack_from("<Q", view, view.rfind(b"PK\x06\x06", 0, end) + 40)[0]
    return size


def unpack(view, info):
    """The bytes of one entry, from any thread. (ZipFile.read takes several times as long.)"""
    signature, names, extra = struct.unpack_from("<4s22xHH", view, info.header_offset)
    begin = info.header_offset + 30 + names + extra
    data = view[begin : begin + info.compress_size]
    if info.compress_type == zipfile.ZIP_DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, info.file_size or 1)
    if (signature, len(data), zlib.crc32(data)) != (b"PK\x03\x04", info.file_size, info.CRC):
        raise zipfile.BadZipFile(f"{info.filename} is damaged in the archive")
    return data


# 2. What can be trained on

MAX_PIXELS = 89_478_485  # where Pillow begins to suspect a decompression bomb
Image.MAX_IMAGE_PIXELS = None  # and would print a warning
FORMATS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG",
    "BMP": rb"BM",
    "GIF": rb"GIF8",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "WEBP": rb"RIFF....WEBP",
}
REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}
# What ends a scan of a JPEG: a marker that may follow (group 1), or one that has no business there.
SCAN_END = re.compile(rb"\xff(?:([\xc4\xd9-\xdb\xdd\xe0-\xef\xfe])|[^\x00\xd0-\xd7\xff])")
THUMB = 40  # side of the thumbnails that are compared, pixels


def inspect(file):
    """Fill in what is needed to compare and split a photo, or the reason why it is left out."""
    try:
        data = read(file)
        kind = next((k for k, start in FORMATS.items() if re.match(start, data, re.DOTALL)), None)
        if not kind:
            raise PhotoError("not an image")
        if not file.label:
            raise PhotoError("no label")
        look = look_at_jpeg if kind == "JPEG" else look_at_other
        picture, file.pixels, file.note = look(data, kind)
    except PhotoError as error:
        file.reason = str(error)
        return
    file.suffix = ".jpg" if kind == "JPEG" and not file.note else ".png"
    file.sha256 = hashlib.sha256(data).hexdigest()
    file.colour = np.array(cv2.mean(picture)[:3])
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    file.thumb = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)


def read(file):
    if file.read is None:
        raise PhotoError("not a plain file")
    if file.size == 0:
        raise PhotoError("empty")
    if file.size > MAX_BYTES:
        raise PhotoError("too large")
    try:
        return file.read()
    except (OSError, zipfile.BadZipFile, zlib.error, struct.error):
        raise PhotoError("unreadable") from None


def look_at_jpeg(data, kind):
    """(BGR photo decoded no larger than needed, its full size in pixels, how it is to be saved).

    At reduced size, too, OpenCV gives nothing for a JPEG that breaks off; nor does TensorFlow.
    """
    frame, width, height, channels, exif, scan = jpeg_header(data)
    if width * height > MAX_PIXELS:
        raise PhotoError("too large")
    size = next(REDUCED[s] for s in REDUCED if min(width, height) // s >= THUMB or s == 1)
    picture = decode(data, size | cv2.IMREAD_IGNORE_ORIENTATION)
    end = SCAN_END.search(data, scan + 2 if frame < 0xC2 else data.rfind(b"\xff\xda") + 2)
    if not end or not end[1]:
        raise PhotoError("damaged")  # TensorFlow minds, though OpenCV does not
    if frame < 0xC2 and (picture[-1, -1] == 128).all():
        # Mid grey is what libjpeg paints when a scan ends early. If more data before the end
        # change the picture, there were not enough.
        longer = data[: end.start()] + bytes(range(80)) + data[end.start() :]
        if (picture != decode(longer, size | cv2.IMREAD_IGNORE_ORIENTATION)).any():
            raise PhotoError("damaged")
    if exif and not np.array_equal(picture, upright := decode(data, size)):
        return upright, width * height, f"{kind} turned upright, saved as PNG"
    return picture, width * height, f"CMYK {kind}, saved as RGB PNG" if channels == 4 else ""


def jpeg_header(data):
    """(start-of-frame marker, width, height, channels, whether it has Exif, start of the scan)."""
    at, exif, frame = 2, False, None
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xDA and frame:
            return *frame, exif, at
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack_from(">HHB", data, at + 5)
            frame = marker, width, height, channels
        exif |= marker == 0xE1
        at += 1 if marker == 0xFF else 2 + length  # 0xFF only fills
    raise PhotoError("damaged")


def look_at_other(data, kind):
    """The same for the other formats. Only a PNG that all readers decode alike stays as it is."""
    try:
        header = Image.open(io.BytesIO(data), formats=[kind])
        if header.width * header.height > MAX_PIXELS:
            raise PhotoError("too large")
        if kind == "PNG" and b"IEND\xaeB`\x82" not in data:  # TensorFlow minds
            raise PhotoError("damaged")
        picture = decode(data, cv2.IMREAD_COLOR)
        alike = kind == "PNG" and np.array_equal(picture[..., ::-1], header.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        raise PhotoError("damaged") from None
    return picture, header.width * header.height, "" if alike else f"{kind}, saved as RGB PNG"


def decode(data, flags):
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None:
        raise PhotoError("damaged")
    return picture


# 3. Photos that are there twice

ALIKE = 0.92  # correlation of the descriptors of two photos that are worth a close look
# Mean squared difference of two photos, relative to their variance, below which they are the same.
# In Kaggle's photos it is 0.002 at most where a photo is there twice, 0.02 at most after a shift by
# a pixel, a change of size or of quality, and 0.09 at least between two shots of one cat.
SAME = 0.04


def leave_out_copies(photos):
    """Keep one photo of a group with one label and none of a group with two. Returns the kept."""
    kept = []
    for group in group_same(photos):
        best, *copies = sorted(group, key=lambda file: (-file.pixels, file.sha256, file.source))
        if len({file.label for file in group}) == 1:
            kept.append(best)
            for file in copies:
                file.reason, file.note = "duplicate", f"same photo as {best.source}"
        else:
            for file in group:
                others = ", ".join(other.source for other in group if other is not file)
                file.reason, file.note = "two labels", f"same photo as {others}"
    return kept


def group_same(photos):
    """Lists of files that show the same photo. Most lists hold one."""
    by_hash = defaultdict(list)
    for file in photos:
        by_hash[file.sha256].append(file)
    unique = [files[0] for files in by_hash.values()]
    parent = list(range(len(unique)))

    def root(i):
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for i, j in alike_pairs(np.stack([file.thumb for file in unique])):
        if root(i) != root(j) and same_photo(unique[i], unique[j]):
            parent[root(i)] = root(j)
    groups = defaultdict(list)
    for i, files in enumerate(by_hash.values()):
        groups[root(i)] += files
    return groups.values()


def alike_pairs(thumbs, tile=512):
    """Index pairs of photos whose descriptors correlate.

    A descriptor holds the lowest 8 x 8 frequencies of the cosine transform without the mean, scaled
    to length 1. Like a perceptual hash, it survives resizing, compression and a small shift.
    """
    small = thumbs.reshape(-1, 20, 2, 20, 2).mean((2, 4), dtype=np.float32)
    basis = np.cos(np.pi * np.arange(8)[:, None] * (np.arange(20) + 0.5) / 20) / np.sqrt(10)
    basis[0] /= np.sqrt(2)
    basis = basis.astype(np.float32)
    low = (basis @ small @ basis.T).reshape(-1, 64)[:, 1:]
    low /= np.linalg.norm(low, axis=1, keepdims=True).clip(0.1)  # 0.1: a flat photo resembles none
    # Two unit vectors that correlate differ by little in each coordinate: sorted by the widest one,
    # most pairs are never looked at.
    widest = low.std(axis=0).argmax()
    order = np.argsort(low[:, widest])
    low = low[order]
    key = low[:, widest]
    reach = np.sqrt(2 - 2 * ALIKE)
    for i in range(0, len(low), tile):
        last = key[min(i + tile, len(key)) - 1]
        for j in range(i, np.searchsorted(key, last + reach), tile):
            alike = low[i : i + tile] @ low[j : j + tile].T > ALIKE
            for a, b in np.argwhere(np.triu(alike, 1) if i == j else alike) if alike.any() else ():
                yield order[i + a], order[j + b]


def same_photo(a, b):
    """Compare two thumbnails pixel by pixel, at the shift of up to 2.5 % where they agree best."""
    if min(np.ptp(a.colour), np.ptp(b.colour)) > 4 and np.abs(a.colour - b.colour).max() > 8:
        return False  # both have colours, and not the same
    x, y = (
        cv2.GaussianBlur(cv2.resize(file.thumb.astype(np.float32), None, fx=4, fy=4), (0, 0), 3)
        for file in (a, b)
    )
    core = x[4:-4, 4:-4]
    difference = cv2.matchTemplate(y, core, cv2.TM_SQDIFF).min() / core.size
    return difference < SAME * min(x.var(), y.var())


# 4. The split


def assign(kept, shares, seed):
    """Give each kept photo its split and its name in the result."""
    classes = defaultdict(list)
    for file in kept:
        classes[file.label].append(file)
    if len(classes) < 2:
        raise UserError(
            f"Two classes or more are needed, but the photos are of {len(classes)}"
            f" ({', '.join(classes) or 'none'}): make one folder per class."
        )
    for files in classes.values():
        splits = split_of([file.sha256 for file in files], shares, seed)
        names = Counter(result_name(file).lower() for file in files)
        for file in files:
            name = result_name(file)
            if names[name.lower()] > 1:
                name = f"{file.sha256[:16]}-{name}"
            file.split = splits[file.sha256]
            file.name = f"{file.split}/{file.label}/{name}"


def split_of(hashes, shares, seed):
    """{hash: split}. Sorted by a seeded hash and cut at the shares, the counts are exact; neither
    machine nor order matters, and adding photos moves only those that lie near a cut."""
    keyed = sorted(hashes, key=lambda h: hashlib.sha256(f"{seed}:{h}".encode()).digest())
    sums = [sum(shares[:k]) for k in range(4)]
    cuts = [int(len(keyed) * part / sums[3] + Fraction(1, 2)) for part in sums]
    return {h: name for name, (a, b) in zip(SPLITS, pairwise(cuts)) for h in keyed[a:b]}


def result_name(file):
    """The photo's own name, with a suffix that Keras lists and that fits a converted photo."""
    stem, suffix = os.path.splitext(file.source.rpartition("/")[2])
    if file.note or suffix.lower() not in (".jpg", ".jpeg", ".png"):
        suffix = file.suffix
    return (clean(stem) or file.sha256[:16]) + suffix


# 5. The result


def build(kept, manifest, output, copy):
    """Write everything to a hidden folder beside OUTPUT, then rename it."""
    folder = partial_result(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with locked(output.parent) as alone:
        if output.exists():  # another run was faster
            return check_same(kept, manifest, output)
        if alone:  # what is there was left by a run that was killed
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.exists():
            raise UserError(f"{folder} is there: remove it, unless another run is at work on it.")
        folder.mkdir()
        try:
            for split in {file.split for file in kept}:
                for label in {file.label for file in kept}:
                    Path(folder, split, label).mkdir(parents=True)
            Path(folder, "manifest.csv").write_bytes(manifest)
            in_parallel(partial(write, folder=folder, copy=copy), kept, "Writing")
            os.rename(folder, output)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def partial_result(output):
    return output.with_name(f".{output.name}.unfinished-by-data_separator")


@contextmanager
def locked(folder):
    """Wait until no other process holds FOLDER; the system lets go of it when a process dies.
    Yields whether that could be had: not on Windows, nor on every network drive."""
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        alone = True
    except (AttributeError, OSError):
        alone = False
    try:
        yield alone
    finally:
        if handle is not None:
            os.close(handle)


def write(file, folder, copy):
    target = f"{folder}/{file.name}"
    if file.path and not (copy or file.note or os.path.islink(file.path)):
        try:
            return os.link(file.path, target)
        except OSError:  # another file system, or one without links
            pass
    data = file.read()
    if file.note:
        data = cv2.imencode(".png", decode(data, cv2.IMREAD_COLOR))[1]
    with open(target, "xb") as out:
        out.write(data)


def check_same(kept, manifest, output):
    """A result that is there already is left alone, whether it is the wanted one or not."""
    if Path(output, "manifest.csv").read_bytes() != manifest:
        raise UserError(f"{output} holds another result: remove it or give another --output.")
    if not all(Path(output, file.name).is_file() for file in kept):
        raise UserError(f"Photos are missing from {output}: remove it and run this again.")


# Microsoft's archive

ARCHIVE_URL = (
    "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
    "kagglecatsanddogs_5340.zip"
)
ARCHIVE_SIZE = 824_887_076
ARCHIVE_SHA256 = "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9"


def download(target):
    """Fetch the archive to TARGET, going on where an earlier download broke off."""
    part = target.with_name(target.name + ".part")
    if target.exists():
        if not is_archive(target):
            raise UserError(f"{target} is not Microsoft's archive: give a SOURCE to download to.")
        return
    with open(part, "ab") as file:
        try:
            if file.tell() < ARCHIVE_SIZE:
                fetch(file)
        except (OSError, HTTPException) as error:
            raise UserError(
                f"The download stopped at {file.tell():,} of {ARCHIVE_SIZE:,} bytes ({error})."
                " The same command goes on from there."
            ) from None
    if not is_archive(part):
        part.unlink()
        raise UserError(f"{ARCHIVE_URL} sent something else than expected (its sha256 differs).")
    os.rename(part, target)


def fetch(file):
    request = urllib.request.Request(ARCHIVE_URL, headers={"Range": f"bytes={file.tell()}-"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        if reply.status != 206:  # all of it, from the start
            file.truncate(0)
            file.seek(0)
        size = {"total": ARCHIVE_SIZE, "initial": file.tell(), "unit": "B", "unit_scale": True}
        with tqdm(**size, disable=None) as bar:
            while file.tell() < ARCHIVE_SIZE and (chunk := reply.read1(2**20)):
                bar.update(file.write(chunk))
    if file.tell() < ARCHIVE_SIZE:
        raise HTTPException("the server sent no more")


def is_archive(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == ARCHIVE_SHA256


# All together


def arrange(source, output, shares, seed, copy, dry_run):
    """All five steps. Returns a summary."""
    exists = os.path.lexists(output)
    if exists and not Path(output, "manifest.csv").is_file():
        raise UserError(f"{output} exists and is not a result of this: give another --output.")
    files = find_files(source, output)
    with quiet():
        in_parallel(inspect, files, "Looking")
    photos = [file for file in files if not file.reason]
    kept = leave_out_copies(photos) if photos else []
    assign(kept, shares, seed)
    rows = [("source", "class", "split", "reason", "note", "file")]
    rows += [(f.source, f.label, f.split, f.reason, f.note, f.name) for f in files]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    manifest = text.getvalue().encode("utf-8", "surrogateescape")
    if dry_run:
        return summary(files) + "dry run: nothing was written"
    if exists:
        check_same(kept, manifest, output)
    else:
        build(kept, manifest, output, copy)
    return summary(files) + f"{output} is complete, with every file's fate in its manifest.csv"


def in_parallel(function, items, title):
    """Call a function on all items, on all cores: its work is done outside Python's lock."""
    parts = [items[i : i + 64] for i in range(0, len(items), 64)]
    with (
        tqdm(total=len(items), desc=title, unit=" files", file=sys.stdout, disable=None) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for done in pool.map(lambda part: [function(item) for item in part], parts):
            bar.update(len(done))


@contextmanager
def quiet():
    """Hide what image libraries print about damaged photos: the manifest says it."""
    screen = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)


def summary(files):
    kept = Counter((file.split, file.label) for file in files if file.split)
    left = Counter(file.reason for file in files if file.reason)
    converted = sum(bool(file.split and file.note) for file in files)
    lines = [f"found {len(files):,} files"]
    lines += [f"kept {kept.total():,}, {converted:,} of them converted"]
    for split in SPLITS:
        counts = sorted((label, count) for (name, label), count in kept.items() if name == split)
        lines += [f"  {split:<12}{label:<12}{count:>8,}" for label, count in counts]
    lines += [f"left out {left.total():,}"]
    lines += [f"  {reason:<24}{count:>8,}" for reason, count in left.most_common()]
    return "\n".join(lines) + "\n"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "source",
        type=Path,
        nargs="?",
        default=Path(ARCHIVE_URL).name,
        help="a zip or folder of labelled photos (%(default)s)",
    )
    parser.add_argument("--output", type=Path, default=Path("data"), help="a new folder (data)")
    shares = {"metavar": ("TRAIN", "VALIDATION", "TEST"), "default": [Fraction(80), 10, 10]}
    parser.add_argument("--split", type=Fraction, nargs=3, help="shares (80 10 10)", **shares)
    parser.add_argument("--seed", type=int, default=0, help="another seed, another split")
    parser.add_argument("--copy", action="store_true", help="copy photos, never link them")
    parser.add_argument("--dry-run", action="store_true", help="write nothing, say what would be")
    parser.add_argument("--download", action="store_true", help="first fetch Microsoft's archive")
    args = parser.parse_args(arguments)
    if min(args.split) < 0 or not sum(args.split):
        parser.error("--split takes three shares, none negative, such as 80 10 10")
    cv2.setNumThreads(1)
    try:
        if args.download and not args.dry_run:
            download(args.source)
        print(arrange(args.source, args.output, args.split, args.seed, args.copy, args.dry_run))
    except UserError as error:
        sys.exit(str(error))
    except (OSError, zipfile.BadZipFile, zlib.error, struct.error, MemoryError) as error:
        sys.exit(f"{error}: nothing was written to {args.output}.")
    except KeyboardInterrupt:
        sys.exit(f"Stopped: nothing was written to {args.output}.")


if __name__ == "__main__":
    main()
