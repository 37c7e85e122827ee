"""data_separator.py: every layout, every fault, no leak, all or nothing."""

import csv
import errno
import hashlib
import http.server
import io
import os
import pty
import random
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import threading
import time
import zipfile
import zlib
from collections import Counter
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import data_separator as ds

SCRIPT = Path(ds.__file__).resolve()
SHARED = SCRIPT.parent.parent / "shared" / "data"
SPLITS = ("train", "validation", "test")


# Photos and sources made up for the tests


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


def photo(seed, **size):
    return encode(picture(seed, **size))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def pets(count=10):
    """{class: photos} of a small cats and dogs data set, all different."""
    return {
        "cat": [photo(seed) for seed in range(count)],
        "dog": [photo(1000 + seed) for seed in range(count)],
    }


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


def class_folders(count=10):
    return {f"{k}s/{i}.jpg": b for k, photos in pets(count).items() for i, b in enumerate(photos)}


def run(*arguments):
    """(exit status, what it said) of a run in this process."""
    try:
        ds.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return 1 if isinstance(end.code, str) else end.code, end.code
    return 0, ""


def refused(*arguments, match):
    status, sentence = run(*arguments)
    assert status != 0
    assert re.search(match, sentence), sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


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
    assert not list(output.parent.glob(".*unfinished*"))
    return {row["source"]: row for row in rows}


def tree(folder):
    """Everything below a folder: path -> contents (None for a folder)."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


# 1. Layouts


def kaggle_train(prefix="train/"):
    return {f"{prefix}{k}.{i}.jpg": b for k, photos in pets().items() for i, b in enumerate(photos)}


def microsoft():
    files = {
        f"PetImages/{k.title()}/{i}.jpg": b
        for k, photos in pets().items()
        for i, b in enumerate(photos)
    }
    return files | {
        "PetImages/Cat/Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(508),
        "PetImages/Dog/666.jpg": b"",
        "readme[1].txt": b"Microsoft Research Data License Agreement",
    }


def kaggle_test():
    return {f"test1/{i}.jpg": photo(2000 + i) for i in range(1, 6)}


def kaggle(method):
    inner = {"train.zip": zipped(kaggle_train()), "test1.zip": zipped(kaggle_test(), method)}
    return inner | {"sampleSubmission.csv": b"id,label\n1,0\n"}


LAYOUTS = {
    "train.zip": lambda: kaggle_train(),
    "PetImages": lambda: microsoft(),
    "class folders": lambda: class_folders(),
    "folders in a folder": lambda: {f"animals/{k}": b for k, b in class_folders().items()},
    "split already": lambda: {
        f"{('train', 'validation')[i % 2]}/{name}": data
        for i, (name, data) in enumerate(class_folders().items())
    },
    "backslashes": lambda: {k.replace("/", "\\"): b for k, b in microsoft().items()},
}


@pytest.mark.parametrize("layout", [f"{name} in a zip" for name in LAYOUTS] + [*LAYOUTS][:-1])
def test_layout(tmp_path, layout):
    name = layout.removesuffix(" in a zip")
    files = LAYOUTS[name]()
    if name != layout:
        (tmp_path / "source.zip").write_bytes(zipped(files))
    else:
        unfold(files, tmp_path / "source")
    (source,) = tmp_path.iterdir()
    before = tree(tmp_path)
    rows = arrange(source, tmp_path / "data")
    assert set(rows) == {name.replace("\\", "/") for name in files}
    kept = {name: row for name, row in rows.items() if row["split"]}
    assert Counter(row["class"] for row in kept.values()) == {"cats": 10, "dogs": 10}
    for name, row in kept.items():
        assert row["class"] == ("cats" if "cat" in name.lower() else "dogs")
        original = files.get(name) or files[name.replace("/", "\\")]
        assert (tmp_path / "data" / row["file"]).read_bytes() == original
    counts = Counter((row["split"], row["class"]) for row in kept.values())
    assert counts == {(s, c): n for s, n in zip(SPLITS, (8, 1, 1)) for c in ("cats", "dogs")}
    assert {k: v for k, v in tree(tmp_path).items() if not k.startswith("data")} == before


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("packed", ["zip", "folder", "zip in a folder"])
def test_kaggle_with_its_inner_zips(tmp_path, monkeypatch, method, packed):
    monkeypatch.chdir(tmp_path)
    source, prefix = tmp_path / "dogs-vs-cats.zip", ""
    if packed == "folder":
        source = unfold(kaggle(method), tmp_path / "dogs-vs-cats")
    else:
        source.write_bytes(zipped(kaggle(method), method))
    if packed == "zip in a folder":
        (tmp_path / "downloads").mkdir()
        source = source.rename(tmp_path / "downloads" / source.name).parent
        prefix = "dogs-vs-cats.zip/"
    before = tree(tmp_path)
    rows = arrange(source, tmp_path / "data")
    names = {f"train.zip/{name}": "cats" if "cat" in name else "dogs" for name in kaggle_train()}
    names |= {f"test1.zip/{name}": "" for name in kaggle_test()} | {"sampleSubmission.csv": ""}
    assert set(rows) == {prefix + name for name in names}
    assert all(
        rows[prefix + name]["class"] == label for name, label in names.items() if ".jpg" in name
    )
    reasons = Counter(row["reason"] for row in rows.values())
    assert reasons == {"": 20, "no label": 5, "not an image": 1}
    assert {k: v for k, v in tree(tmp_path).items() if not k.startswith("data")} == before


def test_unpacked_kaggle_with_test_photos(tmp_path):
    rows = arrange(unfold(kaggle_train() | kaggle_test(), tmp_path / "pets"), tmp_path / "data")
    assert Counter(row["class"] for row in rows.values()) == {"cats": 10, "dogs": 10, "": 5}
    assert {row["reason"] for row in rows.values() if not row["class"]} == {"no label"}


def test_train_and_its_zip_side_by_side_are_one(tmp_path):
    files = kaggle_train() | {"train.zip": zipped(kaggle_train())}
    rows = arrange(unfold(files, tmp_path / "pets"), tmp_path / "data")
    assert Counter(row["reason"] for row in rows.values()) == {"": 20, "duplicate": 20}


def test_classes_of_any_name_and_number(tmp_path):
    labels = {"bus": "bus", "train": "train", "Vélo électrique": "Vélo électrique"}
    labels |= {"cat": "cats", "DOGS": "dogs"}
    files = {f"{k}/{i}.jpg": photo(100 * n + i) for n, k in enumerate(labels) for i in range(3)}
    rows = arrange(unfold(files, tmp_path / "things"), tmp_path / "data")
    assert all(row["class"] == labels[name.split("/")[0]] for name, row in rows.items())


def test_hidden_folders_are_no_classes(tmp_path):
    hidden = {
        "cats/.ipynb_checkpoints/0-checkpoint.jpg": class_folders()["cats/0.jpg"],
        "__MACOSX/cats/._0.jpg": b"\0\5\x16\7" + bytes(200),
    }
    rows = arrange(unfold(class_folders() | hidden, tmp_path / "pets"), tmp_path / "data")
    assert [rows[name]["reason"] for name in hidden] == ["no label", "not an image"]
    assert rows["cats/0.jpg"]["split"]


def test_one_zip_per_class(tmp_path):
    files = {
        f"{k}s.zip": zipped({f"{i}.jpg": b for i, b in enumerate(v)}) for k, v in pets().items()
    }
    rows = arrange(unfold(files, tmp_path / "pets"), tmp_path / "data")
    assert Counter(row["class"] for row in rows.values()) == {"cats": 10, "dogs": 10}


def test_photos_of_one_name_do_not_overwrite_each_other(tmp_path):
    names = ["a/cats/Photo.JPG", "a/dogs/Photo.JPG", "b/cats/Photo.JPG", "b/dogs/Photo.JPG"]
    names += ["c/cats/photo.jpg", "c/cats/photo", "c/dogs/x\ny:z?.jpg", "d/dogs/..jpg"]
    files = {name: photo(seed) for seed, name in enumerate(names)}
    rows = arrange(unfold(files, tmp_path / "pets"), tmp_path / "data")
    for name, row in rows.items():
        assert (tmp_path / "data" / row["file"]).read_bytes() == files[name]
    assert len({row["file"].split("/", 1)[1].lower() for row in rows.values()}) == len(files)
    assert all(re.search(r"\.jpg$", row["file"], re.IGNORECASE) for row in rows.values())


def test_names_that_are_not_utf8(tmp_path):
    source = unfold(class_folders(2), tmp_path / "pets")
    os.rename(source / "cats/0.jpg", os.fsencode(source / "cats") + b"/caf\xe9.jpg")
    assert run(source, "--output", tmp_path / "data") == (0, "")
    assert b"cats/caf\xe9.jpg" in (tmp_path / "data/manifest.csv").read_bytes()


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda p: p / "nowhere.zip", "nowhere.zip does not exist"),
        (lambda p: unfold({"cats/1.jpg": photo(1)}, p / "one"), r"Two classes.* 1 \(cats\)"),
        (lambda p: unfold({"1.jpg": photo(1)}, p / "flat"), r"Two classes.* 0 \(none\)"),
        (lambda p: unfold({"cats/1.jpg": b"", "dogs/1.jpg": b"x"}, p / "bad"), r"0 \(none\)"),
        (lambda p: unfold({"a.zip": b""}, p).joinpath("a.zip"), "a.zip is not a whole zip"),
        (lambda p: unfold({"a.tar": b"x" * 99}, p).joinpath("a.tar"), "a.tar is not a whole zip"),
    ],
)
def test_a_source_without_classes_is_refused(tmp_path, make, match):
    refused(make(tmp_path), "--output", tmp_path / "data", match=match)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "split", [("80", "10", "-1"), ("0", "0", "0"), ("a", "b", "c"), ("1", "2")]
)
def test_shares_that_make_no_sense_are_refused(tmp_path, split, capsys):
    status, _ = run(tmp_path, "--split", *split)
    assert status == 2
    assert "--split" in capsys.readouterr().err


# 2. What can be trained on


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png_bomb(width, height):
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


def resized_header(jpeg, width, height):
    """The JPEG, claiming another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">2H", height, width) + jpeg[at + 4 :]


