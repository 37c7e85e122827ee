"""Arrange labelled photos for training: data/train, data/validation, data/test, a folder per class.

    python data_separator.py SOURCE [--output data] [--split 80 10 10] [--seed 0]
                             [--copy] [--dry-run] [--download]

SOURCE is Kaggle's dogs-vs-cats.zip or train.zip, Microsoft's kagglecatsanddogs_5340.zip, the
unpacked folder of any of them, or any folder or zip with one folder per class. It is never changed.

From top to bottom, the script
1. lists every file, also those inside zips, and reads off its class;
2. leaves out what cannot be trained on, and photos that are there twice: a duplicate in the test
   set makes a model look better than it is (photo_checks.py tells how they are found);
3. splits each class by the hash of its photos;
4. builds the result in a hidden folder and renames it once, so that it appears whole or not at all.
   (A run that is killed leaves its folder .unfinished-by-data_separator-*. It can be deleted.)

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
import socket
import struct
import sys
import tempfile
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

from tqdm import tqdm

from debugcnn.files.intact import Photo, PhotoError, as_png, group_duplicates, image_format, inspect

SPLITS = ("train", "validation", "test")
UNFINISHED = ".unfinished-by-data_separator-"  # how hidden folders begin
UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, struct.error)  # what File.read raises


@dataclass
class File:
    """One file of the source, and what becomes of it."""

    source: str  # path inside the source, with /
    size: int  # bytes
    read: Callable[[], bytes] | None  # None: a link to a folder, a pipe, a device
    path: str = ""  # where it can be linked from; empty inside a zip
    label: str = ""
    photo: Photo | None = None  # None: it cannot be trained on
    split: str = ""
    reason: str = ""
    note: str = ""
    name: str = ""  # path inside the result


# 1. The files and their classes

SPLIT_NAME = re.compile(r"train(ing)?|val(id(ation)?)?|test(ing)?\d*", re.IGNORECASE)
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # how entries of a zip may be


def find_files(source, output):
    """Every file of a folder or zip, sorted by path, with its class. OUTPUT is passed over."""
    if source.is_dir():
        files = list(folder_files(source, output))
    elif source.is_file():
        files = list(zip_files(partial(map_file, source), source.name))
    else:
        sys.exit(f"{source} does not exist: give a zip or a folder, or add --download.")
    folders = {clean(folder) for file in files for folder in file.source.split("/")[:-1]}
    # A folder "train" is no class beside a folder "test"; beside "bus" it is one.
    splits = {folder for folder in folders if SPLIT_NAME.fullmatch(folder)}
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
    """The files below a folder, without links to folders. Raises OSError on one it cannot list."""

    def fail(error):
        raise error

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(UNFINISHED) and Path(place, name).resolve() != output.resolve()
        ]
        for name in names + [name for name in folders if Path(place, name).is_symlink()]:
            path = Path(place, name)
            source = path.relative_to(folder).as_posix()
            if not path.is_file():
                yield File(source, 0, None)
            elif path.suffix.lower() == ".zip":
                yield from zip_files(partial(map_file, path), source, source + "/")
            else:
                yield File(source, path.stat().st_size, path.read_bytes, str(path))


def map_file(path):
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def zip_files(read, name, prefix=""):
    """Files of the zip that READ gives as a buffer, and of zips inside it. Exits if it is damaged.

    They are read where they lie. Nothing is ever written to a path that an archive names.
    """
    try:
        view = read()
        file = io.BytesIO(view) if isinstance(view, bytes) else view
        infos = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, NotImplementedError) as error:
        sys.exit(f"{name} is not a whole zip archive ({error}): get it again.")
    for info in infos:
        source = prefix + info.filename.replace("\\", "/")
        if info.flag_bits & 1 or info.compress_type not in PACKED:
            sys.exit(f"{name} is encrypted or packed in a rare way: give it unpacked.")
        if source.lower().endswith(".zip"):
            yield from zip_files(partial(unpack, view, info), source, source + "/")
        elif not source.endswith("/"):
            yield File(source, info.file_size, partial(unpack, view, info))


def unpack(view, info):
    """The bytes of one entry, from any thread. (ZipFile.read takes several times as long.)"""
    names, extra = struct.unpack_from("<26xHH", view, info.header_offset)
    begin = info.header_offset + 30 + names + extra
    data = view[begin : begin + info.compress_size]
    if info.compress_type == zipfile.ZIP_DEFLATED:
        data = zlib.decompress(data, -zlib.MAX_WBITS)
    if zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"{info.filename} is damaged in the archive")
    return data


# 2. What is left out

MAX_BYTES = 2**28  # of a file: no photo is larger, and each core holds one in memory


def check(file):
    """Fill in a file's photo, or the reason why it is left out."""
    try:
        if file.read is None:
            raise PhotoError("not a plain file")
        if file.size == 0:
            raise PhotoError("empty")
        if file.size > MAX_BYTES:
            raise PhotoError("too large")
        data = file.read()
        kind = image_format(data)
        if not file.label:
            raise PhotoError("no label")
        file.photo = inspect(data, kind)
        file.note = file.photo.note
    except PhotoError as error:
        file.reason = str(error)
    except UNREADABLE:
        file.reason = "unreadable"


