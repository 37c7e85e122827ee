"""Models and photos, read from files."""

from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageOps

PHOTOS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def load_model(path):
    """The image classifier saved at `path` (.keras or .h5), without its optimizer.

    Raises ValueError, in one sentence, if there is no such file or if it is no Keras model.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no model file {str(path)!r}: give the path of a .keras file.")
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged file can fail anywhere in the readers
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be loaded as a Keras model: {reason}") from error
    return model


def load_photos(source, size):
    """Photos as (n, height, width, 3) float32, RGB from 0 to 255, and their names (n strings).

    `source` is a folder (the photos directly in it, by name), a file or a list of files. Each
    photo is turned as its Exif tag says and squashed to `size`: an int, or (height, width).
    Raises ValueError if a path is wrong, a file is no photo or a folder holds none.
    """
    if isinstance(source, (str, Path)):
        source = Path(source)
        if source.is_dir():
            files = sorted(file for file in source.iterdir() if file.suffix.lower() in PHOTOS)
            if not files:
                raise ValueError(f"The folder {str(source)!r} holds no photo (.jpg, .png, ...).")
        else:
            files = [source]
    else:
        files = [Path(file) for file in source]
    height, width = np.broadcast_to(size, 2).tolist()
    photos = np.empty((len(files), height, width, 3), np.float32)
    for photo, file in zip(photos, files):
        if not file.is_file():
            raise ValueError(f"There is no photo or folder {str(file)!r}: check the path.")
        try:
            with Image.open(file) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{str(file)!r} cannot be read as a photo.") from error
        photo[:] = upright.resize((width, height), Image.Resampling.BILINEAR)
    return photos, [file.stem for file in files]
