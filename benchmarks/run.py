"""Measure debugcnn side by side with what people would use instead.

    python -m benchmarks.run [NAME ...] [--archive kagglecatsanddogs.zip] [--data data]
                             [--minutes 60] [--repetitions N] [--table]

Without a NAME, everything is measured, in some hours. Leave the machine alone meanwhile. Needed are
benchmarks/requirements.txt, for the separators `unzip` and Microsoft's archive of the photos, and
for passes and training the folder that data_separator.py makes of it. The results go into
benchmarks/results.json; from that file come the table in benchmarks/README.md, two sentences in
README.md and images/figures/training.png (--table: only these).
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from debugcnn.files.atomic import write_atomically
from debugcnn.files.compact_json import write_json

from . import separation, timing, training, views

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PAGE, README = HERE / "README.md", HERE.parent / "README.md"
FIGURE = HERE.parent / "images" / "figures" / "training.png"
METRICS = HERE.parent / "models" / "metrics.json"
WORK = HERE / "work"  # can be deleted at any time
BEGIN, END = "<!-- written by benchmarks/run.py -->\n", "<!-- end of what it wrote -->"
PEERS = {  # {package: its module}
    "tf-keras-vis": "tf_keras_vis",
    "tf-explain": "tf_explain",
    "split-folders": "splitfolders",
    "xplique": "xplique",
}

Results = dict[str, dict[str, Any]]  # what was measured under each name


class Benchmark(NamedTuple):
    """Contenders in turn: a title, their labels and setups, how often, and for which model."""

    title: str
    contenders: dict[str, Callable[..., Any]]
    repetitions: int
    argument: str = "ours"  # or "mobilenet", or "archive" or "folder" of the separators
    warm_up: int = 1


TIMED = {
    "grad_cam": Benchmark("Grad-CAM of 64 images, our model", views.GRAD_CAM, 7),
    "grad_cam_mobilenet": Benchmark(
        "Grad-CAM of 64 images, MobileNetV2", views.GRAD_CAM, 5, "mobilenet"
    ),
    "grad_cam_plus_plus": Benchmark(
        "Grad-CAM++ of 64 images, our model", views.GRAD_CAM_PLUS_PLUS, 7
    ),
    "layer_cam": Benchmark("LayerCAM of 64 images, our model", views.LAYER_CAM, 7),
    "smooth_grad": Benchmark(
        f"SmoothGrad of {views.SOME} images, {views.SAMPLES} copies, our model",
        views.SMOOTH_GRAD,
        3,
    ),
    "integrated_gradients": Benchmark(
        f"Integrated gradients of {views.SOME} images, {views.SAMPLES} steps, our model",
        views.INTEGRATED_GRADIENTS,
        3,
    ),
    "guided_backpropagation": Benchmark(
        "Guided backpropagation of 64 images, our model", views.GUIDED_BACKPROPAGATION, 7
    ),
    "score_cam": Benchmark(
        f"Score-CAM of {views.FEW} images, all 192 channels, our model", views.SCORE_CAM, 3
    ),
    "occlusion": Benchmark(
        f"Occlusion of {views.FEW} images, 121 squares, our model", views.OCCLUSION, 3
    ),
    "rise": Benchmark(f"RISE of {views.FEW} images, {views.MASKS} masks, our model", views.RISE, 3),
    "activations": Benchmark(
        "Activations of all 12 layers for 64 images, our model", views.ACTIVATIONS, 7
    ),
    "filter_patterns": Benchmark(
        f"Patterns of all 1,040 filters of our model, {views.STEPS} steps",
        views.PATTERNS,
        3,
        warm_up=0,
    ),
    "separator": Benchmark(
        "Splitting the photos, from the archive", separation.FROM_ARCHIVE, 5, "archive"
    ),
    "separator_from_folder": Benchmark(
        "Splitting the photos, from a folder", separation.FROM_FOLDER, 5, "folder"
    ),
}
NEED_DATA = ("passes", "training")
NAMES = (*TIMED, *NEED_DATA)
FORWARD = {
    "grad_cam": "Grad-CAM of our model",
    "grad_cam_mobilenet": "Grad-CAM of MobileNetV2",
    "activations": "All activations of our model",
}


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure what a name stands for, with the arguments of the command."""
    if name == "passes":
        return {"rows": views.passes(args.data.resolve())}
    if name == "training":
        return training.run(args.data.resolve(), WORK, args.minutes)
    benchmark = TIMED[name]
    argument = benchmark.argument
    if argument == "archive":
        argument = str(args.archive.resolve())
    elif argument == "folder":
        argument = str(separation.unpacked(args.archive))
    repetitions = args.repetitions or benchmark.repetitions
    rows = timing.compare(benchmark.contenders, repetitions, benchmark.warm_up, [argument])
    return {"repetitions": repetitions, "rows": rows}