WHOLE = photo(7)
SCAN = WHOLE.index(b"\xff\xda") + 14
FAULTS = {
    "nothing in it": (b"", "empty"),
    "HTML": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not an image"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "not an image"),
    "zeros": (bytes(4000), "not an image"),
    "a start marker alone": (b"\xff\xd8\xff", "damaged"),
    "header alone": (WHOLE[: SCAN - 20], "damaged"),
    "half": (WHOLE[: len(WHOLE) // 2], "damaged"),
    "all but the end marker": (WHOLE[:-2], "damaged"),
    "half, then zeros": (WHOLE[: len(WHOLE) // 2] + bytes(len(WHOLE) // 2), "damaged"),
    "half, then an end marker": (WHOLE[: (SCAN + len(WHOLE)) // 2] + b"\xff\xd9", "damaged"),
    "a hole": (WHOLE[: SCAN + 500] + WHOLE[SCAN + 1500 :], "damaged"),
    "a stray marker": (WHOLE[: SCAN + 300] + b"\xff\x2f" + WHOLE[SCAN + 302 :], "damaged"),
    "a stray marker at the end": (WHOLE[:-4] + b"\xff\x2f\xff\xd9", "damaged"),
    "half a PNG": (encode(picture(8), "PNG")[:5000], "damaged"),
    "a PNG sent as text": (encode(picture(8), "PNG").replace(b"\n", b"\r\n"), "damaged"),
    "a PNG without its end": (encode(picture(8), "PNG")[:-12], "damaged"),
    "half a BMP": (encode(picture(8), "BMP")[:5000], "damaged"),
    "half a GIF": (encode(picture(8), "GIF")[:3000], "damaged"),
    "half a WebP": (encode(picture(8), "WEBP")[:800], "damaged"),
    "half a TIFF": (encode(picture(8), "TIFF")[:5000], "damaged"),
    "a letter to the BM": (b"BM is how this letter begins", "damaged"),
    "a PNG of 2.5 gigapixels": (png_bomb(50_000, 50_000), "too large"),
    "a PNG of 100 megapixels": (png_bomb(10_000, 10_000), "too large"),
    "a JPEG of 4 gigapixels": (resized_header(WHOLE, 65_000, 65_000), "too large"),
    "a GIF of 4 gigapixels": (
        b"GIF89a" + struct.pack("<2H", 65_000, 65_000) + encode(picture(8), "GIF")[10:],
        "too large",
    ),
}


def test_faults_are_left_out_with_the_reason(tmp_path):
    files = class_folders(3) | {
        f"{label}/{name}.jpg": data
        for name, (data, _) in FAULTS.items()
        for label in ("cats", "dogs")
    }
    source = tmp_path / "pets.zip"
    source.write_bytes(zipped(files))
    rows = arrange(source, tmp_path / "data")
    found = {name: rows[f"{c}/{name}.jpg"]["reason"] for name in FAULTS for c in ("cats", "dogs")}
    assert found == {name: reason for name, (_, reason) in FAULTS.items()}
    assert sum(bool(row["split"]) for row in rows.values()) == 6


def test_what_is_no_plain_file_is_left_out(tmp_path):
    source = unfold(class_folders(2), tmp_path / "pets")
    other = unfold({"cat/9.jpg": photo(9)}, tmp_path / "elsewhere")
    os.mkfifo(source / "cats/pipe.jpg")
    (source / "cats/lost.jpg").symlink_to("nowhere")
    (source / "cats/loop").symlink_to(source, target_is_directory=True)
    (source / "cats/outside").symlink_to(other, target_is_directory=True)
    (source / "cats/linked.jpg").symlink_to(other / "cat/9.jpg")
    with open(source / "cats/huge.jpg", "wb") as file:
        file.truncate(2**28 + 1)  # takes no room on the disk
    rows = arrange(source, tmp_path / "data")
    reasons = {name.split("/")[1]: row["reason"] for name, row in rows.items() if row["reason"]}
    assert reasons == {
        "pipe.jpg": "not a plain file",
        "lost.jpg": "not a plain file",
        "loop": "not a plain file",
        "outside": "not a plain file",
        "huge.jpg": "too large",
    }
    copied = tmp_path / "data" / rows["cats/linked.jpg"]["file"]
    assert copied.read_bytes() == photo(9)
    assert not copied.is_symlink()


def test_what_cannot_be_read_is_left_out(tmp_path, monkeypatch):
    files = class_folders(3) | {"cats/bad.jpg": photo(77), "dogs/bad.jpg": photo(78)}
    packed = bytearray(zipped(files, zipfile.ZIP_STORED))
    packed[packed.index(photo(77)) + 900] ^= 1  # the checksum tells
    with zipfile.ZipFile(io.BytesIO(bytes(packed))) as archive:
        packed[archive.getinfo("dogs/bad.jpg").header_offset] ^= 1  # not where it should be
    (tmp_path / "pets.zip").write_bytes(packed)
    rows = arrange(tmp_path / "pets.zip", tmp_path / "data")
    left = {name: row["reason"] for name, row in rows.items() if row["reason"]}
    assert left == {"cats/bad.jpg": "unreadable", "dogs/bad.jpg": "unreadable"}

    def fail(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    file = ds.File("cats/1.jpg", 9, Path("1.jpg").read_bytes, label="cats")
    ds.inspect(file)
    assert file.reason == "unreadable"


def tensorflow(data):
    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()


def opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def readable(read, data):
    try:
        read(data)
    except (tf.errors.InvalidArgumentError, TypeError, cv2.error):  # TypeError: OpenCV gave None
        return False
    return True


BASE = picture(21)
GREY = cv2.cvtColor(BASE, cv2.COLOR_RGB2GRAY)
GREY3 = np.dstack([GREY] * 3)
PALETTE = Image.fromarray(BASE).quantize(200)
BLACK_WHITE = Image.fromarray(GREY).convert("1")
CLEAR = np.dstack([BASE, np.full(GREY.shape, 255, np.uint8)])
CLEAR[:20, :, 3] = 0
UPRIGHT = {  # what a photo with each orientation tag shows, by the Exif standard
    1: BASE,
    2: BASE[:, ::-1],
    3: BASE[::-1, ::-1],
    4: BASE[::-1],
    5: BASE.transpose(1, 0, 2),
    6: BASE.transpose(1, 0, 2)[:, ::-1],
    7: BASE.transpose(1, 0, 2)[::-1, ::-1],
    8: BASE.transpose(1, 0, 2)[::-1],
}


def cv_encode(suffix, array, *options):
    return cv2.imencode(suffix, array[..., ::-1] if array.ndim == 3 else array, options)[
        1
    ].tobytes()


def without_jfif(jpeg):
    """The JPEG without its first segment."""
    return jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6]) :]


# name: (file, what it shows, whether it is kept as it is)
VALID = {
    "JPEG": (encode(BASE), BASE, True),
    "extended JPEG": (encode(BASE).replace(b"\xff\xc0", b"\xff\xc1", 1), BASE, True),
    "progressive JPEG": (encode(BASE, progressive=True), BASE, True),
    "JPEG with restarts": (cv_encode(".jpg", BASE, cv2.IMWRITE_JPEG_RST_INTERVAL, 2), BASE, True),
    "JPEG with something after it": (encode(BASE) + b"more" * 99, BASE, True),
    "JPEG with zeros before its end": (encode(BASE)[:-2] + bytes(40) + b"\xff\xd9", BASE, True),
    "JPEG with fill bytes": (encode(BASE).replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1), BASE, True),
    "grey JPEG": (encode(GREY), GREY3, True),
    "RGB JPEG": (encode(BASE, keep_rgb=True), BASE, True),
    "JPEG ending in mid grey": (
        encode(np.vstack([BASE, np.full_like(BASE, 128)])),
        np.vstack([BASE, np.full_like(BASE, 128)]),
        True,
    ),
    "Exif without JFIF": (without_jfif(encode(BASE, exif=exif(1))), BASE, True),
    "CMYK JPEG": (encode(Image.fromarray(BASE).convert("CMYK")), BASE, False),
    "two photos in one JPEG": (
        encode(BASE, "MPO", save_all=True, append_images=[Image.fromarray(GREY3)], quality=90),
        BASE,
        True,
    ),
    "PNG": (encode(BASE, "PNG"), BASE, True),
    "grey PNG": (encode(GREY, "PNG"), GREY3, True),
    "palette PNG": (encode(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB")), True),
    "1-bit PNG": (encode(BLACK_WHITE, "PNG"), np.asarray(BLACK_WHITE.convert("RGB")), True),
    "PNG with transparency": (encode(CLEAR, "PNG"), BASE, True),
    "16-bit PNG": (cv_encode(".png", BASE.astype(np.uint16) * 257), BASE, True),
    "16-bit grey PNG": (cv_encode(".png", GREY.astype(np.uint16) * 257), GREY3, False),
    "turned PNG": (encode(BASE, "PNG", exif=exif(6)), UPRIGHT[6], False),
    "GIF": (encode(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB")), False),
    "moving GIF": (
        encode(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)]),
        np.asarray(PALETTE.convert("RGB")),
        False,
    ),
    "BMP": (encode(BASE, "BMP"), BASE, False),
    "palette BMP": (encode(PALETTE, "BMP"), np.asarray(PALETTE.convert("RGB")), False),
    "1-bit BMP": (encode(BLACK_WHITE, "BMP"), np.asarray(BLACK_WHITE.convert("RGB")), False),
    "WebP": (encode(BASE, "WEBP", lossless=True), BASE, False),
    "moving WebP": (
        encode(BASE, "WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(GREY3)]),
        BASE,
        False,
    ),
    "TIFF": (encode(BASE, "TIFF"), BASE, False),
    "packed TIFF": (encode(BASE, "TIFF", compression="tiff_lzw"), BASE, False),
    "CMYK TIFF": (encode(Image.fromarray(BASE).convert("CMYK"), "TIFF"), BASE, False),
    "PNG of one pixel": (encode(BASE[:1, :1], "PNG"), BASE[:1, :1], True),
}
for _turn, _shown in UPRIGHT.items():
    VALID[f"JPEG turned {_turn}"] = (encode(BASE, exif=exif(_turn)), _shown, _turn == 1)


@pytest.mark.parametrize("name", VALID)
def test_valid_photos_are_kept_and_look_alike_to_all_readers(tmp_path, name):
    data, shown, as_it_is = VALID[name]
    files = class_folders(2) | {"cats/odd.jpg": data}
    rows = arrange(unfold(files, tmp_path / "pets"), tmp_path / "data")
    row = rows["cats/odd.jpg"]
    assert row["split"]
    assert bool(row["note"]) != as_it_is
    result = (tmp_path / "data" / row["file"]).read_bytes()
    assert (result == data) == as_it_is
    assert row["file"].endswith(".jpg" if as_it_is else ".png")
    for read in (tensorflow, opencv, pillow):
        got = read(result)
        assert got.shape == shown.shape
        error = np.abs(got.astype(int) - shown)
        assert error.mean() < 6, read.__name__  # JPEG at quality 90
        assert np.abs(got.astype(int) - opencv(result)).max() <= 8, read.__name__
    if not as_it_is:
        assert np.array_equal(tensorflow(result), opencv(result))
        assert np.array_equal(pillow(result), opencv(result))


def test_transparent_gif_and_webp_look_alike_to_all_readers(tmp_path):
    odd = {
        "cats/odd.gif": encode(PALETTE, "GIF", transparency=3),
        "cats/odd.webp": encode(Image.fromarray(CLEAR), "WEBP", lossless=True),
    }
    rows = arrange(unfold(class_folders(2) | odd, tmp_path / "pets"), tmp_path / "data")
    for name in odd:
        result = (tmp_path / "data" / rows[name]["file"]).read_bytes()
        assert tensorflow(result).shape == BASE.shape
        assert np.array_equal(tensorflow(result), opencv(result))
        assert np.array_equal(tensorflow(result), pillow(result))


CUT = {
    "baseline": encode(picture(31, 120, 90)),
    "progressive": encode(picture(31, 120, 90), progressive=True),
    "PNG": encode(picture(31, 120, 90), "PNG"),
    "GIF": encode(picture(31, 120, 90), "GIF"),
    "large": encode(picture(31, 400, 300)),
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(CUT)), st.data(), st.sampled_from(["cut", "zeros", "flip"]))
def test_what_is_kept_can_be_read_whole_by_tensorflow_and_opencv(kind, data, damage):
    whole = CUT[kind]
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = {
        "cut": whole[:at],
        "zeros": whole[:at] + bytes(len(whole) - at),
        "flip": whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :],
    }[damage]
    file = ds.File("cats/1.jpg", len(broken), lambda: broken, label="cats")
    ds.inspect(file)
    if file.reason:
        assert file.reason in {"empty", "not an image", "damaged", "too large"}
        assert broken != whole
    elif not file.note:
        assert readable(tensorflow, broken)
        assert readable(opencv, broken)
    if damage == "cut":
        assert file.reason or (kind == "PNG" and at == len(whole))


# 3. Photos that are there twice


def resave(array, quality=50):
    return encode(array, quality=quality)


def scaled(array, factor, how):
    size = tuple(round(side * factor) for side in array.shape[1::-1])
    return cv2.resize(array, size, interpolation=how)


COPIES = {
    "byte for byte": lambda a: encode(a),
    "saved again": lambda a: resave(pillow(encode(a)), 50),
    "saved badly": lambda a: resave(a, 25),
    "as PNG": lambda a: encode(a, "PNG"),
    "as TIFF": lambda a: encode(a, "TIFF"),
    "half": lambda a: encode(scaled(a, 0.5, cv2.INTER_AREA)),
    "0.7": lambda a: encode(scaled(a, 0.7, cv2.INTER_LINEAR)),
    "twice": lambda a: encode(scaled(a, 2, cv2.INTER_CUBIC)),
    "squashed": lambda a: encode(cv2.resize(a, (180, 180), interpolation=cv2.INTER_AREA)),
    "a pixel to the left": lambda a: encode(np.roll(a, -1, axis=1)),
    "a pixel down": lambda a: encode(np.roll(a, 1, axis=0)),
    "without its first row and column": lambda a: encode(a[1:, 1:]),
    "a pixel up and left, half": lambda a: encode(scaled(a[1:, 1:], 0.5, cv2.INTER_AREA)),
    "on its side by Exif": lambda a: encode(np.rot90(a).copy(), exif=exif(6)),
    "in grey": lambda a: encode(cv2.cvtColor(a, cv2.COLOR_RGB2GRAY)),
}


def groups_of(photos):
    """Sets of indices that the script takes for one photo."""
    files = []
    for i, data in enumerate(photos):
        file = ds.File(f"cats/{i}", len(data), lambda data=data: data, label="cats")
        ds.inspect(file)
        assert not file.reason, file.reason
        files.append(file)
    return {frozenset(int(f.source[5:]) for f in group) for group in ds.group_same(files)}


@pytest.mark.parametrize("copy", COPIES)
def test_the_same_photo_twice_is_found(copy):
    arrays = [picture(seed, 320, 240) for seed in range(12)]
    photos = [encode(a) for a in arrays] + [COPIES[copy](a) for a in arrays]
    assert groups_of(photos) == {frozenset({i, i + 12}) for i in range(12)}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(120, 500),
    height=st.integers(120, 500),
    dx=st.integers(0, 1),
    dy=st.integers(0, 1),
    factor=st.floats(0.4, 1.5),
    quality=st.integers(30, 95),
)
def test_a_shifted_resized_and_resaved_photo_is_found(seed, width, height, dx, dy, factor, quality):
    array = picture(seed, width, height)
    copy = resave(scaled(array[dy:, dx:], factor, cv2.INTER_AREA), quality)
    stranger = photo(seed + 1, width=width, height=height)
    assert groups_of([encode(array), copy, stranger]) == {frozenset({0, 1}), frozenset({2})}


def test_a_small_sharp_photo_shifted_by_a_pixel_is_found():
    rng = np.random.default_rng(3)
    for _ in range(12):
        grid = rng.integers(0, 256, (7, 9, 3), np.uint8)
        array = cv2.resize(grid, (90, 70), interpolation=cv2.INTER_NEAREST)  # hard edges
        shifted = np.roll(array, (1, 1), (0, 1))
        assert len(groups_of([encode(array), encode(shifted), encode(array[1:, 1:])])) == 1


def test_different_photos_are_not_merged():
    rng = np.random.default_rng(0)
    scene = picture(5, 320, 240)

    def with_animal(x, y, colour=(90, 60, 30)):
        return cv2.ellipse(scene.copy(), (x, y), (60, 40), 20, 0, 360, colour, -1)

    flat = [np.full((90, 120, 3), c, np.uint8) for c in (0, 1, 128, 130, 255)]
    tinted = [np.full((90, 120, 3), c, np.uint8) for c in ((200, 0, 0), (0, 102, 0), (60, 60, 76))]
    card = [
        cv2.putText(
            np.full((200, 200, 3), 250, np.uint8), text, (10, 110), 0, 1.3, (10, 10, 200), 3
        )
        for text in ("Adopted", "Missing", "No photo")
    ]
    base = picture(6, 320, 240) // 2
    hues = [base + np.array(tint, np.uint8) for tint in ((88, 0, 0), (0, 45, 0), (30, 30, 0))]
    photos = [
        *(with_animal(x, y) for x, y in ((100, 100), (130, 100), (100, 130), (200, 120))),
        with_animal(100, 100, (220, 200, 180)),
        scene,
        scene[:, ::-1].copy(),
        np.clip(scene.astype(int) + 40, 0, 255).astype(np.uint8),
        scene[:200, :260].copy(),
        *flat,
        *tinted,
        *card,
        *hues,
        *rng.integers(0, 256, (5, 64, 64, 3), np.uint8),
    ]
    groups = groups_of([encode(a, "PNG") for a in photos])
    assert groups == {frozenset({i}) for i in range(len(photos))}


def test_one_of_a_group_is_kept_and_none_of_two_labels(tmp_path):
    large, same = picture(300, 320, 240), picture(301, 320, 240)
    wrong, card = picture(302, 320, 240), picture(303, 320, 240)
    files = class_folders(5) | {
        "cats/a.jpg": encode(scaled(large, 0.5, cv2.INTER_AREA)),
        "cats/b.jpg": encode(large),
        "cats/c.jpg": encode(large[1:, 1:]),
        "dogs/d.jpg": encode(same),
        "dogs/e.jpg": encode(same),
        "cats/f.jpg": encode(wrong),
        "dogs/f.jpg": encode(wrong, quality=60),
        "cats/g.jpg": encode(card),
        "cats/h.jpg": encode(card),
        "dogs/i.jpg": encode(card),
    }
    rows = arrange(unfold(files, tmp_path / "pets"), tmp_path / "data")
    left = {name: (row["reason"], row["note"]) for name, row in rows.items() if row["reason"]}
    assert left == {
        "cats/a.jpg": ("duplicate", "same photo as cats/b.jpg"),
        "cats/c.jpg": ("duplicate", "same photo as cats/b.jpg"),
        "dogs/e.jpg": ("duplicate", "same photo as dogs/d.jpg"),
        "cats/f.jpg": ("two labels", "same photo as dogs/f.jpg"),
        "dogs/f.jpg": ("two labels", "same photo as cats/f.jpg"),
        "cats/g.jpg": ("two labels", "same photo as cats/h.jpg, dogs/i.jpg"),
        "cats/h.jpg": ("two labels", "same photo as cats/g.jpg, dogs/i.jpg"),
        "dogs/i.jpg": ("two labels", "same photo as cats/g.jpg, cats/h.jpg"),
    }


def test_pairs_are_found_wherever_they_stand_among_many():
    rng = np.random.default_rng(1)
    thumbs = rng.integers(40, 216, (1500, 8, 8), np.uint8).repeat(5, 1).repeat(5, 2)
    twins = rng.permutation(1500)[:600].reshape(300, 2)
    noise = rng.integers(-20, 20, (300, 8, 8)).repeat(5, 1).repeat(5, 2)
    thumbs[twins[:, 0]] = thumbs[twins[:, 1]] + noise
    found = {frozenset(map(int, pair)) for pair in ds.alike_pairs(thumbs, tile=64)}
    assert {frozenset(map(int, pair)) for pair in twins} <= found
    flat = thumbs.reshape(1500, -1).astype(float)
    close = np.argwhere(np.triu(np.corrcoef(flat) > 0.97, 1))  # an independent, slower way
    assert {frozenset(map(int, pair)) for pair in close} <= found
    assert len(found) < 600


# 4. The split

HASHES = st.sets(st.text("0123456789abcdef", min_size=8, max_size=8), min_size=1, max_size=300)
SHARES = st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(any)


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


@given(HASHES, HASHES, st.integers(0, 9))
def test_adding_photos_moves_hardly_any(old, new, seed):
    shares = [Fraction(80), Fraction(10), Fraction(10)]
    before, after = ds.split_of(old, shares, seed), ds.split_of(old | new, shares, seed)
    moved = sum(before[h] != after[h] for h in old)
    # A cut moves by no more places than photos were added on one side of it, plus the rounding.
    assert moved <= 2 * (len(new - old) + 1)


def test_adding_photos_moves_hardly_any_in_numbers():
    rng = random.Random(0)
    old = [f"{rng.getrandbits(64):016x}" for _ in range(12_000)]
    new = [f"{rng.getrandbits(64):016x}" for _ in range(1_000)]
    shares = [Fraction(80), Fraction(10), Fraction(10)]
    before, after = ds.split_of(old, shares, 0), ds.split_of(old + new, shares, 0)
    assert sum(before[h] != after[h] for h in old) < 120  # 1 %; a new shuffle moves 34 %
    other = ds.split_of(old, shares, 1)
    moved = sum(before[h] != other[h] for h in old) / len(old)
    assert 0.31 < moved < 0.37  # 1 - (0.8² + 0.1² + 0.1²)


def test_split_and_seed_on_the_command_line(tmp_path):
    source = unfold(class_folders(20), tmp_path / "pets")
    first = arrange(source, tmp_path / "a", "--split", "0.5", "0.25", "0.25")
    counts = Counter((row["class"], row["split"]) for row in first.values())
    assert counts == {(c, s): n for c in ("cats", "dogs") for s, n in zip(SPLITS, (10, 5, 5))}
    second = arrange(source, tmp_path / "b", "--split", "2", "1", "1")
    assert first == second
    third = arrange(source, tmp_path / "c", "--split", "2", "1", "1", "--seed", "1")
    assert {k: row["split"] for k, row in third.items()} != {
        k: r["split"] for k, r in first.items()
    }
    fourth = arrange(source, tmp_path / "d", "--split", "3", "1", "0")
    assert {row["split"] for row in fourth.values()} == {"train", "validation"}
    assert sorted(os.listdir(tmp_path / "d")) == ["manifest.csv", "train", "validation"]


def test_zip_and_folder_give_the_same_split(tmp_path):
    files = class_folders(15)
    backwards = dict(sorted(files.items(), key=lambda item: item[1]))
    (tmp_path / "pets.zip").write_bytes(zipped(backwards))
    arrange(unfold(files, tmp_path / "pets"), tmp_path / "a")
    arrange(tmp_path / "pets.zip", tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


# 5. The result


def test_links_where_possible_and_copies_on_demand(tmp_path, monkeypatch):
    source = unfold(class_folders(3) | {"cats/odd.jpg": VALID["TIFF"][0]}, tmp_path / "pets")

    def linked(rows, output):
        return {
            name: (output / row["file"]).samefile(source / name)
            for name, row in rows.items()
            if name != "cats/odd.jpg"
        }

    assert all(linked(arrange(source, tmp_path / "a"), tmp_path / "a").values())
    rows = arrange(source, tmp_path / "b", "--copy")
    assert not any(linked(rows, tmp_path / "b").values())
    for name, row in rows.items():
        same = (tmp_path / "b" / row["file"]).read_bytes() == (source / name).read_bytes()
        assert same == (name != "cats/odd.jpg")

    def other_device(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_device)
    assert not any(linked(arrange(source, tmp_path / "c"), tmp_path / "c").values())
    assert tree(tmp_path / "a") == tree(tmp_path / "b") == tree(tmp_path / "c")


def test_the_result_has_ordinary_permissions(tmp_path):
    os.umask(mask := os.umask(0))
    arrange(unfold(class_folders(2), tmp_path / "pets"), tmp_path / "new" / "data")
    assert stat.S_IMODE((tmp_path / "new" / "data").stat().st_mode) == 0o777 & ~mask


def test_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    unfold(microsoft(), tmp_path / "pets")
    before = tree(tmp_path)
    assert run("pets", "--dry-run") == (0, "")
    dry = capsys.readouterr().out
    assert tree(tmp_path) == before
    assert run("pets") == (0, "")
    assert capsys.readouterr().out.splitlines()[:-1] == dry.splitlines()[:-1]


def test_the_summary_counts_everything(tmp_path, capsys):
    files = microsoft() | {
        "PetImages/Cat/x.jpg": VALID["TIFF"][0],
        "PetImages/Dog/copy.jpg": pets()["dog"][0],
    }
    arrange(unfold(files, tmp_path / "pets"), tmp_path / "data")
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "found 25 files",
        "kept 21, 1 of them converted",
        "train cats 9 train dogs 8",
        "validation cats 1 validation dogs 1 test cats 1 test dogs 1",
        "left out 4",
        "not an image 2",
        "duplicate 1",
        "empty 1",
    ):
        assert words in out


def test_again_is_fine_and_changes_nothing(tmp_path):
    source, output = unfold(class_folders(4), tmp_path / "pets"), tmp_path / "data"
    arrange(source, output)
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*")}
    arrange(source, output)
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*")} == before


def test_the_result_inside_the_source_is_no_source(tmp_path):
    source = unfold(class_folders(4), tmp_path / "pets")
    unfold({"train/cats/9.jpg": b"left by a killed run"}, ds.partial_result(source / "data"))
    first = arrange(source, source / "data")
    assert len(first) == 8
    assert arrange(source, source / "data") == first


@pytest.mark.parametrize("options", [("--seed", "1"), ("--split", "1", "1", "1")])
def test_another_result_is_not_touched(tmp_path, options):
    source, output = unfold(class_folders(9), tmp_path / "pets"), tmp_path / "data"
    arrange(source, output)
    before = tree(tmp_path)
    refused(source, "--output", output, *options, match="data holds another result: remove it or")
    assert tree(tmp_path) == before


def test_a_result_that_lost_photos_is_not_touched(tmp_path):
    source, output = unfold(class_folders(4), tmp_path / "pets"), tmp_path / "data"
    rows = arrange(source, output)
    (output / rows["cats/1.jpg"]["file"]).unlink()
    before = tree(tmp_path)
    refused(source, "--output", output, match="Photos are missing from .*data")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda p: unfold({"mine.txt": b"precious"}, p),
        lambda p: unfold({"train/cats/mine.jpg": photo(1)}, p),
        lambda p: p.mkdir(),
        lambda p: p.write_bytes(b"a file"),
        lambda p: p.symlink_to("nowhere"),
    ],
)
def test_what_it_did_not_make_is_not_touched(tmp_path, make):
    source = unfold(class_folders(3), tmp_path / "pets")
    make(tmp_path / "data")
    before = tree(tmp_path), os.path.islink(tmp_path / "data")
    refused(source, "--output", tmp_path / "data", match="data exists and is not a result of this")
    assert (tree(tmp_path), os.path.islink(tmp_path / "data")) == before


def start(source, output, *options, before="", **popen):
    """The script in a process of its own, after some lines of Python."""
    code = f"import data_separator as ds, os, signal\n{before}\nds.main()"
    command = [sys.executable, "-c", code, source, "--output", output, *options]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parent)}
    popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
    return subprocess.Popen([str(part) for part in command], env=environment, **popen)


