"""Arrange labelled images for training: data/train, data/validation, data/test, a folder per class.

    debugcnn separate SOURCE [--output data] [--split 80 10 10] [--seed 0]
                             [--copy] [--dry-run] [--download]

SOURCE is Kaggle's dogs-vs-cats.zip or train.zip, Microsoft's kagglecatsanddogs_5340.zip, the
unpacked folder of any of them, or any folder or zip with one folder per class. It is never changed.

From top to bottom, the program
1. lists every file, also those inside zips, and derives its class from its path;
2. leaves out what cannot be trained on, and images that are there twice: a duplicate in the test
   set makes a model look better than it is (files/duplicates.py explains how they are found);
3. splits each class by the hash of its images;
4. builds the result in a hidden folder and renames it once, so that it appears whole or not at all.
   (A run that is killed leaves its folder .unfinished-by-data_separator-*. It can be deleted.)

manifest.csv, in the result, has a row for every file: source, class, split (empty when left out),
reason (empty when kept), note, and the image's name in the result.
"""

import argparse
import csv
import hashlib
import io
import os
import re
import socket
import sys
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
from tqdm import tqdm

from .files.archives import UNREADABLE, ArchiveError, zip_entries
from .files.decoding import MAX_PIXELS
from .files.duplicates import ImageFacts, group_duplicates
from .files.intact import ImageError, as_png, image_format, inspect
from .silence import standard_error_silenced
from .text import printable

SPLITS = ("train", "validation", "test")
UNFINISHED = ".unfinished-by-data_separator-"  # how hidden folders begin


class SeparatorError(Exception):
    """Why nothing is written, as a sentence."""


@dataclass
class File:
    """One file of the source, and what becomes of it."""

    source: str  # path inside the source, with /
    size: int  # bytes
    read: Callable[[], bytes] | None  # None: a link to a folder, a pipe, a device
    path: str = ""  # where it can be linked from; empty inside a zip
    label: str = ""
    facts: ImageFacts | None = None  # None: it cannot be trained on
    split: str = ""
    reason: str = ""
    note: str = ""
    name: str = ""  # path inside the result


# 1. The files and their classes

SPLIT_NAME = re.compile(r"train(ing)?|val(id(ation)?)?|test(ing)?\d*", re.IGNORECASE)


def find_files(source: Path, output: Path, closing: ExitStack) -> list[File]:
    """Every file of a folder or zip, sorted by path, with its class. OUTPUT is passed over.

    Files in zips can be read until `closing` closes the zips. Raises ArchiveError for a bad zip,
    OSError for a folder that cannot be listed. Raises SeparatorError if there is no source.
    """
    if source.is_dir():
        files = list(folder_files(source, output, closing))
    elif source.is_file():
        files = [File(*entry) for entry in zip_entries(source, source.name, closing)]
    else:
        raise SeparatorError(f"{source} does not exist: give a zip or a folder, or add --download.")
    folders = {clean(folder) for file in files for folder in file.source.split("/")[:-1]}
    # A folder "train" is no class beside a folder "test"; beside "bus" it is one.
    splits = {folder for folder in folders if SPLIT_NAME.fullmatch(folder)}
    for file in files:
        file.label = class_of(file.source, splits if len(splits) > 1 else ())
    return sorted(files, key=lambda file: file.source)


def class_of(source: str, splits: Collection[str] = ()) -> str:
    """Kaggle's cat.0.jpg is a cat; otherwise the folder of an image names its class."""
    *folders, name = source.split("/")
    kaggle = re.fullmatch(r"(cat|dog)\.\d+\.jpe?g", name, re.IGNORECASE)
    label = kaggle[1] if kaggle else clean((folders or [""])[-1])
    if label in splits or label.startswith("."):
        return ""
    return {"cat": "cats", "dog": "dogs"}.get(label.lower().removesuffix("s"), label)


def clean(name: str) -> str:
    """A name that every file system can store, without the .zip of a zipped folder."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", re.sub(r"(?i)\.zip$", "", name))[:100].rstrip(". ")


def folder_files(folder: Path, output: Path, closing: ExitStack) -> Iterator[File]:
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
                for entry in zip_entries(path, source, closing, source + "/"):
                    yield File(*entry)
            else:
                yield File(source, path.stat().st_size, path.read_bytes, str(path))


# 2. What is left out

MAX_BYTES = 2**28  # of a file: no photo is larger, and each core holds one in memory


def check(file: File, max_pixels: int = MAX_PIXELS) -> None:
    """Fill in a file's facts, or the reason why it is left out."""
    try:
        if file.read is None:
            raise ImageError("not a plain file")
        if file.size == 0:
            raise ImageError("empty")
        if file.size > MAX_BYTES:
            raise ImageError("too large")
        data = file.read()
        kind = image_format(data)
        if not file.label:
            raise ImageError("no label")
        file.facts = inspect(data, kind, max_pixels)
        file.note = file.facts.note
    except ImageError as error:
        file.reason = str(error)
    except UNREADABLE:
        file.reason = "unreadable"


