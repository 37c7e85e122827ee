"""data_separator.py: every layout, every fault, no leak, all or nothing.

The test on the real images takes the zip that the environment variable CATS_AND_DOGS names.
"""

import contextlib
import csv
import errno
import hashlib
import http.server
import io
import os
import random
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import tracemalloc
import zipfile
import zlib
from collections import Counter
from fractions import Fraction
from itertools import permutations, product
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED, is_the_small_copy
from hypothesis import given, settings, strategies as st
from PIL import Image

from debugcnn import separator as ds
from debugcnn.files import archives, duplicates, intact

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("train", "validation", "test")
posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files or signals")


# Images and sources made up for the tests


def picture(seed, width=96, height=72):
    """A photo-like array (height, width, 3) uint8: soft shapes, some detail, a little noise."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells, weight in ((3, 1.0), (8, 0.6), (24, 0.2)):
        grid = rng.uniform(0, 255, (cells, cells, 3))
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    total = (total - total.min()) / np.ptp(total) * 235 + 10 + rng.normal(0, 2, total.shape)
    return total.clip(0, 255).astype(np.uint8)


def encode(array, kind="JPEG", **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 90} if kind == "JPEG" else {}) | options)
    return file.getvalue()


def cv_encode(suffix, array, *options):
    array = array[..., ::-1] if array.ndim == 3 else array
    return cv2.imencode(suffix, array, options)[1].tobytes()


def jpeg(seed):
    return encode(picture(seed))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def flipped(data, at, bits=1):
    """The bytes with some bits of one of them flipped."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


START = {"cat": 0, "dog": 1000}


def pets(pattern="{}s/{}.jpg", count=10):
    """{path: image} of a small cats and dogs data set, all different."""
    return {pattern.format(k, i): jpeg(n + i) for k, n in START.items() for i in range(count)}


def zipped(files, method=zipfile.ZIP_DEFLATED):
    """A zip in memory from {path: bytes}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def unfold(files, folder):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def folder_of(tmp_path, count=3, **more):
    """A folder of pets and, by the class, of one more odd image."""
    odd = {f"{label}/odd.jpg": data for label, data in more.items()}
    return unfold(pets(count=count) | odd, tmp_path / "pets")


def zip_of(tmp_path, files):
    (tmp_path / "pets.zip").write_bytes(zipped(files))
    return tmp_path / "pets.zip"


def run(*arguments):
    """(exit status, what it said on standard error) of a run in this process."""
    with contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            status = ds.main([str(argument) for argument in arguments])
        except SystemExit as end:  # by argparse
            status = end.code
    return status, error.getvalue()


def refused(*arguments, match):
    status, sentence = run(*arguments)
    assert status == 2
    assert re.search(match, sentence), sentence
    assert sentence.endswith(".\n")
    assert sentence.count("\n") == 1


def arrange(source, output, *options):
    """The manifest's rows by source path, after a run that must succeed and keep its promises."""
    assert run(source, "--output", output, *options) == (0, "")
    rows = list(csv.DictReader((output / "manifest.csv").open(encoding="utf-8", newline="")))
    kept = [row for row in rows if row["split"]]
    assert all(bool(row["split"]) != bool(row["reason"]) for row in rows)
    assert all(row["file"].startswith(f"{row['split']}/{row['class']}/") for row in kept)
    there = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    assert there == {row["file"] for row in kept} | {"manifest.csv"}
    assert len(there) == len(kept) + 1
    assert not list(output.parent.glob(f"{ds.UNFINISHED}*"))
    return {row["source"]: row for row in rows}


def left_out(rows):
    return {name: row["reason"] for name, row in rows.items() if row["reason"]}