DIE = "os.kill(os.getpid(), signal.SIGKILL)"
DEATHS = {
    "looking": f"ds.jpeg_header = lambda data: {DIE}",
    "in the folder's first moment": f"ds.in_parallel, real = lambda f, items, title: {DIE} "
    "if title == 'Writing' else real(f, items, title), ds.in_parallel",
    "writing": f"ds.write, real, n = lambda f, folder, copy: {DIE} if n.pop() == 1 else "
    "real(f, folder, copy), ds.write, list(range(20))",
    "just before the end": f"os.rename = lambda *names: {DIE}",
    "just after the end": f"os.rename, real = lambda *names: (real(*names), {DIE}), os.rename",
}


@pytest.mark.parametrize("moment", DEATHS)
def test_killed_at_a_moment(tmp_path, moment):
    source, output = tmp_path / "pets.zip", tmp_path / "new" / "data"
    source.write_bytes(zipped(class_folders(10)))
    process = start(source, output, before=DEATHS[moment])
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert output.exists() == (moment == "just after the end")
    assert len(arrange(source, output)) == 20
    assert sorted(os.listdir(output.parent)) == ["data"]


def test_killed_at_random_moments(tmp_path):
    source, reference, output = (tmp_path / name for name in ("pets.zip", "reference", "data"))
    source.write_bytes(zipped(class_folders(60)))
    begin = time.monotonic()
    assert start(source, reference).wait(60) == 0
    whole, rng = time.monotonic() - begin, random.Random(time.time_ns())
    for _ in range(8):
        process = start(source, output)
        time.sleep(rng.uniform(0.3, 1.0) * whole)
        process.kill()
        process.communicate(timeout=60)
        expected = {"pets.zip", "reference", "data", ds.partial_result(output).name}
        assert set(os.listdir(tmp_path)) <= expected
        if output.exists():
            assert tree(output) == tree(reference)
            output.rename(tmp_path / "gone")
            subprocess.run(["rm", "-r", str(tmp_path / "gone")], check=True)
    arrange(source, output)
    assert tree(output) == tree(reference)