def leave_out_duplicates(files: Sequence[File]) -> list[File]:
    """Keep one image of a group with one label and none of a group with two. Returns the kept."""
    kept = []
    for indices in group_duplicates([file.facts for file in files]):
        group = [files[i] for i in indices]
        best, *duplicates = sorted(
            group, key=lambda file: (-file.facts.pixels, file.facts.sha256, file.source)
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


def assign(kept: Sequence[File], shares: Sequence[Fraction], seed: int) -> None:
    """Give each kept image its split and its name in the result.

    Raises SeparatorError without two classes, or if a file system may take two of them for one.
    """
    classes = defaultdict(list)
    for file in kept:
        classes[file.label].append(file)
    if len(classes) < 2:
        raise SeparatorError(
            f"Two classes or more are needed, but the images are of {len(classes)}"
            f" ({', '.join(classes) or 'none'}): make one folder per class."
        )
    folders = defaultdict(list)
    for label in sorted(classes):
        folders[unicodedata.normalize("NFC", label).casefold()].append(label)
    if alike := next((labels for labels in folders.values() if len(labels) > 1), None):
        raise SeparatorError(
            f"The classes {' and '.join(alike)} differ only by case, and Windows and macOS store "
            "them in one folder: rename one, or put their images together."
        )
    for files in classes.values():
        splits = split_of([file.facts.sha256 for file in files], shares, seed)
        names = Counter(result_name(file).lower() for file in files)
        for file in files:
            name = result_name(file)
            if names[name.lower()] > 1:
                name = f"{file.facts.sha256[:16]}-{name}"
            file.split = splits[file.facts.sha256]
            file.name = f"{file.split}/{file.label}/{name}"


def split_of(hashes: Collection[str], shares: Sequence[Fraction], seed: int) -> dict[str, str]:
    """{hash: split}. Sorted by a seeded hash and cut at the shares, the counts are exact; neither
    machine nor order matters, and adding images moves only those that lie near a cut."""
    keyed = sorted(hashes, key=lambda h: hashlib.sha256(f"{seed}:{h}".encode()).digest())
    sums = [sum(shares[:k]) for k in range(4)]
    cuts = [int(len(keyed) * part / sums[3] + Fraction(1, 2)) for part in sums]
    return {h: name for name, (a, b) in zip(SPLITS, pairwise(cuts)) for h in keyed[a:b]}


def result_name(file: File) -> str:
    """The image's own name, with a suffix that Keras lists and that fits a converted image."""
    stem, suffix = os.path.splitext(file.source.rpartition("/")[2])
    if file.note or suffix.lower() not in (".jpg", ".jpeg", ".png"):
        suffix = file.facts.suffix
    return (clean(stem) or file.facts.sha256[:16]) + suffix


# 4. The result


def hidden_folder(beside: Path) -> tempfile.TemporaryDirectory:
    """A hidden folder beside a path. It goes with what is in it, unless the run is killed."""
    return tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=beside.absolute().parent)


def build(kept: Sequence[File], manifest: bytes, output: Path, copy: bool) -> None:
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


def write(file: File, folder: Path, copy: bool) -> None:
    """Link or copy an image into the result, converted where its note says so."""
    target = f"{folder}/{file.name}"
    if file.path and not (copy or file.note or os.path.islink(file.path)):
        try:
            return os.link(file.path, target)
        except OSError:  # another file system, or one without links
            pass
    data = file.read()
    with open(target, "xb") as out:
        out.write(as_png(data) if file.note else data)


def check_same(kept: Sequence[File], manifest: bytes, output: Path) -> None:
    """A result that is there already is left alone, whether it is the wanted one or not."""
    if Path(output, "manifest.csv").read_bytes() != manifest:
        raise SeparatorError(f"{output} holds another result: remove it or give another --output.")
    if not all(Path(output, file.name).is_file() for file in kept):
        raise SeparatorError(f"Images are missing from {output}: remove it and run this again.")


# Microsoft's archive

ARCHIVE_URL = (
    "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
    "kagglecatsanddogs_5340.zip"
)
ARCHIVE_SHA256 = "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9"


TIMEOUT = 60  # seconds; else a dead line is waited for without end


