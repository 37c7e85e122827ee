"""Put damaged copies of small valid files to the readers of models and images.

    python -m tools.fuzz [--inputs 20000] [--seed 0] [--kind model]

Each input has to end with a model or an image, or with a ValueError of one line, in bounded time
and memory, and no other file may be touched. An input that does not is kept, and named.
"""

import argparse
import io
import os
import random
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import debugcnn
from debugcnn.hardware import peak_memory

SECONDS = 30  # that an input may take; on an idle machine it is one, where a file is valid
BYTES = 2**30  # by which the memory of the process may grow
NUMBERS = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0")


def model_files(folder: Path) -> list[Path]:
    """Six valid models: Sequential and functional ones of Keras 3, one of Keras 2, each twice."""
    import tf_keras  # only tests have it

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Add()([keras.layers.Conv2D(3, 3, padding="same")(inputs), inputs])
    functional = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    models = {"functional": functional}
    for name, library in (("sequential", keras), ("keras_2", tf_keras)):
        layers = library.layers
        models[name] = library.Sequential(
            [
                library.Input((8, 8, 3)),
                layers.Conv2D(2, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.GlobalAveragePooling2D(),
                layers.Dense(2, activation="softmax"),
            ]
        )
    files = [folder / f"{name}{suffix}" for name in models for suffix in (".keras", ".h5")]
    for file in files:
        models[file.stem].save(file)
    return files


def image_files(folder: Path) -> list[Path]:
    """Ten valid images, in all formats that are read."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))
    tags = Image.Exif()
    tags[0x0112] = 6
    files = {
        "rotated.jpg": (image, {"exif": tags}),
        "progressive.jpg": (image, {"progressive": True}),
        "rgb.png": (image, {}),
        "palette.png": (image.quantize(16), {}),
        "opacity.png": (image.convert("LA"), {}),
        "two_frames.gif": (image, {"save_all": True, "append_images": [image]}),
        "rgb.bmp": (image, {}),
        "lzw.tif": (image, {"compression": "tiff_lzw"}),
        "jpeg.tif": (image, {"compression": "jpeg"}),
        "lossy.webp": (image, {}),
    }
    for name, (content, options) in files.items():
        content.save(folder / name, **options)
    return [folder / name for name in files]


def damaged(data: bytes, generator: random.Random) -> bytes:
    """A file with some bits flipped, cut off, with a part of it repeated, or a number replaced.

    In a zip, where checksums notice nearly all of that, it is done to one of the entries instead.
    """
    if not zipfile.is_zipfile(io.BytesIO(data)) or generator.random() < 0.2:
        return _damaged_bytes(data, generator)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = generator.choice(sorted(entries))
    entries[name] = _damaged_bytes(entries[name], generator)
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def _damaged_bytes(data, generator):
    result = bytearray(data)
    at = generator.randrange(len(data))
    kind = generator.choices(["flip", "cut", "repeat", "number"], [7, 1, 1, 1])[0]
    if kind == "cut":
        return data[:at]
    if kind == "repeat":
        length = generator.randrange(1, 64)
        result[at : at + length] = data[generator.randrange(len(data)) :][:length]
    elif kind == "number":
        result[at : at + 4] = generator.choice(NUMBERS)
    else:
        for _ in range(generator.choice([1, 1, 2, 4, 8])):
            result[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return bytes(result)


def read_image(file: Path) -> None:
    """Read an image as every command does. Raises ValueError."""
    readable = debugcnn.is_readable(file)
    debugcnn.load_images(file, 16)
    if not readable:
        raise AssertionError("is_readable says no, and it is read")


READERS = {"model": (model_files, debugcnn.load_model), "image": (image_files, read_image)}


def fuzz(kind: str, inputs: int, seed: int, folder: Path) -> Counter[str]:
    """How many of so many damaged files of a kind were "read" and "refused", in an empty folder.

    Raises AssertionError, which names the input, if one ends in any other way.
    """
    make, read = READERS[kind]
    (valid := folder / "valid").mkdir()
    (empty := folder / "empty").mkdir()
    files = [(file.suffix, file.read_bytes()) for file in make(valid)]
    (empty / "canary").write_text("canary")
    generator, outcomes = random.Random(seed), Counter()
    for number in range(inputs):
        if kind == "model" and number % 50 == 0:
            keras.backend.clear_session()
        suffix, data = generator.choice(files)
        file = empty / f"input{suffix}"
        file.write_bytes(damaged(data, generator))
        outcomes[_outcome(read, file)] += 1
        assert sorted(os.listdir(empty)) == ["canary", file.name], f"{file} touched other files"
        assert (empty / "canary").read_text() == "canary", f"{file} touched other files"
        file.unlink()
    return outcomes


def _outcome(read: Callable[[Path], object], file: Path) -> str:
    start, before = time.perf_counter(), peak_memory() or 0
    try:
        read(file)
        outcome = "read"
    except ValueError as error:
        assert "\n" not in str(error), f"{file}: {error} is not one sentence"
        outcome = "refused"
    except Exception as error:
        raise AssertionError(f"{file} ends with {type(error).__name__}: {error}") from error
    seconds = time.perf_counter() - start
    assert seconds < SECONDS, f"{file} takes {seconds:.0f} s"
    assert (peak_memory() or 0) - before < BYTES, f"{file} takes much memory"
    return outcome


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="of each kind (20,000)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other damage")
    parser.add_argument("--kind", choices=READERS, nargs="+", default=list(READERS))
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    for kind in args.kind:
        folder = Path(tempfile.mkdtemp())
        try:
            print(f"{kind}: {dict(fuzz(kind, args.inputs, args.seed, folder))}", flush=True)
        except AssertionError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
