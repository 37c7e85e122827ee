"""Time data_separator.py against unzip and split-folders, which look at no photo.

    python benchmarks/separator.py kagglecatsanddogs.zip [--repetitions 7]

Both go from the archive to finished folders, in turn, each in processes of its own and on the same
disk. Writes the key "separator" of benchmarks/results.json, with all times in seconds.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
SPLIT = "import splitfolders, sys; splitfolders.ratio(*sys.argv[1:], seed=0, ratio=(0.8, 0.1, 0.1))"


def seconds(*command):
    begin = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return time.perf_counter() - begin


def photos(folder):
    return sum(path.suffix == ".jpg" for path in folder.rglob("*"))


def separator(archive, folder):
    took = seconds(
        sys.executable, HERE.parent / "data_separator.py", archive, "--output", folder / "data"
    )
    return {"data_separator": took}, photos(folder / "data")


def peer(archive, folder):
    times = {"unzip": seconds("unzip", "-q", archive, "-d", folder / "unpacked")}
    (source,) = (folder / "unpacked").iterdir()
    times["split_folders"] = seconds(sys.executable, "-c", SPLIT, source, folder / "split")
    times["unzip_and_split_folders"] = sum(times.values())
    return times, photos(folder / "split")


def measure(archive, repetitions):
    """{what: [seconds of each repetition]} and {what: photos in the result}."""
    times, counts = {}, {}
    for repetition in range(-1, repetitions):  # the first one only warms up
        order = (separator, peer) if repetition % 2 else (peer, separator)
        for run in order:
            with tempfile.TemporaryDirectory() as folder:
                took, counts[run.__name__] = run(archive, Path(folder))
            if repetition >= 0:
                for what, value in took.items():
                    times.setdefault(what, []).append(value)
    return times, counts


def spread(values):
    return {"median": median(values), "minimum": min(values), "maximum": max(values)}


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive", type=Path, help="a zip with one folder per class in a folder")
    parser.add_argument("--repetitions", type=int, default=7)
    args = parser.parse_args()
    try:
        versions = {"python": platform.python_version()}
        for package in ("split-folders", "numpy", "opencv-python-headless", "pillow"):
            versions[package] = version(package)
    except PackageNotFoundError as error:
        sys.exit(f"{error}: run pip install -r benchmarks/requirements.txt first.")
    if not shutil.which("unzip"):
        sys.exit("The program unzip is not installed: it is what this measures against.")
    if not args.archive.is_file():
        sys.exit(f"{args.archive} is no file: give an archive such as kagglecatsanddogs.zip.")

    times, counts = measure(args.archive.resolve(), args.repetitions)
    ours, theirs = times["data_separator"], times["unzip_and_split_folders"]
    result = {
        "archive": args.archive.name,
        "archive_bytes": args.archive.stat().st_size,
        "photos_in_result": counts,
        "repetitions": args.repetitions,
        "seconds": {what: spread(values) for what, values in times.items()},
        "ratio": spread([a / b for a, b in zip(ours, theirs)]),  # below 1: data_separator is faster
        "versions": versions,
        "processor": processor(),
        "cores": os.cpu_count(),
    }
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(results | {"separator": result}, indent=2) + "\n")
    for what, value in result["seconds"].items():
        print(
            f"{what:<26}{value['median']:6.2f} s, {value['minimum']:.2f} to {value['maximum']:.2f}"
        )
    print(f"ratio {result['ratio']['median']:.2f}")


if __name__ == "__main__":
    main()