def tree(folder):
    """Everything below a folder: path -> contents (None for a folder)."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


# 1. Layouts


def microsoft():
    files = {f"PetImages/{name.title()[:3]}{name[4:]}": data for name, data in pets().items()}
    return files | {
        "PetImages/Cat/Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(508),
        "PetImages/Dog/666.jpg": b"",
        "readme[1].txt": b"Microsoft Research Data License Agreement",
    }


def kaggle(method):
    zips = {"train.zip": zipped(TRAIN), "test1.zip": zipped(TEST, method)}
    return zips | {"sampleSubmission.csv": b"id,label\n1,0\n"}


def one_class(label):
    return {name[5:]: data for name, data in pets().items() if name.startswith(label)}


def within(count, files):
    """The files in a zip in a zip, so many deep."""
    for number in range(count, 0, -1):
        files = {f"{number}.zip": zipped(files)}
    return files


TRAIN = pets("train/{}.{}.jpg")
TEST = {f"test1/{i}.jpg": jpeg(2000 + i) for i in range(1, 6)}
MIXED = {f"{('train', 'validation')[i % 2]}/{k}": b for i, (k, b) in enumerate(pets().items())}
ODD_NAMES = {f"{k}/1.jpg": jpeg(n) for n, k in enumerate(["bus", "train", "Vélo", "cat", "DOGS"])}
HIDDEN = {"cats/.ipynb_checkpoints/0.jpg": jpeg(0), "__MACOSX/cats/._0.jpg": b"\0\5\x16\7"}
ALL = {("cats", ""): 10, ("dogs", ""): 10}
NO_LABEL = {("", "no label"): 5}
KAGGLE = ALL | NO_LABEL | {("", "not an image"): 1}
NO_IMAGES = {("dogs", "empty"): 1, ("", "not an image"): 2}
# name: (files, how many there are of each class and reason; what is no image counts as of no class)
LAYOUTS = {
    "train.zip": (TRAIN, ALL),
    "in capitals": ({name.upper(): data for name, data in TRAIN.items()}, ALL),
    "PetImages": (microsoft(), ALL | NO_IMAGES),
    "class folders": (pets(), ALL),
    "folders in a folder": (pets("animals/{}s/{}.jpg"), ALL),
    "split already": (MIXED, ALL),
    "backslashes": ({name.replace("/", "\\"): b for name, b in TRAIN.items()}, ALL),
    "Kaggle's zips": (kaggle(zipfile.ZIP_DEFLATED), KAGGLE),
    "Kaggle's zips, stored": (kaggle(zipfile.ZIP_STORED), KAGGLE),
    "images of a test set": (TRAIN | TEST, ALL | NO_LABEL),
    "train and its zip": (
        TRAIN | {"train.zip": zipped(TRAIN)},
        ALL | {("cats", "duplicate"): 10, ("dogs", "duplicate"): 10},
    ),
    "any names": (ODD_NAMES, {(k, ""): 1 for k in ("bus", "train", "Vélo", "cats", "dogs")}),
    "hidden folders": (pets() | HIDDEN, ALL | {("", "no label"): 1, ("", "not an image"): 1}),
    "a zip per class": ({f"{k}s.zip": zipped(one_class(k)) for k in START}, ALL),
    "zips in zips": (within(5, pets()), ALL),
}


def flat(files, prefix=""):
    """{path: bytes} also of what is in zips, and in zips in them."""
    found = {}
    for name, data in files.items():
        name = prefix + name.replace("\\", "/")
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                inner = {info.filename: archive.read(info) for info in archive.infolist()}
            found |= flat(inner, f"{name}/")
        else:
            found[name] = data
    return found


@pytest.mark.parametrize("packed", ["folder", "zip", "zip in a folder"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(tmp_path, layout, packed):
    files, expected = LAYOUTS[layout]
    if layout == "backslashes" and packed == "folder":
        pytest.skip("only a zip has them")
    if packed != "folder":
        files = {"pets.zip": zipped(files)}
    names = flat(files)
    source = unfold(files, tmp_path / "pets")
    if packed == "zip":
        names = {name.removeprefix("pets.zip/"): data for name, data in names.items()}
        source = source / "pets.zip"
    before = tree(tmp_path)
    rows = arrange(source, tmp_path / "data")
    assert set(rows) == set(names)
    reasons = [(row["class"], row["reason"]) for row in rows.values()]
    reasons = [("", reason) if reason == "not an image" else (k, reason) for k, reason in reasons]
    assert Counter(reasons) == expected
    for name, row in rows.items():
        if row["split"]:
            assert (tmp_path / "data" / row["file"]).read_bytes() == names[name]
            assert row["class"][:3].lower() in name.lower()
    assert {k: v for k, v in tree(tmp_path).items() if not k.startswith("data")} == before


def test_images_of_one_name_do_not_overwrite_each_other(tmp_path):
    names = ["a/cats/Photo.JPG", "a/dogs/Photo.JPG", "b/cats/Photo.JPG", "b/dogs/Photo.JPG"]
    names += ["c/cats/photo.jpg", "c/cats/photo", "c/dogs/x\ny:z?.jpg", "d/dogs/. .jpg"]
    names += ["cats/B.JPEG", "cats/c.txt", "cats/..jpg"]
    names += ["cats/A.jpg", "cats/a.jpg"]  # one file to Windows and macOS
    names += [f"dogs. /{'x' * 200}.jpg"]  # names that Windows cannot have
    files = {name: jpeg(seed) for seed, name in enumerate(names)}
    rows = arrange(zip_of(tmp_path, files), tmp_path / "data", "--split", "1", "0", "0")
    for name, row in rows.items():
        assert (tmp_path / "data" / row["file"]).read_bytes() == files[name]
    assert len({row["file"].lower() for row in rows.values()}) == len(files)
    good = r"train/(cats|dogs)/[^<>:\n?]{1,120}\.jpe?g"
    assert all(re.fullmatch(good, row["file"], re.I) for row in rows.values())
    assert rows["cats/B.JPEG"]["file"] == "train/cats/B.JPEG"
    assert rows["cats/c.txt"]["file"] == "train/cats/c.jpg"


@pytest.mark.parametrize("labels", [("Bus", "bus"), ("Vélo", "ve\u0301lo"), ("STRASSE", "straße")])
def test_classes_that_differ_only_by_case_are_refused(tmp_path, labels):
    files = {f"{label}/{i}.jpg": jpeg(i) for i, label in enumerate((*labels, "train"))}
    refused(
        zip_of(tmp_path, files),
        *("--output", tmp_path / "data"),
        match="The classes .* and .* differ only by case, and Windows and macOS store them in one",
    )
    assert os.listdir(tmp_path) == ["pets.zip"]
    arrange(zip_of(tmp_path, files | {f"{labels[1]}/1.jpg": b""}), tmp_path / "data")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8(tmp_path):
    source = folder_of(tmp_path)
    os.rename(source / "cats/0.jpg", os.fsencode(source / "cats") + b"/caf\xe9.jpg")
    os.rename(source / "dogs", os.fsencode(source) + b"/d\xf6gs")
    assert run(source, "--output", tmp_path / "data") == (0, "")
    assert b"cats/caf\xe9.jpg" in (tmp_path / "data/manifest.csv").read_bytes()
    assert b"d\xf6gs/1.jpg" in (tmp_path / "data/manifest.csv").read_bytes()


NOT_WHOLE = r"is not a whole zip archive \(.+\): get it again"


@pytest.mark.parametrize(
    "files, name, match",
    [
        ({}, "nowhere.zip", "nowhere.zip does not exist"),
        ({"cats/1.jpg": jpeg(1)}, "", r"Two classes.* 1 \(cats\)"),
        ({"1.jpg": jpeg(1)}, "", r"Two classes.* 0 \(none\)"),
        ({"cats/1.jpg": b"", "dogs/1.jpg": b"x"}, "", r"0 \(none\)"),
        ({"a.zip": b""}, "a.zip", f"a.zip {NOT_WHOLE}"),
        ({"a.tar": b"x" * 99}, "a.tar", f"a.tar {NOT_WHOLE}"),
        ({"cats.zip": b"x" * 99}, "", f"cats.zip {NOT_WHOLE}"),
    ],
)
def test_a_source_without_classes_is_refused(tmp_path, files, name, match):
    source = unfold(files, tmp_path / "pets") / name
    refused(source, "--output", tmp_path / "data", match=match)
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path, monkeypatch):
    source = folder_of(tmp_path)

    def scandir(path, real=os.scandir):
        if str(path).endswith("dogs"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    refused(source, "--output", tmp_path / "data", match="Permission denied: .*dogs.*: nothing was")
    assert os.listdir(tmp_path) == ["pets"]


@pytest.mark.parametrize("split", ["80 10 -1", "0 0 0", "a b c", "1 2"])
def test_shares_that_make_no_sense_are_refused(tmp_path, split):
    status, sentence = run(tmp_path, "--split", *split.split())
    assert status == 2 and "--split" in sentence


# 2. What can be trained on


def png_claiming(width, height):
    png = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    for chunk in (b"IHDR" + header, b"IDAT" + zlib.compress(bytes(99)), b"IEND"):
        png += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png


def jpeg_claiming(width, height):
    at = WHOLE.index(b"\xff\xc0") + 5
    return WHOLE[:at] + struct.pack(">2H", height, width) + WHOLE[at + 4 :]


WHOLE = jpeg(7)
SCAN = WHOLE.index(b"\xff\xda") + 14
RESTARTS = cv_encode(".jpg", picture(7), cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
PROGRESSIVE = encode(picture(7), progressive=True)
PNG, GIF = (encode(picture(8), kind) for kind in ("PNG", "GIF"))
DAMAGED = {
    "a start marker alone": b"\xff\xd8\xff",
    "header alone": WHOLE[: SCAN - 20],
    "half": WHOLE[: len(WHOLE) // 2],
    "all but the end marker": WHOLE[:-2],
    "half, then zeros": WHOLE[: len(WHOLE) // 2] + bytes(len(WHOLE) // 2),
    "half, then an end marker": WHOLE[: (SCAN + len(WHOLE)) // 2] + b"\xff\xd9",
    "a hole": WHOLE[: SCAN + 500] + WHOLE[SCAN + 1500 :],
    "a stray marker": WHOLE[: SCAN + 300] + b"\xff\x2f" + WHOLE[SCAN + 302 :],
    "a stray marker at the end": WHOLE[:-4] + b"\xff\x2f\xff\xd9",
    "an end marker flipped to tables": flipped(WHOLE, -1, 0xD9 ^ 0xDB),
    "an end marker flipped to a comment": flipped(WHOLE, -1, 0xD9 ^ 0xFE),
    "a restart marker flipped to a scan": flipped(RESTARTS, RESTARTS.index(b"\xff\xd2") + 1, 8),
    "a stray marker in a later scan": PROGRESSIVE[:-4] + b"\xff\x2f\xff\xd9",
    "half a PNG": PNG[:5000],
    "a PNG sent as text": PNG.replace(b"\n", b"\r\n"),
    "a PNG without its end": PNG[:-12],
    "a PNG with a bit of its end flipped": flipped(PNG, -6),
    "a PNG with a bit of its end's checksum flipped": flipped(PNG, -1),
    "a PNG with a bit of its data's checksum flipped": flipped(PNG, -13),
    "half a BMP": encode(picture(8), "BMP")[:5000],
    "half a GIF": GIF[:3000],
    "half a WebP": encode(picture(8), "WEBP")[:800],
    "half a TIFF": encode(picture(8), "TIFF")[:5000],
    "a letter to the BM": b"BM is how this letter begins",
}
FAULTS = {name: (data, "damaged") for name, data in DAMAGED.items()} | {
    "nothing in it": (b"", "empty"),
    "HTML": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not an image"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "not an image"),
    "zeros": (bytes(4000), "not an image"),
    "a PNG of 2.5 gigapixels": (png_claiming(50_000, 50_000), "too large"),
    "a PNG of 201 megapixels": (png_claiming(15_000, 13_400), "too large"),
    "a JPEG of 4 gigapixels": (jpeg_claiming(65_000, 65_000), "too large"),
    "a JPEG of 201 megapixels": (jpeg_claiming(15_000, 13_400), "too large"),
    "a GIF of 4 gigapixels": (GIF[:6] + b"\xe8\xfd\xe8\xfd" + GIF[10:], "too large"),
}


def test_the_bound_on_pixels_is_a_parameter(tmp_path):
    source = folder_of(tmp_path, cats=encode(picture(5, 400, 300)), dogs=encode(picture(6), "PNG"))
    rows = arrange(source, tmp_path / "a", "--megapixels", "0.1")
    assert left_out(rows) == {"cats/odd.jpg": "too large"}
    assert left_out(arrange(source, tmp_path / "b")) == {}


def test_a_length_in_a_header_may_hold_any_byte():
    assert intact.image_format(b"RIFF\n\r\n\0WEBP") == "WEBP"


def test_faults_are_left_out_with_the_reason(tmp_path):
    files = {f"{c}/{name}.jpg": f[0] for name, f in FAULTS.items() for c in ("cats", "dogs")}
    rows = arrange(zip_of(tmp_path, pets(count=3) | files), tmp_path / "data")
    assert left_out(rows) == {name: FAULTS[name[5:-4]][1] for name in files}


@posix
def test_what_is_no_plain_file_is_left_out(tmp_path):
    source = folder_of(tmp_path)
    other = unfold({"cat/9.jpg": jpeg(9)}, tmp_path / "elsewhere")
    os.mkfifo(source / "cats/pipe.jpg")
    (source / "cats/lost.jpg").symlink_to("nowhere")
    (source / "cats/loop").symlink_to(source, target_is_directory=True)
    (source / "cats/outside").symlink_to(other, target_is_directory=True)
    (source / "cats/linked.jpg").symlink_to(other / "cat/9.jpg")
    with open(source / "cats/huge.jpg", "wb") as file:
        file.truncate(2**28 + 1)  # takes no room on the disk
    rows = arrange(source, tmp_path / "data")
    special = ["cats/pipe.jpg", "cats/lost.jpg", "cats/loop", "cats/outside"]
    reasons = dict.fromkeys(special, "not a plain file") | {"cats/huge.jpg": "too large"}
    assert left_out(rows) == reasons
    copied = tmp_path / "data" / rows["cats/linked.jpg"]["file"]
    assert copied.read_bytes() == jpeg(9)
    assert not copied.is_symlink()


def test_what_cannot_be_read_is_left_out(tmp_path):
    files = pets(count=3) | {"cats/bad.jpg": jpeg(77), "dogs/bad.jpg": jpeg(78)}
    packed = bytearray(zipped(files, zipfile.ZIP_STORED))
    packed[packed.index(jpeg(77)) + 900] ^= 1  # the checksum tells
    with zipfile.ZipFile(io.BytesIO(bytes(packed))) as archive:
        packed[archive.getinfo("dogs/bad.jpg").header_offset + 26] ^= 1  # not where it should be
    (tmp_path / "pets.zip").write_bytes(packed)
    rows = arrange(tmp_path / "pets.zip", tmp_path / "data")
    assert left_out(rows) == {"cats/bad.jpg": "unreadable", "dogs/bad.jpg": "unreadable"}
    file = ds.File("cats/1.jpg", 9, (tmp_path / "lost.jpg").read_bytes, label="cats")
    ds.check(file)
    assert file.reason == "unreadable"


def tensorflow(data):
    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()


def opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


BASE = picture(21)
GREY = cv2.cvtColor(BASE, cv2.COLOR_RGB2GRAY)
GREY3 = np.dstack([GREY] * 3)
WITH_GREY = np.vstack([BASE, np.full_like(BASE, 128)])
CMYK = Image.fromarray(BASE).convert("CMYK")
PALETTE = Image.fromarray(BASE).quantize(200)
PALETTE_RGB = np.asarray(PALETTE.convert("RGB"))
BLACK_WHITE = Image.fromarray(GREY).convert("1")
BLACK_WHITE_RGB = np.asarray(BLACK_WHITE.convert("RGB"))
CLEAR = np.dstack([BASE, np.full(GREY.shape, 255, np.uint8)])
CLEAR[:20, :, 3] = 0
JPEG, JPEG_EXIF = encode(BASE), encode(BASE, exif=exif(1))
WITHOUT_JFIF = JPEG_EXIF[:2] + JPEG_EXIF[4 + int.from_bytes(JPEG_EXIF[4:6]) :]
SECOND = {"save_all": True, "append_images": [Image.fromarray(GREY3)]}
T = BASE.transpose(1, 0, 2)
# What an image with each orientation tag from 1 shows, by the Exif standard
UPRIGHT = [BASE, BASE[:, ::-1], BASE[::-1, ::-1], BASE[::-1]]
UPRIGHT += [T, T[:, ::-1], T[::-1, ::-1], T[::-1]]
# name: (file, what it shows if that is agreed)
KEPT = {
    "JPEG": (JPEG, BASE),
    "extended JPEG": (JPEG.replace(b"\xff\xc0", b"\xff\xc1", 1), BASE),
    "progressive JPEG": (encode(BASE, progressive=True), BASE),
    "progressive JPEG with more after it": (encode(BASE, progressive=True) + b"\xff\xda", BASE),
    "JPEG with restarts": (cv_encode(".jpg", BASE, cv2.IMWRITE_JPEG_RST_INTERVAL, 2), BASE),
    "JPEG with something after it": (JPEG + b"more" * 99, BASE),
    "JPEG with zeros before its end": (JPEG[:-2] + bytes(40) + b"\xff\xd9", BASE),
    "JPEG with a comment before its end": (JPEG[:-2] + b"\xff\xfe\0\4ok\xff\xd9", BASE),
    "JPEG with fill bytes": (JPEG.replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1), BASE),
    "grey JPEG": (encode(GREY), GREY3),
    "RGB JPEG": (encode(BASE, keep_rgb=True), BASE),
    "JPEG ending in mid grey": (encode(WITH_GREY), WITH_GREY),
    "Exif without JFIF": (WITHOUT_JFIF, BASE),
    "two images in one JPEG": (encode(BASE, "MPO", quality=90, **SECOND), BASE),
    "JPEG turned 1": (JPEG_EXIF, BASE),
    "PNG": (encode(BASE, "PNG"), BASE),
    "PNG of one pixel": (encode(BASE[:1, :1], "PNG"), BASE[:1, :1]),
    "grey PNG": (encode(GREY, "PNG"), GREY3),
    "palette PNG": (encode(PALETTE, "PNG"), PALETTE_RGB),
    "1-bit PNG": (encode(BLACK_WHITE, "PNG"), BLACK_WHITE_RGB),
    "PNG with transparency": (encode(CLEAR, "PNG"), BASE),
    "16-bit PNG": (cv_encode(".png", BASE.astype(np.uint16) * 257), BASE),
}
CONVERTED = {
    f"JPEG turned {k}": (encode(BASE, exif=exif(k)), UPRIGHT[k - 1]) for k in range(2, 9)
} | {
    "CMYK JPEG": (encode(CMYK), BASE),
    "16-bit grey PNG": (cv_encode(".png", GREY.astype(np.uint16) * 257), GREY3),
    "turned PNG": (encode(BASE, "PNG", exif=exif(6)), UPRIGHT[5]),
    "GIF": (encode(PALETTE, "GIF"), PALETTE_RGB),
    "moving GIF": (encode(PALETTE, "GIF", **SECOND), PALETTE_RGB),
    "transparent GIF": (encode(PALETTE, "GIF", transparency=3), None),
    "BMP": (encode(BASE, "BMP"), BASE),
    "palette BMP": (encode(PALETTE, "BMP"), PALETTE_RGB),
    "1-bit BMP": (encode(BLACK_WHITE, "BMP"), BLACK_WHITE_RGB),
    "WebP": (encode(BASE, "WEBP", lossless=True), BASE),
    "moving WebP": (encode(BASE, "WEBP", lossless=True, **SECOND), BASE),
    "transparent WebP": (encode(Image.fromarray(CLEAR), "WEBP", lossless=True), None),
    "TIFF": (encode(BASE, "TIFF"), BASE),
    "packed TIFF": (encode(BASE, "TIFF", compression="tiff_lzw"), BASE),
    "CMYK TIFF": (encode(CMYK, "TIFF"), BASE),
}


@pytest.mark.parametrize("name", KEPT | CONVERTED)
def test_valid_images_are_kept_and_look_alike_to_all_readers(tmp_path, name):
    data, shown = (KEPT | CONVERTED)[name]
    row = arrange(folder_of(tmp_path, cats=data), tmp_path / "data")["cats/odd.jpg"]
    assert row["split"]
    assert bool(row["note"]) == (name in CONVERTED)
    result = (tmp_path / "data" / row["file"]).read_bytes()
    assert (result == data) == (name in KEPT)
    assert row["file"].endswith(".jpg" if name in KEPT else ".png")
    for read in (tensorflow, opencv, pillow):
        got = read(result)
        assert got.shape == (BASE if shown is None else shown).shape
        apart = np.abs(got.astype(int) - opencv(result)).max()
        assert apart <= (8 if name in KEPT else 0), read.__name__
        if shown is not None:  # in a JPEG of quality 90
            assert np.abs(got.astype(int) - shown).mean() < 6, read.__name__


WHOLES = {
    "baseline": encode(picture(31, 120, 90)),
    "progressive": encode(picture(31, 120, 90), progressive=True),
    "restarts": RESTARTS,
    "PNG": encode(picture(31, 120, 90), "PNG"),
    "GIF": encode(picture(31, 120, 90), "GIF"),
    "large": encode(picture(31, 400, 300)),
}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(WHOLES)), st.data(), st.sampled_from(["cut", "zeros", "flip"]))
def test_what_is_kept_can_be_read_whole_by_tensorflow_and_opencv(kind, data, damage):
    whole = WHOLES[kind]
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = {
        "cut": whole[:at],
        "zeros": whole[:at] + bytes(len(whole) - at),
        "flip": flipped(whole, at, 1 << data.draw(st.integers(0, 7))),
    }[damage]
    file = ds.File("cats/1.jpg", len(broken), lambda: broken, label="cats")
    ds.check(file)
    if file.reason:
        assert file.reason in {"empty", "not an image", "damaged", "too large"}
        assert broken != whole
    elif not file.note:
        assert tensorflow(broken).size and opencv(broken).size  # they fail on what they cannot read
    assert file.reason or damage != "cut"


# 3. Images that are there twice


def scaled(array, factor, how=cv2.INTER_AREA):
    size = tuple(round(side * factor) for side in array.shape[1::-1])
    return cv2.resize(array, size, interpolation=how)


COPIES = {
    "byte for byte": lambda a: encode(a),
    "saved again": lambda a: encode(pillow(encode(a)), quality=50),
    "saved badly": lambda a: encode(a, quality=25),
    "as PNG": lambda a: encode(a, "PNG"),
    "as TIFF": lambda a: encode(a, "TIFF"),
    "half": lambda a: encode(scaled(a, 0.5)),
    "0.7": lambda a: encode(scaled(a, 0.7, cv2.INTER_LINEAR)),
    "twice": lambda a: encode(scaled(a, 2, cv2.INTER_CUBIC)),
    "squashed": lambda a: encode(cv2.resize(a, (180, 180), interpolation=cv2.INTER_AREA)),
    "a pixel to the left": lambda a: encode(np.roll(a, -1, axis=1)),
    "a pixel down": lambda a: encode(np.roll(a, 1, axis=0)),
    "without its first row and column": lambda a: encode(a[1:, 1:]),
    "a pixel up and left, half": lambda a: encode(scaled(a[1:, 1:], 0.5)),
    "on its side by Exif": lambda a: encode(np.rot90(a).copy(), exif=exif(6)),
    "in grey": lambda a: encode(cv2.cvtColor(a, cv2.COLOR_RGB2GRAY)),
}


def groups_of(files):
    """Sets of indices of the files that the script takes for one image."""
    images = [intact.inspect(data, intact.image_format(data)) for data in files]
    return {frozenset(group) for group in duplicates.group_duplicates(images)}


@pytest.mark.parametrize("copy", COPIES)
def test_the_same_image_twice_is_found(copy):
    arrays = [picture(seed, 320, 240) for seed in range(12)]
    images = [encode(a) for a in arrays] + [COPIES[copy](a) for a in arrays]
    assert groups_of(images) == {frozenset({i, i + 12}) for i in range(12)}


SIDES, STEPS = st.integers(120, 500), st.integers(0, 1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), SIDES, SIDES, STEPS, STEPS, st.floats(0.4, 1.5), st.integers(30, 95))
def test_a_shifted_resized_and_resaved_image_is_found(seed, width, height, dx, dy, factor, quality):
    array = picture(seed, width, height)
    copy = encode(scaled(array[dy:, dx:], factor), quality=quality)
    stranger = encode(picture(seed + 1, width, height))
    assert groups_of([encode(array), copy, stranger]) == {frozenset({0, 1}), frozenset({2})}


def test_a_small_sharp_image_shifted_by_a_pixel_is_found():
    rng = np.random.default_rng(3)
    for _ in range(12):
        grid = rng.integers(0, 256, (7, 9, 3), np.uint8)
        array = cv2.resize(grid, (90, 70), interpolation=cv2.INTER_NEAREST)  # hard edges
        shifted = np.roll(array, (1, 1), (0, 1))
        assert len(groups_of([encode(array), encode(shifted), encode(array[1:, 1:])])) == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_chain_of_near_duplicates_is_one_image(seed):
    array = picture(seed, 400, 300)
    left, middle, right = (encode(array[:, k : k + 360]) for k in (0, 14, 28))
    assert len(groups_of([left, right])) == 2
    for files in permutations([left, middle, right]):
        assert groups_of(files) == {frozenset({0, 1, 2})}


def test_a_group_holds_together_in_whatever_order_its_pairs_are_found(monkeypatch):
    thumb, colour = np.zeros((duplicates.THUMB,) * 2, np.uint8), np.zeros(3)
    images = [duplicates.ImageFacts(str(i), 1, ".jpg", "", thumb, colour) for i in range(6)]
    monkeypatch.setattr(duplicates, "same_image", lambda a, b: {a.sha256, b.sha256} != {"4", "5"})
    for links in permutations([(0, 1), (2, 0), (3, 2)]):
        for turned in product((1, -1), repeat=3):
            pairs = [(4, 5)] + [link[::turn] for link, turn in zip(links, turned)]
            monkeypatch.setattr(duplicates, "alike_pairs", lambda thumbs, pairs=pairs: pairs)
            groups = {frozenset(group) for group in duplicates.group_duplicates(images)}
            assert groups == {frozenset({0, 1, 2, 3}), frozenset({4}), frozenset({5})}


def test_different_images_are_not_merged():
    rng = np.random.default_rng(0)
    scene, dark = picture(5, 320, 240), picture(6, 320, 240) // 2

    def with_animal(x, y, colour=(90, 60, 30)):
        return cv2.ellipse(scene.copy(), (x, y), (60, 40), 20, 0, 360, colour, -1)

    def card(text):
        paper = np.full((200, 200, 3), 250, np.uint8)
        return cv2.putText(paper, text, (10, 110), 0, 1.3, (10, 10, 200), 3)

    flat = [(c, c, c) for c in (0, 1, 128, 130, 255)] + [(200, 0, 0), (0, 102, 0), (60, 60, 76)]
    images = [
        *(with_animal(x, y) for x, y in ((100, 100), (130, 100), (100, 130), (200, 120))),
        with_animal(100, 100, (220, 200, 180)),
        scene,
        scene[:, ::-1].copy(),
        np.clip(scene.astype(int) + 40, 0, 255).astype(np.uint8),
        scene[:200, :260].copy(),
        *(np.full((90, 120, 3), colour, np.uint8) for colour in flat),
        *(card(text) for text in ("Adopted", "Missing", "No photo")),
        *(dark + np.array(hue, np.uint8) for hue in ((88, 0, 0), (0, 45, 0), (30, 30, 0))),
        *rng.integers(0, 256, (5, 64, 64, 3), np.uint8),
    ]
    groups = groups_of([encode(a, "PNG") for a in images])
    assert groups == {frozenset({i}) for i in range(len(images))}


def test_one_of_a_group_is_kept_and_none_of_two_labels(tmp_path):
    large, same, wrong, card = (picture(seed, 320, 240) for seed in range(300, 304))
    odd = {  # name: (image, what becomes of it)
        "cats/a.jpg": (encode(scaled(large, 0.5)), "duplicate: same photo as cats/b.jpg"),
        "cats/b.jpg": (encode(large), ": "),
        "cats/c.jpg": (encode(large[1:, 1:]), "duplicate: same photo as cats/b.jpg"),
        "dogs/d.jpg": (encode(same), ": "),
        "dogs/e.jpg": (encode(same), "duplicate: same photo as dogs/d.jpg"),
        "cats/f.jpg": (encode(wrong), "two labels: same photo as dogs/f.jpg"),
        "dogs/f.jpg": (encode(wrong, quality=60), "two labels: same photo as cats/f.jpg"),
        "cats/g.jpg": (encode(card), "two labels: same photo as cats/h.jpg, dogs/i.jpg"),
        "cats/h.jpg": (encode(card), "two labels: same photo as cats/g.jpg, dogs/i.jpg"),
        "dogs/i.jpg": (encode(card), "two labels: same photo as cats/g.jpg, cats/h.jpg"),
    }
    files = pets(count=5) | {name: data for name, (data, _) in odd.items()}
    rows = arrange(unfold(files, tmp_path / "pets"), tmp_path / "data")
    fates = {name: f"{rows[name]['reason']}: {rows[name]['note']}" for name in odd}
    assert fates == {name: fate for name, (_, fate) in odd.items()}
    assert len(left_out(rows)) == 8


@pytest.mark.parametrize("alike, close, noise, tile", [(0.92, 0.97, 20, 64), (0.98, 0.995, 5, 512)])
def test_pairs_are_found_wherever_they_stand(monkeypatch, alike, close, noise, tile):
    monkeypatch.setattr(duplicates, "ALIKE", alike)
    rng = np.random.default_rng(1)
    thumbs = rng.integers(40, 216, (1500, 8, 8), np.uint8).repeat(5, 1).repeat(5, 2)
    twins = rng.permutation(1500)[:600].reshape(300, 2)
    noise = rng.integers(-noise, noise, (300, 8, 8)).repeat(5, 1).repeat(5, 2)
    thumbs[twins[:, 0]] = thumbs[twins[:, 1]] + noise
    found = {frozenset(map(int, pair)) for pair in duplicates.alike_pairs(thumbs, tile)}
    assert {frozenset(map(int, pair)) for pair in twins} <= found
    flat = thumbs.reshape(1500, -1).astype(float)
    close = np.argwhere(np.triu(np.corrcoef(flat) > close, 1))  # an independent, slower way
    assert {frozenset(map(int, pair)) for pair in close} <= found
    assert len(found) < 600


# 4. The split

HASHES = st.sets(st.text("0123456789abcdef", min_size=8, max_size=8), min_size=1, max_size=300)
SHARES = st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(any)


@settings(deadline=None, derandomize=True)
@given(HASHES, SHARES, st.integers(0, 9), st.randoms())
def test_the_split_knows_no_order_and_counts_exactly(hashes, shares, seed, rng):
    shares = [Fraction(share) for share in shares]
    shuffled = sorted(hashes)
    rng.shuffle(shuffled)
    split = ds.split_of(shuffled, shares, seed)
    assert split == ds.split_of(sorted(hashes), shares, seed)
    assert set(split) == hashes
    counts = Counter(split.values())
    for stop in (1, 2, 3):
        exact = len(hashes) * sum(shares[:stop]) / sum(shares)
        assert abs(sum(counts[name] for name in SPLITS[:stop]) - exact) <= Fraction(1, 2)


def test_adding_images_moves_hardly_any():
    rng = random.Random(0)
    old, new = ([f"{rng.getrandbits(64):016x}" for _ in range(n)] for n in (12_000, 1_000))
    shares = [Fraction(80), Fraction(10), Fraction(10)]
    before, after = ds.split_of(old, shares, 0), ds.split_of(old + new, shares, 0)
    assert sum(before[h] != after[h] for h in old) < 120  # 1 %; a new shuffle moves 34 %
    other = ds.split_of(old, shares, 1)
    moved = sum(before[h] != other[h] for h in old) / len(old)
    assert 0.31 < moved < 0.37  # 1 - (0.8² + 0.1² + 0.1²)


def test_split_and_seed_on_the_command_line(tmp_path):
    source = folder_of(tmp_path, 20)
    first = arrange(source, tmp_path / "a", "--split", "0.5", "0.25", "0.25")
    counts = Counter((row["class"], row["split"]) for row in first.values())
    assert counts == {(c, s): n for c in ("cats", "dogs") for s, n in zip(SPLITS, (10, 5, 5))}
    assert arrange(source, tmp_path / "b", "--split", "2", "1", "1") == first
    assert arrange(source, tmp_path / "c", "--split", "2", "1", "1", "--seed", "1") != first
    none = arrange(source, tmp_path / "d", "--split", "3", "1", "0")
    assert {row["split"] for row in none.values()} == {"train", "validation"}
    assert sorted(os.listdir(tmp_path / "d")) == ["manifest.csv", "train", "validation"]


def test_zip_and_folder_give_the_same_split(tmp_path):
    files = pets(count=15)
    backwards = dict(sorted(files.items(), key=lambda item: item[1]))
    arrange(unfold(files, tmp_path / "pets"), tmp_path / "a")
    arrange(zip_of(tmp_path, backwards), tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_class_has_its_folder_in_each_split_also_without_images(tmp_path):
    arrange(unfold(pets() | {"owls/1.jpg": jpeg(2000)}, tmp_path / "pets"), tmp_path / "data")
    for split in SPLITS:
        assert sorted(os.listdir(tmp_path / "data" / split)) == ["cats", "dogs", "owls"]


# 5. The result


def test_links_where_possible_and_copies_on_demand(tmp_path, monkeypatch):
    source = folder_of(tmp_path, cats=CONVERTED["TIFF"][0])

    def linked(name, *options):
        rows = arrange(source, tmp_path / name, *options)
        rows.pop("cats/odd.jpg")
        return {(tmp_path / name / row["file"]).samefile(source / k) for k, row in rows.items()}

    assert linked("a") == {True}
    assert linked("b", "--copy") == {False}

    def other_device(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_device)
    assert linked("c") == {False}
    assert tree(tmp_path / "a") == tree(tmp_path / "b") == tree(tmp_path / "c")


@posix
def test_the_result_has_ordinary_permissions(tmp_path):
    os.umask(mask := os.umask(0))
    arrange(folder_of(tmp_path), tmp_path / "new" / "data")
    assert stat.S_IMODE((tmp_path / "new" / "data").stat().st_mode) == 0o777 & ~mask


def test_the_summary_counts_everything_also_in_a_dry_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    odd = {"PetImages/Cat/x.jpg": CONVERTED["TIFF"][0], "PetImages/Dog/copy.jpg": jpeg(1000)}
    unfold(microsoft() | odd, tmp_path / "pets")
    before = tree(tmp_path)
    assert run("pets", "--dry-run") == (0, "")
    dry, _, end = capsys.readouterr().out.strip().rpartition("\n")
    assert end == "dry run: nothing was written"
    assert tree(tmp_path) == before
    assert run("pets") == (0, "")
    assert capsys.readouterr().out.startswith(f"{dry}\ndata is complete")
    assert " ".join(dry.split()) == (
        "found 25 files kept 21, 1 of them converted train cats 9 train dogs 8"
        " validation cats 1 validation dogs 1 test cats 1 test dogs 1"
        " left out 4 not an image 2 empty 1 duplicate 1"
    )


@pytest.mark.parametrize("place", ["", "pets"])
def test_again_is_fine_and_changes_nothing(tmp_path, place):
    source, output = folder_of(tmp_path), tmp_path / place / "data"
    unfold({"data/train/cats/9.jpg": jpeg(9)}, source / f"{ds.UNFINISHED}killed")
    times = []
    for _ in range(2):  # neither the result in the source is a source nor what a killed run left
        assert run(source, "--output", output) == (0, "")
        assert len((output / "manifest.csv").read_text().splitlines()) == 7
        times.append({path: path.stat().st_mtime_ns for path in output.rglob("*")})
    assert times[0] == times[1]


ANOTHER, LOST, NOT_OURS = "data holds another result: remove it", "Images are missing", "is not a"


@pytest.mark.parametrize(
    "options, change, match",
    [
        (["--seed", "1"], None, ANOTHER),
        (["--split", "1", "1", "1"], None, ANOTHER),
        ([], lambda p: next(p.glob("*/cats/*.jpg")).unlink(), LOST),
        ([], lambda p: (p / "manifest.csv").unlink(), NOT_OURS),
        ([], lambda p: (shutil.rmtree(p), p.mkdir()), NOT_OURS),
        ([], lambda p: (shutil.rmtree(p), p.write_bytes(b"a file")), NOT_OURS),
        pytest.param(
            [], lambda p: (shutil.rmtree(p), p.symlink_to("nowhere")), NOT_OURS, marks=posix
        ),
    ],
)
def test_what_is_there_is_not_touched(tmp_path, options, change, match):
    source, output = folder_of(tmp_path, 9), tmp_path / "data"
    arrange(source, output)
    if change:
        change(output)
    before = tree(tmp_path), output.is_symlink()
    refused(source, "--output", output, *options, match=match)
    assert (tree(tmp_path), output.is_symlink()) == before


def start(source, output, *options, before="", **popen):
    """The script in a process of its own, after some lines of Python."""
    code = f"import debugcnn.separator as ds, os, signal, sys, time\n{before}\nsys.exit(ds.main())"
    command = [sys.executable, "-c", code, source, "--output", output, *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
    return subprocess.Popen([str(part) for part in command], env=environment, **popen)


DIE = "os.kill(os.getpid(), signal.SIGKILL)"
DEATHS = {
    "looking": f"ds.inspect = lambda *facts: {DIE}",
    "in the folder's first moment": f"ds.in_parallel, real = lambda f, items, title: {DIE} "
    "if title == 'Writing' else real(f, items, title), ds.in_parallel",
    "writing": f"ds.write, real, n = lambda f, folder, copy: {DIE} if n.pop() == 1 else "
    "real(f, folder, copy), ds.write, list(range(20))",
    "just before the end": f"os.rename = lambda *names: {DIE}",
    "just after the end": f"os.rename, real = lambda *names: (real(*names), {DIE}), os.rename",
}


@posix
@pytest.mark.parametrize("moment", DEATHS)
def test_killed_at_a_moment(tmp_path, moment):
    source, parent = zip_of(tmp_path, pets()), tmp_path / "new"
    process = start(source, parent / "data", before=DEATHS[moment])
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert (parent / "data").exists() == (moment == "just after the end")
    left = [path.name for path in parent.glob("*") if path.name.startswith(ds.UNFINISHED)]
    assert len(left) == (moment != "looking")
    assert run(source, "--output", parent / "data") == (0, "")
    assert sorted(os.listdir(parent)) == sorted(["data", *left])
    arrange(source, tmp_path / "reference")
    assert tree(parent / "data") == tree(tmp_path / "reference")


# name: (lines of Python before, what it says)
STOPS = {
    # A shell starts what runs in its background with this signal ignored.
    "by the user": (
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "ds.write = lambda *a, **k: os.kill(os.getpid(), signal.SIGINT)",
        "Stopped",
    ),
    "by the disk": (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))",
        r"\[Errno 27\] File too large.*",
    ),
    "by the memory": ("ds.write = lambda *a, **k: bytearray(1 << 62)", "Out of memory"),
}


@posix
@pytest.mark.parametrize("name", STOPS)
def test_stopped(tmp_path, name):
    before, says = STOPS[name]
    source, output = zip_of(tmp_path, pets(count=5)), tmp_path / "data"
    process = start(source, output, before=before)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert re.fullmatch(f"{says}: nothing was written to {output}\\.\n", error.decode())
    assert os.listdir(tmp_path) == ["pets.zip"]


@pytest.mark.parametrize("seeds, ends", [((0, 0, 0), [0, 0, 0]), ((1, 2), [0, 2])])
def test_several_at_once(tmp_path, seeds, ends):
    source, output = zip_of(tmp_path, pets(count=40)), tmp_path / "data"
    slow = "ds.write, real = lambda *a, **k: (time.sleep(0.01), real(*a, **k)), ds.write"
    processes = [start(source, output, "--seed", seed, before=slow) for seed in seeds]
    said = [process.communicate(timeout=60) for process in processes]
    statuses = [process.returncode for process in processes]
    assert sorted(statuses) == ends
    for status, (out, error) in zip(statuses, said):
        assert (b"holds another result" in error) if status else b"is complete" in out
    assert sorted(os.listdir(tmp_path)) == ["data", "pets.zip"]
    arrange(source, output, "--seed", seeds[statuses.index(0)])


@posix
def test_progress_on_a_terminal_only(tmp_path):
    import pty
    import termios

    source = zip_of(tmp_path, pets(count=5) | {"cats/bad.jpg": DAMAGED["a hole"]})
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    process = start(source, tmp_path / "a", stdout=terminal, stderr=terminal)
    assert process.wait(60) == 0
    os.close(terminal)
    shown = os.read(screen, 100_000).decode()
    assert "Looking: 100%" in shown
    assert "Writing: 100%" in shown
    assert "Corrupt JPEG" not in shown
    process = start(source, tmp_path / "b")
    out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, b"")
    assert b"Looking" not in out


# Bad archives


def entry(name, data=b"x", mode=0, method=zipfile.ZIP_DEFLATED):
    """A zip with good images and one entry of any name, which ZipFile would not write."""
    file = io.BytesIO(zipped(pets(count=2)))
    with zipfile.ZipFile(file, "a") as archive:
        info = zipfile.ZipInfo("#" * len(name))
        info.external_attr = mode << 16
        archive.writestr(info, data, method)
    return file.getvalue().replace(b"#" * len(name), name.encode())


GOOD = zipped(pets(count=2))
ENCRYPTED = flipped(GOOD, GOOD.index(b"PK\x01\x02") + 8)
NO_TABLE = GOOD.replace(b"PK\x01\x02", b"PK\x01\x09")
BAD_SUM = zipped({"in.zip": GOOD}, zipfile.ZIP_STORED).replace(GOOD[:99], bytes(99), 1)
BAD_STREAM = flipped(zipped({"in.zip": bytes(9999)}), 36, 7)
BAD = {
    "encrypted": (ENCRYPTED, "bad.zip is encrypted or packed in a rare way: give it unpacked"),
    "encrypted inside": (zipped({"in.zip": ENCRYPTED}), "in.zip is encrypted or packed"),
    "of a later version": (
        flipped(GOOD, GOOD.index(b"PK\x01\x02") + 6, 64),
        f"bad.zip {NOT_WHOLE}",
    ),
    "rare packing": (entry("c/1.jpg", method=zipfile.ZIP_LZMA), "bad.zip is encrypted or packed"),
    "cut off": (GOOD[:-30], f"bad.zip {NOT_WHOLE}"),
    "half": (GOOD[: len(GOOD) // 2], f"bad.zip {NOT_WHOLE}"),
    "damaged table of contents": (NO_TABLE, f"bad.zip {NOT_WHOLE}"),
    "damaged inside": (zipped({"train.zip": NO_TABLE}), f"train.zip {NOT_WHOLE}"),
    "nothing inside": (zipped({"train.zip": b""}), f"train.zip {NOT_WHOLE}"),
    "a wrong checksum inside": (BAD_SUM, r"in.zip is not a whole zip archive \(Bad CRC-32"),
    "a wrong stream inside": (BAD_STREAM, rf"in.zip {NOT_WHOLE}"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive_gets_a_sentence(tmp_path, monkeypatch, name):
    data, match = BAD[name]
    monkeypatch.chdir(tmp_path)
    Path("bad.zip").write_bytes(data)
    refused("bad.zip", match=match)
    assert os.listdir() == ["bad.zip"]


def claiming(packed, name, size):
    """A zip whose table of contents and header give an entry another size."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        info = archive.getinfo(name)
    old = struct.pack("<II", info.compress_size, info.file_size)
    assert packed.count(old) == 2
    return packed.replace(old, struct.pack("<II", info.compress_size, size))


