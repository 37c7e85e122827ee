"""Measure this tutorial side by side with what people would use instead.

    python benchmarks/run.py [NAME ...] [--archive kagglecatsanddogs.zip] [--data data]
                             [--minutes 60] [--repetitions N] [--table]

NAME is any of grad_cam, activations, filter_patterns, pipeline, separator, growth and training;
none is all. Needs benchmarks/requirements.txt; separator and growth also need `unzip` and an
archive of the photos, pipeline and training the folders that data_separator.py makes of it. Each
name, once measured, goes into benchmarks/results.json; from that file come the table in README.md
and images/figures/training.png (--table: only these). Leave the machine alone meanwhile.
"""

import argparse
import importlib.util
import json
import shutil
import sys
import time
from pathlib import Path

import measure
import pipeline
import separator
import training
import views

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
README = HERE.parent / "README.md"
FIGURE = HERE.parent / "images" / "figures" / "training.png"
MARKS = "<!-- written by benchmarks/run.py -->\n", "<!-- end of what it wrote -->"
PEERS = {
    "tf_keras_vis": "tf-keras-vis",
    "tf_explain": "tf-explain",
    "splitfolders": "split-folders",
}


# ------------------------------------------------------------------------------ what is measured


def compared(titles, contenders, repetitions, warm_up=1):
    """A benchmark of `contenders`, once for each {title: arguments}."""

    def run(args):
        rows = {}
        for title, arguments in titles(args).items():
            print(title, flush=True)
            many = args.repetitions or repetitions
            rows[title] = measure.compare(contenders, many, warm_up, arguments)
        return {"repetitions": many, "rows": rows}

    return run


def unpacked(args):
    """A folder of the photos beside the archive's, made once."""
    folder = HERE / "work" / "unpacked"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.unpack_archive(args.archive, partial, "zip")
        partial.rename(folder)
    return str(next(folder.iterdir()))


def both_nets(title):
    return lambda args: {f"{title}, our net": ["ours"], f"{title}, MobileNetV2": ["mobilenet"]}


BENCHMARKS = {
    "grad_cam": compared(both_nets("Grad-CAM of 64 photos"), views.GRAD_CAM, 5),
    "activations": compared(
        lambda args: {"Activations of all 12 layers for 64 photos, our net": ["ours"]},
        views.ACTIVATIONS,
        9,
    ),
    "filter_patterns": compared(
        lambda args: {"Patterns of all 1,040 filters of our net": ["ours"]}, views.PATTERNS, 3, 0
    ),
    "filter_patterns_long": compared(
        lambda args: {"The same, the peer with more steps": ["ours"]}, views.PATTERNS_LONG, 1, 0
    ),
    "pipeline": compared(
        lambda args: {"1,536 varied photos, 144 pixels": [str(args.data.resolve())]},
        pipeline.READING,
        5,
    ),
    "pipeline_in_training": compared(
        lambda args: {"Training our net on them": [str(args.data.resolve())]}, pipeline.TRAINING, 3
    ),
    "separator": compared(
        lambda args: {
            "25,002 files, from the archive": [str(args.archive.resolve())],
            "25,002 files, from a folder": [unpacked(args)],
        },
        separator.CONTENDERS,
        3,
    ),
    "growth": lambda args: {
        "photos": separator.growth(args.archive.resolve(), args.repetitions or 3)
    },
    "training": lambda args: training.run(args.data.resolve(), HERE / "work", args.minutes),
}
NEEDS = {
    "archive": {"separator", "growth"},
    "data": {"pipeline", "pipeline_in_training", "training"},
}


# ---------------------------------------------------------------------------- what is told of it


def seconds(row):
    return f"{row['seconds']['median']:.3g} s"


def times(row):
    ratio = row["ratio"]
    return f"**{ratio['median']:.2f}** ({ratio['minimum']:.2f} to {ratio['maximum']:.2f})"


def memory(row):
    return f"{row['peak_bytes'] / 1e6:,.0f} MB"


def quality(row):
    """What came of the work, for those benchmarks in which it differs."""
    if "found" in row:
        return f"{row['found']:.0%} found, {row['amount'] / row['seconds']['median']:.2g} a second"
    if "pairs_across_splits" in row:
        return (
            f"{row['broken_files']} broken files kept, "
            f"{row['pairs_across_splits']} photos in two splits"
        )
    if "photos" in row:
        return f"{row['photos'] / row['seconds']['median']:,.0f} photos a second"
    return ""


