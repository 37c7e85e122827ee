"""data_separator.py beside unzip and split-folders: seconds, and what each lets through."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path, PurePosixPath

from measure import spread

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "benchmarks" / "work"  # out of sight of git, on the disk of the project
SPLITS = ["train", "validation", "test"]
SPLIT = "import splitfolders, sys; splitfolders.ratio(*sys.argv[1:], seed=0, ratio=(0.8, 0.1, 0.1))"
ALIKE = 0.99  # correlation of two thumbnails from which they are one photo
THUMBNAIL = 16  # pixels


def _run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-150:]}")


def _work(separate):
    """The work, each time into a fresh folder, its judge, and what is done before each round.

    Nothing is deleted before the last round, since a file system is slow for a while afterwards.
    """
    results = Path(tempfile.mkdtemp(dir=WORK))

    def work():
        folder = Path(tempfile.mkdtemp(dir=results))
        separate(folder)
        return folder

    def judge(folder):
        try:
            return _let_through(folder)
        finally:
            shutil.rmtree(results)

    return work, judge, os.sync  # nobody waits for what another one wrote


def class_folder_of(archive):
    """The folder in a zip that holds at least two folders of .jpg photos: of Cat and of Dog."""
    with zipfile.ZipFile(archive) as zipped:
        names = [PurePosixPath(name) for name in zipped.namelist() if name.endswith(".jpg")]
    classes = sorted({name.parent for name in names})
    for folder in classes:
        if sum(other.parent == folder.parent for other in classes) > 1:
            return folder.parent
    raise ValueError(
        f"{Path(archive).name} holds no two folders of .jpg photos: give Microsoft's archive."
    )


def _let_through(folder):
    """Files in the splits that are no whole photo, and pairs of one photo in two splits.

    Looks for itself: decodes each file whole with Pillow, and compares thumbnails with each other.
    """
    import numpy as np
    from PIL import Image

    thumbnails, splits, broken = [], [], 0
    files = [path for path in folder.rglob("*") if path.is_file()]
    for file in files:
        split = {"val": "validation"}.get(file.parts[-3], file.parts[-3])
        if split not in SPLITS:
            continue  # the manifest, or what was unpacked
        try:
            with Image.open(file) as photo:
                small = photo.convert("RGB").resize((THUMBNAIL,) * 2, Image.Resampling.BOX)
        except (OSError, SyntaxError, Image.DecompressionBombError):
            broken += 1
            continue
        thumbnails.append(np.asarray(small, np.float32).ravel())
        splits.append(SPLITS.index(split))
    thumbnails = np.stack(thumbnails)
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    thumbnails /= np.linalg.norm(thumbnails, axis=1, keepdims=True) + 1e-6
    splits, pairs, across = np.array(splits), 0, 0
    for start in range(0, len(thumbnails), 2000):
        alike = thumbnails[start : start + 2000] @ thumbnails[start:].T > ALIKE
        for i, j in zip(*np.nonzero(np.triu(alike, 1))):
            pairs += 1
            across += int(splits[start + i] != splits[start + j])
    return {
        "photos": len(thumbnails),
        "broken_files": broken,
        "pairs": pairs,
        "pairs_across_splits": across,
    }


def _data_separator(source, *options):
    script = ROOT / "data_separator.py"
    return _work(
        lambda folder: _run(sys.executable, script, source, "--output", folder / "data", *options)
    )


def ours(source):
    """data_separator.py, from a zip or a folder, of which it links the files."""
    return _data_separator(source)


def ours_copying(source):
    """The same with --copy."""
    return _data_separator(source, "--copy")


def split_folders(source):
    """unzip, where it is a zip, and split-folders, which copies."""
    source = Path(source)
    inside = class_folder_of(source) if source.is_file() else None  # not timed

    def separate(folder):
        photos = source
        if inside is not None:
            _run("unzip", "-q", source, "-d", folder / "unpacked")
            photos = folder / "unpacked" / inside
        _run(sys.executable, "-c", SPLIT, photos, folder / "split")

    return _work(separate)


FROM_ARCHIVE = {"ours": ours, "`unzip` and `split-folders`": split_folders}
FROM_FOLDER = {"ours": ours, "ours, `--copy`": ours_copying, "`split-folders`": split_folders}


def _turned(source, target, times):
    """`times` (1 to 4) of each photo of `source`: as it is, mirrored, upside down and turned."""
    import cv2

    for folder in sorted(path for path in Path(source).rglob("*") if path.is_dir()):
        for file in sorted(folder.glob("*.jpg")):
            photo = cv2.imread(str(file))
            if photo is None:
                continue
            goal = Path(target, folder.name)
            goal.mkdir(parents=True, exist_ok=True)
            for number, flip in zip(range(times), (None, 1, 0, -1)):
                changed = photo if flip is None else cv2.flip(photo, flip)
                cv2.imwrite(str(goal / f"{file.stem}.{number}.jpg"), changed)


def growth(archive, repetitions):
    """Seconds of data_separator.py on folders of 2,500, 25,000 and 100,000 photos, in turn."""
    rows = {}
    with tempfile.TemporaryDirectory(dir=WORK) as scratch:
        scratch = Path(scratch)
        _run("unzip", "-q", archive, "-d", scratch / "unpacked")
        _turned(scratch / "unpacked", scratch / "100000", 4)
        for name, last in (("25000", ""), ("2500", "0")):
            for file in (scratch / "100000").glob(f"*/*{last}.0.jpg"):
                goal = scratch / name / file.parent.name
                goal.mkdir(parents=True, exist_ok=True)
                (goal / file.name).hardlink_to(file)
        for name in ("2500", "25000", "100000") * repetitions:
            begin = time.perf_counter()
            _run(
                sys.executable,
                ROOT / "data_separator.py",
                scratch / name,
                "--output",
                scratch / "out",
            )
            seconds = time.perf_counter() - begin
            row = rows.setdefault(name, {"seconds": []})
            row["seconds"].append(seconds)
            row["photos"] = sum(1 for _ in (scratch / "out").rglob("*.jpg"))
            shutil.rmtree(scratch / "out")
            print(f"  {row['photos']:>7,} photos {seconds:32.2f} s", flush=True)
    return {name: row | {"seconds": spread(row["seconds"])} for name, row in rows.items()}
