"""Is a photo whole, and is it there twice? The checks that data_separator.py makes."""

import hashlib
import io
import os
import re
import struct
from collections import defaultdict
from dataclasses import dataclass

# data_separator.py keeps all cores busy already; more threads would only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np
from PIL import Image

cv2.setNumThreads(1)


class PhotoError(Exception):
    """Why a file cannot be trained on. The message is the reason in its row of the manifest."""


@dataclass
class Photo:
    """What is needed to compare, split and save a whole photo."""

    sha256: str  # of its file
    pixels: int  # width x height
    suffix: str  # that its file in the result needs
    note: str  # how it has to be converted; empty: its file stays as it is
    thumb: np.ndarray  # (THUMB, THUMB) uint8 luminance
    colour: np.ndarray  # (3,) float64 mean B, G, R


# Whole or not

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
# What ends a scan of a JPEG (ITU-T T.81, 1992, B.1.1): a marker that may follow (group 1), or one
# that has no business there.
SCAN_END = re.compile(rb"\xff(?:([\xc4\xd9-\xdb\xdd\xe0-\xef\xfe])|[^\x00\xd0-\xd7\xff])")
TABLES = b"\xc4\xda\xdb\xdd"  # the second bytes of DHT, SOS, DQT, DRI
EOI = b"\xff\xd9"  # end of image
THUMB = 40  # side of the thumbnails that are compared, pixels


def image_format(data):
    """The key in FORMATS of a file's bytes. Raises PhotoError."""
    for kind, start in FORMATS.items():
        if re.match(start, data, re.DOTALL):
            return kind
    raise PhotoError("not an image")


def inspect(data, kind):
    """The Photo in a file's bytes, of a format in FORMATS. Raises PhotoError if it is not whole.

    Whole is what OpenCV and TensorFlow can read to the end. A photo that they or Pillow would show
    differently, such as one that Exif turns, gets a note.
    """
    look = _look_at_jpeg if kind == "JPEG" else _look_at_other
    picture, pixels, note = look(data, kind)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return Photo(
        sha256=hashlib.sha256(data).hexdigest(),
        pixels=pixels,
        suffix=".jpg" if kind == "JPEG" and not note else ".png",
        note=note,
        thumb=cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA),
        colour=np.array(cv2.mean(picture)[:3]),
    )


def _look_at_jpeg(data, kind):
    """(BGR photo decoded no larger than needed, its full size in pixels, note).

    At reduced size, too, OpenCV gives nothing for a JPEG that breaks off; nor does TensorFlow.
    """
    frame, width, height, channels, exif, scan = _jpeg_header(data)
    if width * height > MAX_PIXELS:
        raise PhotoError("too large")
    size = next(REDUCED[s] for s in REDUCED if min(width, height) // s >= THUMB or s == 1)
    picture = _decode(data, size | cv2.IMREAD_IGNORE_ORIENTATION)
    if frame < 0xC2:  # OpenCV itself notices damage to a progressive one
        end = SCAN_END.search(data, scan + 2)
        last = data[scan + 4] == channels  # no tables or further scan may follow
        if not end or not end[1] or (last and end[1] in TABLES) or data.find(EOI, end.start()) < 0:
            raise PhotoError("damaged")  # TensorFlow minds, though OpenCV does not
        if (picture[-1, -1] == 128).all():
            # Mid grey is what libjpeg paints when a scan ends early. If more data before the end
            # change the picture, there were not enough.
            longer = data[: end.start()] + bytes(range(80)) + data[end.start() :]
            if (picture != _decode(longer, size | cv2.IMREAD_IGNORE_ORIENTATION)).any():
                raise PhotoError("damaged")
    if exif and not np.array_equal(picture, upright := _decode(data, size)):
        return upright, width * height, f"{kind} turned upright, saved as PNG"
    return picture, width * height, f"CMYK {kind}, saved as RGB PNG" if channels == 4 else ""


def _jpeg_header(data):
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


def _look_at_other(data, kind):
    """The same for the other formats. Only a PNG that all readers decode alike stays as it is."""
    try:
        header = Image.open(io.BytesIO(data), formats=[kind])
        if header.width * header.height > MAX_PIXELS:
            raise PhotoError("too large")
        if kind == "PNG" and b"IEND\xaeB`\x82" not in data:  # TensorFlow minds
            raise PhotoError("damaged")
        picture = _decode(data, cv2.IMREAD_COLOR)
        alike = kind == "PNG" and np.array_equal(picture[..., ::-1], header.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        raise PhotoError("damaged") from None
    return picture, header.width * header.height, "" if alike else f"{kind}, saved as RGB PNG"


def _decode(data, flags):
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None:
        raise PhotoError("damaged")
    return picture


def as_png(data):
    """The bytes of a photo's file as those of an RGB PNG file, upright."""
    return cv2.imencode(".png", _decode(data, cv2.IMREAD_COLOR))[1].tobytes()


# There twice

ALIKE = 0.92  # correlation of the descriptors of two photos that are worth a close look
# Mean squared difference of two photos, relative to their variance, below which they are the same.
# In Kaggle's photos it is 0.002 at most where a photo is there twice, 0.02 at most after a shift by
# a pixel, a change of size or of quality, and 0.09 at least between two shots of one cat.
SAME = 0.04


def group_duplicates(photos):
    """Lists of indices of photos that show the same, also by way of a third. Most hold one."""
    by_hash = defaultdict(list)
    for i, photo in enumerate(photos):
        by_hash[photo.sha256].append(i)
    unique = [photos[same[0]] for same in by_hash.values()]
    parent = list(range(len(unique)))

    def root(i):
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for i, j in alike_pairs(np.stack([photo.thumb for photo in unique])):
        if root(i) != root(j) and same_photo(unique[i], unique[j]):
            parent[root(i)] = root(j)
    groups = defaultdict(list)
    for i, same in enumerate(by_hash.values()):
        groups[root(i)] += same
    return list(groups.values())


def alike_pairs(thumbs, tile=512):
    """Index pairs of the thumbnails (n, THUMB, THUMB) whose descriptors correlate.

    A descriptor holds the lowest 8 x 8 frequencies of the cosine transform without the mean, scaled
    to length 1. Like the perceptual hash of Zauner 2010 (Implementation and benchmarking of
    perceptual image hash functions), it survives resizing, compression and a small shift.
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
        cv2.GaussianBlur(cv2.resize(photo.thumb.astype(np.float32), None, fx=4, fy=4), (0, 0), 3)
        for photo in (a, b)
    )
    core = x[4:-4, 4:-4]
    difference = cv2.matchTemplate(y, core, cv2.TM_SQDIFF).min() / core.size
    return difference < SAME * min(x.var(), y.var())