def test_stopped_by_the_user(tmp_path):
    source, output = tmp_path / "pets.zip", tmp_path / "data"
    source.write_bytes(zipped(class_folders(5)))
    # A shell starts what runs in its background with this signal ignored.
    stop = "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    stop += "ds.write = lambda *a, **k: os.kill(os.getpid(), signal.SIGINT)"
    process = start(source, output, before=stop)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.decode().strip() == f"Stopped: nothing was written to {output}."
    assert os.listdir(tmp_path) == ["pets.zip"]


def test_disk_full(tmp_path, monkeypatch):
    source, output = tmp_path / "pets.zip", tmp_path / "data"
    source.write_bytes(zipped(class_folders(5)))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    process = start(source, output, before=limit)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(r".*File too large.*: nothing was written to .*data\.\n", error.decode())
    assert os.listdir(tmp_path) == ["pets.zip"]

    written, real = [], ds.write

    def full(file, folder, copy):
        written.append(real(file, folder, copy))
        if len(written) == 6:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(ds, "write", full)
    refused(source, "--output", output, match="No space left .*: nothing was written to .*data")
    assert os.listdir(tmp_path) == ["pets.zip"]
    monkeypatch.setattr(ds, "write", real)
    arrange(source, output)


def test_disk_really_full(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        source = tmp_path / "pets.zip"
        source.write_bytes(zipped(class_folders(20)))
        refused(source, "--output", small / "data", match="No space left .*: nothing was written")
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_two_at_once(tmp_path):
    source, output = tmp_path / "pets.zip", tmp_path / "data"
    source.write_bytes(zipped(class_folders(40)))
    slow = (
        "import time; ds.write, real = lambda *a, **k: (time.sleep(0.01), real(*a, **k)), ds.write"
    )
    processes = [start(source, output, before=slow) for _ in range(3)]
    for process in processes:
        out, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (0, b"")
        assert b"is complete" in out
    assert sorted(os.listdir(tmp_path)) == ["data", "pets.zip"]
    arrange(source, output)


def test_two_at_once_with_other_wishes(tmp_path):
    source, output = tmp_path / "pets.zip", tmp_path / "data"
    source.write_bytes(zipped(class_folders(40)))
    processes = [start(source, output, "--seed", seed) for seed in (1, 2)]
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert sorted(status for _, status in ends) == [0, 1]
    assert b"holds another result" in max(ends)[0]
    winner = [status for _, status in ends].index(0) + 1
    arrange(source, output, "--seed", winner)


def test_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(ds, "fcntl", None)  # as on Windows
    source, output = unfold(class_folders(3), tmp_path / "pets"), tmp_path / "data"
    theirs = unfold({"train/cats/1.jpg": photo(1)}, ds.partial_result(output))
    before = tree(tmp_path)
    refused(source, "--output", output, match="remove it, unless another run is at work on it")
    assert tree(tmp_path) == before
    theirs.rename(tmp_path / "aside")
    arrange(source, output)


def test_progress_on_a_terminal_only(tmp_path):
    source = tmp_path / "pets.zip"
    source.write_bytes(zipped(class_folders(5) | {"cats/bad.jpg": FAULTS["a hole"][0]}))
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


# Hostile archives


def entry(name, data=b"x", mode=0, method=zipfile.ZIP_DEFLATED):
    """A zip with good photos and one entry of any name, which ZipFile would not write."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, photo_data in class_folders(2).items():
            archive.writestr(path, photo_data)
        info = zipfile.ZipInfo("#" * len(name.encode()))
        info.external_attr = mode << 16
        archive.writestr(info, data, method)
    return file.getvalue().replace(b"#" * len(name.encode()), name.encode())


def million_entries():
    """A zip that lists a million empty files, as zip64, built by hand."""
    name = b"cats/0.jpg"
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0) + name
    central = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0
    )
    table = (central + name) * 1_000_000
    at, size = len(local), len(table)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 10**6, 10**6, size, at)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at + size, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return local + table + end64 + locator + end


def flagged(packed, bit):
    """The zip with a flag set on its first entry in the table of contents."""
    at = packed.index(b"PK\x01\x02") + 8
    return packed[:at] + bytes([packed[at] | bit]) + packed[at + 1 :]


def nested_bomb():
    inner = zipped({f"cats/{i}.bmp": bytes(2**25) for i in range(8)})
    return zipped(class_folders(2) | {"more.zip": inner})


GOOD = zipped(class_folders(2))
HOSTILE = {
    "out of it": (lambda: entry("../../evil.jpg"), "a path out of itself, '../../evil.jpg'"),
    "out of it later": (lambda: entry("cats/../../evil.jpg"), "a path out of itself"),
    "out of it on Windows": (lambda: entry("..\\..\\evil.jpg"), "a path out of itself"),
    "absolute": (lambda: entry("/root.jpg"), "a path out of itself, '/root.jpg'"),
    "on a drive": (lambda: entry("C:\\evil.jpg"), "a path out of itself"),
    "a nested one out of it": (
        lambda: zipped({"in.zip": entry("../evil.jpg")}),
        "in.zip holds a path out of itself",
    ),
    "link": (lambda: entry("cats/l.jpg", b"/etc/passwd", stat.S_IFLNK | 0o777), "holds a link"),
    "device": (lambda: entry("cats/l.jpg", b"", stat.S_IFCHR | 0o666), "holds a link or device"),
    "bomb": (lambda: entry("cats/1.bmp", bytes(2**28)), "unpack to over 100 times its size"),
    "nested bomb": (nested_bomb, "more.zip would unpack to over 100 times its size"),
    "bomb called zip": (
        lambda: zipped(class_folders(2) | {"more.zip": bytes(2**26)}),
        "more.zip would unpack to over 10 times its size",
    ),
    "a million empty entries": (million_entries, "lists far too many files"),
    "encrypted": (lambda: flagged(GOOD, 1), "is encrypted or packed in a rare way"),
    "rare packing": (lambda: entry("c/1.jpg", b"x", 0, zipfile.ZIP_LZMA), "packed in a rare way"),
    "cut off": (lambda: GOOD[:-30], "is not a whole zip archive"),
    "no table of contents": (lambda: GOOD[: len(GOOD) // 2], "has no table of contents"),
    "damaged table of contents": (
        lambda: GOOD.replace(b"PK\x01\x02", b"PK\x01\x09"),
        r"is not a whole zip archive \(Bad magic number",
    ),
    "a damaged nested zip": (
        lambda: zipped({"train.zip": GOOD.replace(b"PK\x01\x02", b"PK\x01\x09")}),
        "train.zip is not a whole zip archive",
    ),
    "a nested zip that does not fit its checksum": (
        lambda: zipped({"in.zip": GOOD}, zipfile.ZIP_STORED).replace(GOOD[:99], bytes(99), 1),
        "in.zip is damaged in the archive: nothing was written",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused(tmp_path, monkeypatch, name):
    make, match = HOSTILE[name]
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    Path("bad.zip").write_bytes(make())
    before = {str(path): path.stat().st_size for path in tmp_path.rglob("*")}
    refused("bad.zip", match=match)
    assert {str(path): path.stat().st_size for path in tmp_path.rglob("*")} == before


def test_zips_inside_zips_end_somewhere(tmp_path):
    deep = zipped({"cats/1.jpg": photo(99)})
    for level in range(4):
        deep = zipped({f"{level}.zip": deep})
    (tmp_path / "pets.zip").write_bytes(zipped(class_folders(2) | {"deep.zip": deep}))
    rows = arrange(tmp_path / "pets.zip", tmp_path / "data")
    assert rows["deep.zip/3.zip/2.zip"]["reason"] == "not an image"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_to_a_zip_ends_in_a_sentence_or_a_row(tmp_path_factory, data):
    packed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 8))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("zip")
    (folder / "pets.zip").write_bytes(packed)
    status, sentence = run(folder / "pets.zip", "--output", folder / "data")
    assert status == 0 or sentence.endswith((".", ")"))
    assert (folder / "data").exists() == (status == 0)


# Microsoft's archive


class Server(http.server.ThreadingHTTPServer):
    """One file on the loopback address; each request may be cut short after so many bytes."""

    def __init__(self, body, cuts=(), ranges=True):
        self.body, self.cuts, self.ranges, self.asked = body, list(cuts), ranges, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/pets.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers["Range"]
        server.asked.append(asked)
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if server.ranges else 0
        body = server.body[begin:]
        self.send_response(206 if server.ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[:cut])
        if cut < len(body):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        pass


@pytest.fixture
def archive(monkeypatch):
    """Stand in for Microsoft's server."""
    servers = []

    def serve(body=None, **options):
        servers.append(Server(body or WANTED, **options))
        monkeypatch.setattr(ds, "ARCHIVE_URL", servers[-1].url)
        return servers[-1]

    monkeypatch.setattr(ds, "ARCHIVE_SIZE", len(WANTED))
    monkeypatch.setattr(ds, "ARCHIVE_SHA256", hashlib.sha256(WANTED).hexdigest())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


WANTED = zipped(microsoft())


def test_download(tmp_path, archive):
    server, target = archive(), tmp_path / "pets.zip"
    rows = arrange(target, tmp_path / "data", "--download")
    assert len(rows) == 23
    assert target.read_bytes() == WANTED
    assert server.asked == ["bytes=0-"]
    arrange(target, tmp_path / "data", "--download")
    assert server.asked == ["bytes=0-"]  # not fetched twice
    assert sorted(os.listdir(tmp_path)) == ["data", "pets.zip"]


def test_download_by_default_goes_here(tmp_path, archive, monkeypatch):
    server = archive()
    monkeypatch.chdir(tmp_path)
    refused(match="pets.zip does not exist: give a zip or a folder, or add --download")
    assert run("--download") == (0, "")
    assert server.asked == ["bytes=0-"]
    assert sorted(os.listdir(tmp_path)) == ["data", "pets.zip"]


def test_download_goes_on_where_it_broke_off(tmp_path, archive):
    server, target = archive(cuts=[10_000, 5_000]), tmp_path / "pets.zip"
    refused(
        target, "--output", tmp_path / "data", "--download", match=r"stopped at 10,000 of .* bytes"
    )
    refused(
        target, "--output", tmp_path / "data", "--download", match=r"stopped at 15,000 of .* bytes"
    )
    assert os.listdir(tmp_path) == ["pets.zip.part"]
    arrange(target, tmp_path / "data", "--download")
    assert server.asked == ["bytes=0-", "bytes=10000-", "bytes=15000-"]
    assert target.read_bytes() == WANTED


def test_download_from_a_server_that_cannot_go_on(tmp_path, archive):
    archive(cuts=[10_000], ranges=False)
    target = tmp_path / "pets.zip"
    refused(target, "--output", tmp_path / "data", "--download", match="stopped at 10,000")
    arrange(target, tmp_path / "data", "--download")
    assert target.read_bytes() == WANTED


@pytest.mark.parametrize("body", [WANTED[:-1] + b"!", WANTED + b"!" * 2**21])
def test_download_of_something_else(tmp_path, archive, body):
    archive(body)
    refused(
        tmp_path / "pets.zip",
        "--output",
        tmp_path / "data",
        "--download",
        match="its sha256 differs",
    )
    assert os.listdir(tmp_path) == []


def test_download_does_not_overwrite(tmp_path, archive):
    server = archive()
    (tmp_path / "pets.zip").write_bytes(b"mine")
    arguments = tmp_path / "pets.zip", "--output", tmp_path / "data", "--download"
    refused(*arguments, match="pets.zip is not Microsoft's archive: give a SOURCE")
    assert (tmp_path / "pets.zip").read_bytes() == b"mine"
    assert server.asked == []


def test_download_without_a_server(tmp_path, archive):
    server = archive()
    server.shutdown()
    server.server_close()
    refused(tmp_path / "pets.zip", "--download", match="stopped at 0 of .* same command goes on")


def test_the_archive_is_the_one_that_the_readme_of_the_photos_names():
    readme = SHARED / "README.md"
    if not readme.exists():
        pytest.skip("the photos to develop on are not there")
    text = readme.read_text()
    assert ds.ARCHIVE_SHA256 in text and f"{ds.ARCHIVE_SIZE:,} bytes" in text
    assert ds.ARCHIVE_URL in text


# The real photos


@pytest.fixture(scope="module")
def kaggle_archive(tmp_path_factory):
    parts = sorted(SHARED.glob("kagglecatsanddogs.zip.part?"))
    if not parts:
        pytest.skip("the photos to develop on are not there")
    path = tmp_path_factory.mktemp("kaggle") / "kagglecatsanddogs.zip"
    with open(path, "wb") as file:
        file.writelines(part.read_bytes() for part in parts)
    return path


def test_the_real_archive(kaggle_archive, tmp_path):
    rows = arrange(kaggle_archive, tmp_path / "data")
    with zipfile.ZipFile(kaggle_archive) as archive:
        data = {name: archive.read(name) for name in archive.namelist()}
    assert set(rows) == set(data)
    reasons = Counter(row["reason"] for row in rows.values())
    assert reasons == {"": 24_960, "duplicate": 32, "two labels": 6, "empty": 2, "not an image": 2}
    counts = Counter((row["split"], row["class"]) for row in rows.values() if row["split"])
    for label in ("cats", "dogs"):
        total = sum(counts[split, label] for split in SPLITS)
        for split, share in zip(SPLITS, (0.8, 0.1, 0.1)):
            assert abs(counts[split, label] - share * total) < 1

    # Another look at all pairs, by another library, another size and plain distances.
    names = [name for name, row in rows.items() if row["reason"] in ("", "duplicate", "two labels")]
    small = [Image.open(io.BytesIO(data[name])).convert("L").reduce(15) for name in names]
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

    for name in random.Random(0).sample([name for name in names if not rows[name]["reason"]], 300):
        result = (tmp_path / "data" / rows[name]["file"]).read_bytes()
        assert result == data[name]
        assert tensorflow(result).shape == (180, 180, 3) and opencv(result).shape == (180, 180, 3)
