"""Is an image file intact? What OpenCV, TensorFlow and Pillow read to its end, and show alike."""

import hashlib
import re
import struct

import cv2
import numpy as np

from .decoding import MAX_PIXELS, TooLarge, opened_image
from .duplicates import THUMB, ImageFacts


class ImageError(Exception):
    """Why a file cannot be trained on. The message is the reason in its row of the manifest."""


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


def image_format(data: bytes) -> str:
    """The key in FORMATS of a file's bytes. Raises ImageError."""
    for kind, start in FORMATS.items():
        if re.match(start, data, re.DOTALL):
            return kind
    raise ImageError("not an image")


def inspect(data: bytes, kind: str, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """The ImageFacts of a file's bytes, of a format in FORMATS. Raises ImageError if not intact.

    Intact is what OpenCV and TensorFlow can read to the end. An image that they or Pillow would
    show differently, such as one that Exif rotates, gets a note. One of more than `max_pixels` is
    "too large", and not decoded.
    """
    look = _look_at_jpeg if kind == "JPEG" else _look_at_other
    image, pixels, note = look(data, kind, max_pixels)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return ImageFacts(
        sha256=hashlib.sha256(data).hexdigest(),
        pixels=pixels,
        suffix=".jpg" if kind == "JPEG" and not note else ".png",
        note=note,
        thumb=cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA),
        colour=np.array(cv2.mean(image)[:3]),
    )


def as_png(data: bytes) -> bytes:
    """The bytes of an image file as those of an RGB PNG file, upright."""
    return cv2.imencode(".png", _decode(data, cv2.IMREAD_COLOR))[1].tobytes()


def _look_at_jpeg(data, kind, max_pixels):
    """(BGR image decoded no larger than needed, its full size in pixels, note).

    At reduced size, too, OpenCV gives nothing for a JPEG that breaks off; nor does TensorFlow.
    """
    frame, width, height, channels, exif, scan = _jpeg_header(data)
    if width * height > max_pixels:
        raise ImageError("too large")
    size = next(REDUCED[s] for s in REDUCED if min(width, height) // s >= THUMB or s == 1)
    image = _decode(data, size | cv2.IMREAD_IGNORE_ORIENTATION)
    if frame < 0xC2:  # OpenCV itself notices damage to a progressive one
        _check_scan(data, scan, channels, image, size)
    if exif and not np.array_equal(image, upright := _decode(data, size)):
        return upright, width * height, f"{kind} turned upright, saved as PNG"
    return image, width * height, f"CMYK {kind}, saved as RGB PNG" if channels == 4 else ""


def _check_scan(data, scan, channels, image, size):
    """Raise ImageError if the first scan of a baseline JPEG is damaged, decoded to `image`."""
    end = SCAN_END.search(data, scan + 2)
    last = data[scan + 4] == channels  # no tables or further scan may follow
    if not end or not end[1] or (last and end[1] in TABLES) or data.find(EOI, end.start()) < 0:
        raise ImageError("damaged")  # TensorFlow minds, though OpenCV does not
    if (image[-1, -1] == 128).all():
        # Mid grey is what libjpeg paints when a scan ends early. If more data before the end
        # change the image, there were not enough.
        longer = data[: end.start()] + bytes(range(80)) + data[end.start() :]
        if (image != _decode(longer, size | cv2.IMREAD_IGNORE_ORIENTATION)).any():
            raise ImageError("damaged")


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
    raise ImageError("damaged")


def _look_at_other(data, kind, max_pixels):
    """The same for the other formats. Only a PNG that all readers decode alike stays as it is."""
    try:
        with opened_image(data, [kind], max_pixels) as header:
            if kind == "PNG" and b"IEND\xaeB`\x82" not in data:  # TensorFlow minds
                raise ImageError("damaged")
            image = _decode(data, cv2.IMREAD_COLOR)
            alike = kind == "PNG" and np.array_equal(image[..., ::-1], header.convert("RGB"))
            pixels = header.width * header.height
    except TooLarge:
        raise ImageError("too large") from None
    except ImageError:
        raise
    except Exception:  # a damaged file can fail anywhere in Pillow
        raise ImageError("damaged") from None
    return image, pixels, "" if alike else f"{kind}, saved as RGB PNG"


def _decode(data, flags):
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise ImageError("damaged")
    return image