def measured(source, output):
    """(exit status, what it said, highest memory in bytes) of a run with the inputs of a bomb."""
    tracemalloc.start()
    try:
        return *run(source, "--output", output), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_entry_that_is_larger_than_the_archive_says_is_not_unpacked(tmp_path):
    bomb = b"\xff\xd8\xff" + bytes(2**27)
    packed = claiming(zipped(pets(count=2) | {"cats/bomb.jpg": bomb}), "cats/bomb.jpg", 1000)
    (tmp_path / "pets.zip").write_bytes(packed)
    status, _, memory = measured(tmp_path / "pets.zip", tmp_path / "data")
    assert status == 0 and memory < 2**25
    assert "cats/bomb.jpg,cats,,unreadable," in (tmp_path / "data/manifest.csv").read_text()


def test_an_inner_archive_that_is_larger_than_the_archive_says_is_not_unpacked(tmp_path):
    packed = claiming(zipped({"in.zip": bytes(2**27)}), "in.zip", 1000)
    (tmp_path / "pets.zip").write_bytes(packed)
    status, sentence, memory = measured(tmp_path / "pets.zip", tmp_path / "data")
    assert status == 2 and re.search(f"in.zip {NOT_WHOLE}", sentence) and memory < 2**25


def test_inner_archives_may_not_be_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_INNER_BYTES", 2**24)
    source = zip_of(tmp_path, {f"{i}.zip": zipped({"x": bytes(2**23)}, 0) for i in range(4)})
    status, sentence, memory = measured(source, tmp_path / "data")
    assert status == 2 and memory < 2**26
    assert sentence == "1.zip and the archives before it take more than 0.015625 GB: " + (
        "unpack the outer archive first.\n"
    )