def download(target: Path) -> None:
    """Fetch the archive to TARGET, whole or not at all. Raises SeparatorError if that fails."""
    if target.exists():
        with open(target, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == ARCHIVE_SHA256:
                return
        raise SeparatorError(f"{target} is not Microsoft's archive: give a SOURCE to download to.")
    with standard_error_silenced():
        import keras  # takes seconds

    with hidden_folder(target) as hidden, socket_timeout(TIMEOUT):
        options = {"file_hash": ARCHIVE_SHA256, "cache_subdir": hidden}
        try:
            archive = keras.utils.get_file(target.name, ARCHIVE_URL, **options)
        except Exception as error:  # that is what get_file raises
            raise SeparatorError(
                f"{ARCHIVE_URL} did not arrive ({error}): try again, or give a SOURCE."
            ) from error
        os.rename(archive, target)


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Connections that are opened meanwhile give up after so long without an answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


# All together


def arrange(
    source: Path,
    output: Path,
    shares: Sequence[Fraction] = (Fraction(80), Fraction(10), Fraction(10)),
    seed: int = 0,
    copy: bool = False,
    dry_run: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> str:
    """All four steps. Returns a summary.

    Raises SeparatorError if the input cannot be used, ArchiveError for a bad zip, and OSError for a
    source that cannot be read or an output that cannot be written.
    """
    exists = os.path.lexists(output)
    if exists and not Path(output, "manifest.csv").is_file():
        raise SeparatorError(f"{output} exists and is not a result of this: give another --output.")
    with ExitStack() as closing:
        files = find_files(source, output, closing)
        with standard_error_silenced():  # of damaged images, which the manifest names
            in_parallel(partial(check, max_pixels=max_pixels), files, "Looking")
        kept = leave_out_duplicates([file for file in files if file.facts])
        assign(kept, shares, seed)
        manifest = manifest_of(files)
        if dry_run:
            return summary(files) + "dry run: nothing was written"
        if exists:
            check_same(kept, manifest, output)
        else:
            build(kept, manifest, output, copy)
    return summary(files) + f"{output} is complete, with every file's fate in its manifest.csv"


def manifest_of(files: Sequence[File]) -> bytes:
    """The manifest.csv of all files."""
    rows = [("source", "class", "split", "reason", "note", "file")]
    rows += [(f.source, f.label, f.split, f.reason, f.note, f.name) for f in files]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def in_parallel(function: Callable[[File], None], items: Sequence[File], title: str) -> None:
    """Call a function on all items, on all cores: its work is done outside Python's lock."""
    parts = [items[i : i + 64] for i in range(0, len(items), 64)]
    with (
        one_opencv_thread(),
        tqdm(total=len(items), desc=title, unit=" files", file=sys.stdout, disable=None) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for done in pool.map(lambda part: [function(item) for item in part], parts):
            bar.update(len(done))


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """While all cores are busy, more threads would only wait for one another."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def summary(files: Sequence[File]) -> str:
    """What became of the files, in counts."""
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 2, after a sentence, if nothing could be written."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "source",
        type=Path,
        nargs="?",
        default=Path(ARCHIVE_URL).name,
        help="a zip or folder of labelled images (%(default)s)",
    )
    parser.add_argument("--output", type=Path, default=Path("data"), help="a new folder (data)")
    shares = {"metavar": ("TRAIN", "VALIDATION", "TEST"), "default": [Fraction(80), 10, 10]}
    parser.add_argument("--split", type=Fraction, nargs=3, help="shares (80 10 10)", **shares)
    parser.add_argument("--seed", type=int, default=0, help="another seed, another split")
    parser.add_argument("--copy", action="store_true", help="copy images, never link them")
    parser.add_argument("--dry-run", action="store_true", help="write nothing, say what would be")
    parser.add_argument("--download", action="store_true", help="first fetch Microsoft's archive")
    most = {"type": float, "metavar": "MILLIONS", "default": MAX_PIXELS / 1e6}
    parser.add_argument("--megapixels", help="leave out larger images (%(default)g)", **most)
    args = parser.parse_args(arguments)
    if min(args.split) < 0 or not sum(args.split):
        parser.error("--split takes three shares, none negative, such as 80 10 10")
    options = args.split, args.seed, args.copy, args.dry_run, int(args.megapixels * 1e6)
    try:
        if args.download and not args.dry_run:
            download(args.source)
        print(printable(arrange(args.source, args.output, *options)))
        return 0
    except (SeparatorError, ArchiveError) as error:
        sentence = str(error)
    except (*UNREADABLE, MemoryError) as error:
        sentence = f"{str(error) or 'Out of memory'}: nothing was written to {args.output}."
    except KeyboardInterrupt:
        sentence = f"Stopped: nothing was written to {args.output}."
    print(printable(sentence).replace("\n", " "), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
