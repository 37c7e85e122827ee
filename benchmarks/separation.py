"""data_separator.py beside unzip and split-folders: time, and what each lets through."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from .timing import Row, Task

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "benchmarks" / "work"  # out of sight of git, on the disk of the project
SPLITS = ["train", "validation", "test"]
SPLIT = "import splitfolders, sys; splitfolders.ratio(*sys.argv[1:], seed=0, ratio=(0.8, 0.1, 0.1))"
SIMILAR = 0.99  # correlation of two thumbnails above which they show one image
THUMBNAIL = 16  # pixels


def _run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-150:]}")


def _task(separate):
    """The task of separating into a fresh folder.

    Nothing is deleted before the last round, since a file system is slow for a while afterwards.
    """
    results = Path(tempfile.mkdtemp(dir=WORK))

    def work():
        folder = Path(tempfile.mkdtemp(dir=results))
        separate(folder)
        return folder

    def judge(folder):
        try:
            return let_through(folder)
        finally:
            shutil.rmtree(results)

    return Task(work, judge, prepare=os.sync)  # nobody waits for what another one wrote


def class_folder_of(archive: Path) -> PurePosixPath:
    """The folder in a zip that holds at least two folders of .jpg images: of Cat and of Dog.

    Raises ValueError if there is none.
    """
    with zipfile.ZipFile(archive) as zipped:
        names = [PurePosixPath(name) for name in zipped.namelist() if name.endswith(".jpg")]
    classes = sorted({name.parent for name in names})
    for folder in classes:
        if sum(other.parent == folder.parent for other in classes) > 1:
            return folder.parent
    raise ValueError(
        f"{Path(archive).name} holds no two folders of .jpg images: give Microsoft's archive."
    )


def let_through(folder: Path) -> Row:
    """How many files in the splits are not a whole image, and how many pairs of one image are in
    two splits.

    This decodes each file with Pillow and compares thumbnails, with no code of the separator.
    """
    import numpy as np
    from PIL import Image

    thumbnails, splits, broken = [], [], 0
    for file in (path for path in folder.rglob("*") if path.is_file()):
        split = {"val": "validation"}.get(file.parts[-3], file.parts[-3])
        if split not in SPLITS:
            continue  # the manifest, or what was unpacked
        try:
            with Image.open(file) as image:
                small = image.convert("RGB").resize((THUMBNAIL,) * 2, Image.Resampling.BOX)
        except (OSError, SyntaxError, Image.DecompressionBombError):
            broken += 1
            continue
        thumbnails.append(np.asarray(small, np.float32).ravel())
        splits.append(SPLITS.index(split))
    thumbnails = np.stack(thumbnails)
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    thumbnails /= np.linalg.norm(thumbnails, axis=1, keepdims=True) + 1e-6
    splits, across = np.array(splits), 0
    for start in range(0, len(thumbnails), 2000):
        similar = thumbnails[start : start + 2000] @ thumbnails[start:].T > SIMILAR
        first, second = np.nonzero(np.triu(similar, 1))
        across += int(np.sum(splits[start + first] != splits[start + second]))
    return {"images": len(thumbnails), "broken_files": broken, "pairs_across_splits": across}


def ours(source: str, *options: str) -> Task:
    """data_separator.py, from a zip or a folder, of which it links the files."""
    script = ROOT / "data_separator.py"
    return _task(
        lambda folder: _run(sys.executable, script, source, "--output", folder / "data", *options)
    )


def ours_copying(source: str) -> Task:
    """The same with --copy."""
    return ours(source, "--copy")


def split_folders(source: str) -> Task:
    """unzip, where it is a zip, and split-folders, which copies."""
    zipped = Path(source).is_file()
    inside = class_folder_of(Path(source)) if zipped else None  # not timed

    def separate(folder):
        images = source
        if zipped:
            _run("unzip", "-q", source, "-d", folder / "unpacked")
            images = folder / "unpacked" / inside
        _run(sys.executable, "-c", SPLIT, images, folder / "split")

    return _task(separate)


def unpacked(archive: Path) -> Path:
    """The folder of the class folders of an archive, which is unpacked once."""
    folder = WORK / f"{archive.stem}-{archive.stat().st_size}"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.unpack_archive(archive, partial, "zip")
        partial.rename(folder)
    return folder / class_folder_of(archive)


FROM_ARCHIVE = {"ours": ours, "`unzip` and `split-folders`": split_folders}
FROM_FOLDER = {"ours": ours, "ours, `--copy`": ours_copying, "`split-folders`": split_folders}