# ------------------------------------------------------------------------------------------- pages


def table(results: Results) -> Iterator[str]:
    """The lines of the table."""
    yield "| task | tool | time | times ours (range) | peak memory | result |"
    yield "|---|---|---|---|---|---|"
    for name, benchmark in TIMED.items():
        rows = results.get(name, {}).get("rows", {})
        for label, row in rows.items():
            title = benchmark.title if label == "ours" else ""
            yield f"| {' | '.join((title, label, *_cells(row, rows['ours'])))} |"


def _cells(row, ours):
    """Time for the whole task, ratio, memory, result."""
    if "error" in row:
        return "fails", "", "", f"`{row['error']}`"
    median, low, high = row["ratio"]
    result = ""
    if "pairs_across_splits" in row:
        result = (
            f"{row['images']:,} images; {row['broken_files']} broken files, "
            f"{row['pairs_across_splits']} pairs across splits"
        )
    return (
        f"{row['seconds'] * ours.get('amount', 1) / row.get('amount', 1):.3g} s",
        "1" if row is ours else f"**{median:.2f}** ({low:.2f} to {high:.2f})",
        f"{row['peak_bytes'] / 1e6:,.0f} MB",
        result,
    )


def sentences(results: Results) -> Iterator[str]:
    """What the table does not show."""
    for measured, names in _conditions(results).items():
        date, processor, cores, versions = measured
        names = ", ".join(f"`{name}`" for name in names)
        yield f"Measured on {date}, {processor}, {cores} cores: {names}; {versions}."
    for name, view in FORWARD.items():
        rows = results.get(name, {}).get("rows", {})
        shares = [
            f"{1 / row['ratio'][0]:.2f} times {label.removeprefix('a forward pass, ')}"
            for label, row in rows.items()
            if label.startswith("a forward pass") and "ratio" in row
        ]
        if shares:
            first = rows["ours"]["first_seconds"]
            yield f"{view}: {' and '.join(shares)}. The first call, which compiles: {first:.2g} s."
    if "passes" in results:
        rows = results["passes"]["rows"]
        shares = ", ".join(f"{row['passes']:.0%} ({label})" for label, row in rows.items())
        tries = max(row["tries"] for row in rows.values())
        yield (
            f"Patterns that pass when they are pasted into images, of up to {tries:,} tries each: "
            f"{shares}."
        )
    if "training" in results:
        yield from _trainings(results["training"])


def _conditions(results):
    """{(date, processor, cores, versions): names that were measured under them}, the last first."""
    grouped = {}
    for name in sorted(results, key=lambda name: results[name]["date"], reverse=True):
        keys = (results[name][key] for key in ("date", "processor", "cores", "versions"))
        grouped.setdefault(tuple(keys), []).append(name)
    return grouped


def _trainings(measured):
    goal = measured["goal"]
    for label, model in measured["models"].items():
        curve = model["curve"]
        minutes, highest = training.reached(curve, goal), max(accuracy for _, accuracy in curve)
        reached = (
            f"{goal:.0%} after {minutes:.1f} minutes" if minutes else f"{goal:.0%} not reached"
        )
        yield (
            f"Training {training.LABELS[label]}: {reached}; best validation accuracy "
            f"{highest:.1%}, in {curve[-1][0]:.0f} minutes, {model['epochs']:.2g} epochs and "
            f"{model['peak_bytes'] / 1e9:.1f} GB."
        )