def test_a_table_of_contents_may_not_be_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_TABLE_BYTES", 2**17)
    monkeypatch.setattr(archives, "CHUNK", 2**16)
    source = zip_of(tmp_path, {f"cats/{'x' * 50}{i}": b"" for i in range(2000)})
    refused(source, "--output", tmp_path / "data", match="its table of contents is too large")
    monkeypatch.undo()
    monkeypatch.setattr(archives, "MAX_FILES", 30)
    refused(source, "--output", tmp_path / "data", match="pets.zip makes it more than 30 f")


def test_entries_that_overlap_are_refused(tmp_path):
    packed = zipped({"a": jpeg(0) + bytes(2**20)})
    at = packed.index(b"PK\x01\x02")
    entry, end = packed[at:-22], packed[-22:]  # the same bytes, listed 2,000 times
    counts = struct.pack("<HHII", 2000, 2000, 2000 * len(entry), at)
    (tmp_path / "pets.zip").write_bytes(packed[:at] + entry * 2000 + end[:8] + counts + b"\0\0")
    status, sentence, memory = measured(tmp_path / "pets.zip", tmp_path / "data")
    assert status == 2 and "it may be a zip bomb" in sentence and memory < 2**25


@pytest.mark.parametrize("depth", [9, 400])
def test_archives_are_nested_to_a_bounded_depth(tmp_path, depth):
    files = within(depth, pets(count=2))
    source = zip_of(tmp_path, files)
    if depth == 9:
        assert len(arrange(source, tmp_path / "data")) == 4
    else:
        refused(source, "--output", tmp_path / "data", match="lies in 9 other archives and holds")


