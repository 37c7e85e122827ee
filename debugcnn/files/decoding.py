"""Image files opened within bounds: few formats, and no more pixels than are allowed."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# Pillow reads dozens more, some by other programs: an EPS would be run by Ghostscript.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF")
MAX_PIXELS = 200_000_000  # width x height; 3 bytes each make 0.6 GB in memory
MAX_BYTES = 2**31  # of a file; Pillow reads a WebP or AVIF whole


class TooLarge(ValueError):
    """An image with more pixels or bytes than are allowed."""


@contextmanager
def opened_image(
    source: str | Path | bytes,
    formats: Sequence[str] = FORMATS,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Image.Image]:
    """The image in a file or in the bytes of a file. Its header is read, its pixels are not.

    `formats` are Pillow's names. Raises TooLarge if the header gives more than `max_pixels`,
    OSError if there is no such file or no image of these formats in it; a damaged header can raise
    nearly any exception. Pillow's own guard (179 megapixels, DecompressionBombError) is applied to
    the tiles of a TIFF, to WebP and to a GIF whose first frame enlarges it.

    Image.open would apply that guard, a global setting, to all formats.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else _regular_file(source) as file:
        if file.seek(0, os.SEEK_END) > MAX_BYTES:
            raise TooLarge(f"it is larger than {MAX_BYTES / 2**30:g} GB")
        file.seek(0)
        start = file.read(16)
        Image.init()
        for name in formats:
            factory, accept = Image.OPEN.get(name, (None, None))  # some Pillows lack AVIF
            if factory and accept and accept(start) is True:
                file.seek(0)
                image = factory(file, "")
                if image.width * image.height > max_pixels:
                    raise TooLarge(f"it has more than {max_pixels / 1e6:g} megapixels")
                yield image
                return
    raise UnidentifiedImageError("no image of a known format")


def _regular_file(path):
    if not os.path.isfile(path):  # opening a pipe would wait for whoever writes into it
        raise FileNotFoundError(f"{str(path)!r} is no regular file")
    return open(path, "rb")