def leave_out_duplicates(files):
    """Keep one photo of a group with one label and none of a group with two. Returns the kept."""
    kept = []
    for indices in group_duplicates([file.photo for file in files]) if files else ():
        group = [files[i] for i in indices]
        best, *duplicates = sorted(
            group, key=lambda file: (-file.photo.pixels, file.photo.sha256, file.source)
        )
        if len({file.label for file in group}) == 1:
            kept.append(best)
            for file in duplicates:
                file.reason, file.note = "duplicate", f"same photo as {best.source}"
        else:
            for file in group:
                others = ", ".join(other.source for other in group if other is not file)
                file.reason, file.note = "two labels", f"same photo as {others}"
    return kept


# 3. The split


def assign(kept, shares, seed):
    """Give each kept photo its split and its name in the result. Exits without two classes."""
    classes = defaultdict(list)
    for file in kept:
        classes[file.label].append(file)
    if len(classes) < 2:
        sys.exit(
            f"Two classes or more are needed, but the photos are of {len(classes)}"
            f" ({', '.join(classes) or 'none'}): make one folder per class."
        )
    for files in classes.values():
        splits = split_of([file.photo.sha256 for file in files], shares, seed)
        names = Counter(result_name(file).lower() for file in files)
        for file in files:
            name = result_name(file)
            if names[name.lower()] > 1:
                name = f"{file.photo.sha256[:16]}-{name}"
            file.split = splits[file.photo.sha256]
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
        suffix = file.photo.suffix
    return (clean(stem) or file.photo.sha256[:16]) + suffix


# 4. The result


def hidden_folder(beside):
    """A hidden folder beside a path. It goes with what is in it, unless the run is killed."""
    return tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=beside.absolute().parent)


def build(kept, manifest, output, copy):
    """Write everything to a hidden folder beside OUTPUT, then rename it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with hidden_folder(output) as hidden:
        folder = Path(hidden, "data")  # the hidden one itself is closed to other users
        for split in {file.split for file in kept}:
            for label in {file.label for file in kept}:
                Path(folder, split, label).mkdir(parents=True)
        Path(folder, "manifest.csv").write_bytes(manifest)
        in_parallel(partial(write, folder=folder, copy=copy), kept, "Writing")
        try:
            os.rename(folder, output)
        except OSError:
            if not output.exists():
                raise
            check_same(kept, manifest, output)  # another run was faster


def write(file, folder, copy):
    target = f"{folder}/{file.name}"
    if file.path and not (copy or file.note or os.path.islink(file.path)):
        try:
            return os.link(file.path, target)
        except OSError:  # another file system, or one without links
            pass
    data = file.read()
    with open(target, "xb") as out:
        out.write(as_png(data) if file.note else data)


def check_same(kept, manifest, output):
    """A result that is there already is left alone, whether it is the wanted one or not."""
    if Path(output, "manifest.csv").read_bytes() != manifest:
        sys.exit(f"{output} holds another result: remove it or give another --output.")
    if not all(Path(output, file.name).is_file() for file in kept):
        sys.exit(f"Photos are missing from {output}: remove it and run this again.")


# Microsoft's archive

ARCHIVE_URL = (
    "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
    "kagglecatsanddogs_5340.zip"
)
ARCHIVE_SHA256 = "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9"


def download(target):
    """Fetch the archive to TARGET, whole or not at all. Exits if it cannot be had."""
    if target.exists():
        with open(target, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == ARCHIVE_SHA256:
                return
        sys.exit(f"{target} is not Microsoft's archive: give a SOURCE to download to.")
    with quiet():
        import keras  # takes seconds

    socket.setdefaulttimeout(60)  # seconds; else a dead line is waited for without end
    with hidden_folder(target) as hidden:
        options = {"file_hash": ARCHIVE_SHA256, "cache_subdir": hidden}
        try:
            archive = keras.utils.get_file(target.name, ARCHIVE_URL, **options)
        except Exception as error:  # that is what get_file raises
            sys.exit(f"{ARCHIVE_URL} did not arrive ({error}): try again, or give a SOURCE.")
        os.rename(archive, target)


# All together


def arrange(source, output, shares, seed, copy, dry_run):
    """All four steps. Returns a summary. Exits with a sentence if the input cannot be used."""
    exists = os.path.lexists(output)
    if exists and not Path(output, "manifest.csv").is_file():
        sys.exit(f"{output} exists and is not a result of this: give another --output.")
    files = find_files(source, output)
    with quiet():
        in_parallel(check, files, "Looking")
    kept = leave_out_duplicates([file for file in files if file.photo])
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
    """Hide what libraries print: of damaged photos, which the manifest names, and of GPUs."""
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
    try:
        if args.download and not args.dry_run:
            download(args.source)
        print(arrange(args.source, args.output, args.split, args.seed, args.copy, args.dry_run))
    except (*UNREADABLE, MemoryError) as error:
        sys.exit(f"{str(error) or 'Out of memory'}: nothing was written to {args.output}.")
    except KeyboardInterrupt:
        sys.exit(f"Stopped: nothing was written to {args.output}.")


if __name__ == "__main__":
    main()