def table(results):
    """The lines of the README's table."""
    yield "| work | with | time | times ours (spread) | peak memory | what came of it |"
    yield "|---|---|---|---|---|---|"
    for name in BENCHMARKS:
        for title, rows in results.get(name, {}).get("rows", {}).items():
            for label, row in rows.items():
                first = title if label == "ours" else ""
                if "error" in row:
                    yield f"| {first} | {label} | fails | | | `{row['error']}` |"
                else:
                    ratio = "1" if label == "ours" else times(row)
                    cells = first, label, seconds(row), ratio, memory(row), quality(row)
                    yield f"| {' | '.join(cells)} |"


def sentences(results):
    """What the table does not tell."""
    for name, net in {"grad_cam": "Grad-CAM", "activations": "All activations"}.items():
        for title, rows in results.get(name, {}).get("rows", {}).items():
            shares = [
                f"{1 / row['ratio']['median']:.2f} times {label.removeprefix('a forward pass, ')}"
                for label, row in rows.items()
                if label.startswith("a forward pass")
            ]
            yield (
                f"{net} of {title.rsplit(', ')[-1]} took {' and '.join(shares)}; its first call, "
                f"which compiles, {rows['ours']['first_seconds']:.2g} s."
            )
    if "pipeline_in_training" in results:
        (rows,) = results["pipeline_in_training"]["rows"].values()
        bare = rows["the same batch again"]["seconds"]["median"]
        shares = [
            f"{1 - bare / row['seconds']['median']:.0%} with {label}"
            for label, row in rows.items()
            if label != "the same batch again"
        ]
        yield f"Of the time of a training step at 144 pixels, photos cost {', '.join(shares)}."
    if "growth" in results:
        grown = results["growth"]["photos"].values()
        times = [f"{row['seconds']['median']:.3g} s for {row['photos']:,}" for row in grown]
        yield f"`data_separator.py`, with more and more photos: {', '.join(times)}."
    if "training" in results:
        for label, net in results["training"]["nets"].items():
            minutes, highest = net["minutes_to_goal"], max(a for _, a in net["curve"])
            yield (
                f"{training.LABELS[label].capitalize()}: "
                + (f"at {minutes:.1f} minutes" if minutes else "not")
                + f" above {results['training']['goal']:.0%} of the validation photos for good, "
                f"{highest:.1%} at best, in {net['minutes']:.0f} minutes and {net['epochs']:.3g} "
                f"epochs; {net['peak_bytes'] / 1e9:.1f} GB."
            )


def block(results):
    """What stands between the marks in README.md."""
    lines = [*table(results), "", *(f"- {sentence}" for sentence in sentences(results))]
    return MARKS[0] + "".join(f"{line}\n" for line in lines) + MARKS[1]


def tell(results):
    """Write the README's table and the figure of the training."""
    text = README.read_text()
    begin, end = text.index(MARKS[0]), text.index(MARKS[1]) + len(MARKS[1])
    README.write_text(text[:begin] + block(results) + text[end:])
    if "training" in results:
        history = json.loads((HERE.parent / "models" / "metrics.json").read_text())["history"]
        training.draw(results["training"], history, FIGURE)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--archive", type=Path, default=Path("kagglecatsanddogs.zip"))
    parser.add_argument("--data", type=Path, default=HERE.parent / "data")
    parser.add_argument("--minutes", type=float, default=60, help="of training, for each net")
    parser.add_argument("--repetitions", type=int, help="of what is timed")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    args = parser.parse_args()
    (HERE / "work").mkdir(exist_ok=True)
    names = args.names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"{', '.join(sorted(unknown))} is no benchmark: {', '.join(BENCHMARKS)} are.")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if args.table:
        return tell(results)
    if missing := [PEERS[module] for module in PEERS if not importlib.util.find_spec(module)]:
        sys.exit(
            f"{', '.join(missing)} is not installed: run pip install -r benchmarks/requirements.txt"
        )
    if NEEDS["archive"] & set(names):
        if not shutil.which("unzip"):
            sys.exit("The program unzip is not installed: it is what the separator is compared to.")
        if not args.archive.is_file():
            sys.exit(f"There is no archive {args.archive}: give one with --archive.")
    if NEEDS["data"] & set(names) and not (args.data / "train").is_dir():
        sys.exit(
            f"There is no folder {args.data / 'train'}: run data_separator.py, or give --data."
        )
    for name in names:
        print(f"== {name}", flush=True)
        measured = BENCHMARKS[name](args) | measure.conditions()
        measured["date"] = time.strftime("%Y-%m-%d", time.gmtime())
        results = (json.loads(RESULTS.read_text()) if RESULTS.exists() else {}) | {name: measured}
        measure.save(RESULTS, results)
        tell(results)


if __name__ == "__main__":
    main()