def block(results: Results) -> str:
    """What is between the marks in benchmarks/README.md."""
    lines = [*table(results), "", *(f"- {sentence}" for sentence in sentences(results))]
    return BEGIN + "".join(f"{line}\n" for line in lines) + END


def short(results: Results) -> str:
    """What is between the marks in README.md."""
    grad_cam, patterns = (results[name]["rows"] for name in ("grad_cam", "filter_patterns"))

    def ratio(rows, label):
        return f"{rows[label]['ratio'][0]:.1f}"

    shares = {label: f"{row['passes']:.0%}" for label, row in results["passes"]["rows"].items()}
    ours = shares.pop("ours")
    others = ", ".join(f"{share} ({label})" for label, share in shares.items())
    machine = f"{results['grad_cam']['processor']}, {results['grad_cam']['cores']} cores"
    return (
        f"{BEGIN}On {machine}, Grad-CAM takes {ratio(grad_cam, 'tf-keras-vis')} times as long with "
        f"tf-keras-vis and {ratio(grad_cam, 'tf-explain')} times with tf-explain; the patterns of "
        f"all filters take {ratio(patterns, 'tf-keras-vis')} times as long with tf-keras-vis and "
        f"{ratio(patterns, 'the loop of the textbook')} times with the loop of the textbook. "
        f"{ours} of our patterns pass when they are pasted into images, compared with "
        f"{others}.\n{END}"
    )


def read() -> Results:
    """The stored results."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def write_pages(results: Results) -> None:
    """Write the tables, the sentences and the figure of the training."""
    for page, text in ((PAGE, block(results)), (README, short(results))):
        content = page.read_text()
        begin = content.index(BEGIN)
        end = content.index(END, begin) + len(END)
        write_atomically(page, content[:begin] + text + content[end:])
    if "training" in results:
        training.draw(results["training"], json.loads(METRICS.read_text())["history"], FIGURE)


# ----------------------------------------------------------------------------------------- command


def positive(text):
    number = float(text)
    if not number > 0:
        raise ValueError
    return number


def _check(names, args):
    """Exits with a sentence if something is missing that these names need."""
    if sys.platform == "win32":
        sys.exit("Windows does not report the peak memory of a process: use Linux or macOS.")
    labels = [label for name in names if name in TIMED for label in TIMED[name].contenders]
    labels += views.PATTERNS if "passes" in names else []
    for peer, module in PEERS.items():
        if any(peer in label for label in labels) and not importlib.util.find_spec(module):
            sys.exit(f"{peer} is missing: run pip install -r benchmarks/requirements.txt")
    if any(name.startswith("separator") for name in names):
        if not shutil.which("unzip"):
            sys.exit("The program unzip is missing: the separator is compared with it.")
        if not args.archive.is_file():
            sys.exit(f"There is no archive {args.archive}: name one with --archive.")
    if set(NEED_DATA) & set(names) and not (args.data / "train").is_dir():
        sys.exit(
            f"There is no folder {args.data / 'train'}: run data_separator.py, or name its output "
            "with --data."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--archive", type=Path, default=Path("kagglecatsanddogs.zip"))
    parser.add_argument("--data", type=Path, default=HERE.parent / "data")
    parser.add_argument("--minutes", type=positive, default=60, help="of training the original")
    parser.add_argument("--repetitions", type=int, choices=range(1, 100), metavar="N")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    args = parser.parse_args(arguments)
    names = args.names or list(NAMES)
    if unknown := set(names) - set(NAMES):
        parser.error(f"There is no benchmark {', '.join(sorted(unknown))}: use {', '.join(NAMES)}.")
    if args.table:
        return write_pages(read())
    _check(names, args)
    WORK.mkdir(exist_ok=True)
    for name in names:
        print(f"== {name}", flush=True)
        conditions = timing.conditions()
        try:
            measured = measure(name, args)
        except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
            sys.exit(f"{name} was not measured. {error}")
        results = read() | {name: conditions | measured}
        write_json(RESULTS, results, depth=3)
        write_pages(results)


if __name__ == "__main__":
    main()