STRANGE = ["../../evil.jpg", "cats/../../evil.jpg", "..\\..\\evil.jpg", "/root.jpg", "C:\\evil.jpg"]


@pytest.mark.parametrize("name", [*STRANGE, "cats/a_link.jpg"])
def test_no_path_of_an_archive_is_written_or_read(tmp_path, name):
    data, mode = (b"9.jpg", stat.S_IFLNK | 0o777) if "link" in name else (jpeg(99), 0)
    source, output = tmp_path / "a/b/pets.zip", tmp_path / "a/b/data"
    unfold({"a/b/pets.zip": entry(name, data, mode), "a/b/9.jpg": jpeg(9)}, tmp_path)
    rows = arrange(source, output)
    assert len(rows) == 5
    assert rows.get("cats/a_link.jpg", {}).get("reason") == ("not an image" if mode else None)
    assert {p.name for p in tmp_path.rglob("*.*") if output not in p.parents} == {
        "9.jpg",
        "pets.zip",
    }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_any_damage_to_a_zip_ends_in_a_sentence_or_a_row(tmp_path_factory, data):
    packed = bytearray(data.draw(st.sampled_from([GOOD, zipped({"in.zip": GOOD})])))
    for _ in range(data.draw(st.integers(1, 8))):
        packed[data.draw(st.integers(-300, len(packed) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("zip")
    (folder / "pets.zip").write_bytes(packed)
    status, sentence = run(folder / "pets.zip", "--output", folder / "data")
    assert status == 0 or sentence.endswith(".\n")
    assert (folder / "data").exists() == (status == 0)


# Microsoft's archive

WANTED = zipped(microsoft())


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(WANTED)))
        self.end_headers()
        self.wfile.write(self.server.body)
        self.server.stalled.wait()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """Stand in for Microsoft's: sends its body and counts how often it is asked."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.body, server.asked, server.stalled = WANTED, 0, threading.Event()
        server.stalled.set()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(ds, "ARCHIVE_URL", f"http://127.0.0.1:{server.server_port}/pets.zip")
        monkeypatch.setattr(ds, "ARCHIVE_SHA256", hashlib.sha256(WANTED).hexdigest())
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server
        server.shutdown()


def test_download(tmp_path, server, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(match="pets.zip does not exist: give a zip or a folder, or add --download")
    refused("--download", "--dry-run", match="does not exist")
    assert server.asked == 0
    refused("nowhere/a.zip", "--download", match="No such file .*nowhere.*: nothing was written")
    assert run("--download") == (0, "")
    assert socket.getdefaulttimeout() is None  # as before
    assert Path("pets.zip").read_bytes() == WANTED
    assert len(arrange("pets.zip", Path("data"), "--download")) == 23
    assert server.asked == 1  # not fetched twice
    assert sorted(os.listdir()) == ["data", "pets.zip"]
    os.mkdir("images")
    arrange("images/a.zip", Path("data"), "--download")
    assert os.listdir("images") == ["a.zip"]


@pytest.mark.parametrize(
    "body, says",
    [(WANTED[:10_000], "10000"), (WANTED[:-1] + b"!", "hash"), (None, "refused")],
)
def test_a_download_that_fails_leaves_nothing(tmp_path, server, body, says):
    server.body = body
    if not body:
        server.shutdown()
        server.server_close()
    arguments = tmp_path / "pets.zip", "--output", tmp_path / "data", "--download"
    refused(*arguments, match=rf"did not arrive \(.*{says}.*\): try again, or give a SOURCE")
    assert os.listdir(tmp_path) == []


def test_a_dead_line_is_given_up(tmp_path, server, monkeypatch):
    monkeypatch.setattr(ds, "TIMEOUT", 0.2)
    server.body = WANTED[:10_000]
    server.stalled.clear()
    arguments = tmp_path / "pets.zip", "--output", tmp_path / "data", "--download"
    refused(*arguments, match=r"did not arrive \(.*timed out.*\): try again, or give a SOURCE")
    assert os.listdir(tmp_path) == []
    server.stalled.set()


def test_download_does_not_overwrite(tmp_path, server):
    (tmp_path / "pets.zip").write_bytes(b"mine")
    arguments = tmp_path / "pets.zip", "--output", tmp_path / "data", "--download"
    refused(*arguments, match="pets.zip is not Microsoft's archive: give a SOURCE")
    assert (tmp_path / "pets.zip").read_bytes() == b"mine"
    assert server.asked == 0


def test_the_archive_is_the_one_that_the_readme_of_the_images_names():
    if not SHARED.exists():
        pytest.skip("the images to develop on are not there")
    text = (SHARED / "README.md").read_text()
    assert ds.ARCHIVE_SHA256 in text and ds.ARCHIVE_URL in text


# The real images


REASONS = {"": 24_960, "duplicate": 32, "two labels": 6, "empty": 2, "not an image": 2}


@pytest.mark.slow
def test_the_real_archive(real_archive, tmp_path):
    rows = arrange(real_archive, tmp_path / "data")
    with zipfile.ZipFile(real_archive) as archive:
        data = {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
    assert set(rows) == set(data)
    reasons = Counter(row["reason"] for row in rows.values())
    assert reasons[""] > 24_000
    if is_the_small_copy(real_archive):
        assert reasons == REASONS
    counts = Counter((row["split"], row["class"]) for row in rows.values() if row["split"])
    for label in ("cats", "dogs"):
        total = sum(counts[split, label] for split in SPLITS)
        for split, share in zip(SPLITS, (0.8, 0.1, 0.1)):
            assert abs(counts[split, label] - share * total) < 1

    # Another look at all pairs, by another library, another size and plain distances.
    names = [name for name, row in rows.items() if row["reason"] in ("", "duplicate", "two labels")]
    small = [Image.open(io.BytesIO(data[name])).convert("L") for name in names]
    small = [image.resize((12, 12), Image.Resampling.BOX) for image in small]
    small = np.stack([np.asarray(image, np.float32).ravel() for image in small])
    small -= small.mean(1, keepdims=True)
    squares = (small**2).sum(1)
    left = np.array([bool(rows[name]["reason"]) for name in names])
    nearest = np.full(len(names), np.inf)
    for i in range(0, len(names), 500):
        distance = squares[i : i + 500, None] + squares - 2 * small[i : i + 500] @ small.T
        distance[np.arange(len(distance)), np.arange(i, i + len(distance))] = np.inf
        distance /= np.minimum(squares[i : i + 500, None], squares).clip(1)
        nearest[i : i + 500] = np.where(left[i : i + 500, None] | ~left, distance, np.inf).min(1)
    assert nearest[left].max() < 0.05  # each that was left out has a twin
    assert nearest[~left].min() > 0.1  # no two that were kept look alike

    kept = [name for name, row in rows.items() if row["split"] and not row["note"]]
    for name in random.Random(0).sample(kept, 300):
        result = (tmp_path / "data" / rows[name]["file"]).read_bytes()
        assert result == data[name]
        assert tensorflow(result).shape == opencv(result).shape
