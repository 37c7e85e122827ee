"""Measure this tutorial side by side with what people would use instead.

    python benchmarks/run.py [NAME ...] [--archive kagglecatsanddogs.zip] [--data data]
                             [--minutes 60] [--repetitions N] [--table]

NAME is the function of a registered heatmap method (grad_cam, occlusion ...) or any of
grad_cam_mobilenet, activations, filter_patterns, passes, pipeline, pipeline_in_training, separator,
separator_from_folder, growth and training; none is all.
Needs benchmarks/requirements.txt; the separators and growth also need `unzip` and Microsoft's
archive of the photos; passes, pipeline and training the folders that data_separator.py makes of
it. Each name, once measured, goes into benchmarks/results.json; from that file come the table in
benchmarks/README.md, two sentences in README.md and images/figures/training.png (--table: only
these). A training that was stopped goes on; delete benchmarks/work to train afresh. Leave the
machine alone meanwhile.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
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
README, FRONT = HERE / "README.md", HERE.parent / "README.md"
FIGURE = HERE.parent / "images" / "figures" / "training.png"
WORK = HERE / "work"  # trainings that can go on, and what can be deleted at any time
MARKS = "<!-- written by benchmarks/run.py -->\n", "<!-- end of what it wrote -->"
PEERS = {
    "tf_keras_vis": "tf-keras-vis",
    "tf_explain": "tf-explain",
    "splitfolders": "split-folders",
    "scipy": "scipy",
    "xplique": "xplique",
}


# ------------------------------------------------------------------------------ what is measured


def compared(contenders, arguments, repetitions, warm_up=1):
    """A benchmark of `contenders` with the arguments that are made of the command's."""

    def run(args):
        many = args.repetitions or repetitions
        return {
            "repetitions": many,
            "rows": measure.compare(contenders, many, warm_up, arguments(args)),
        }

    return run


def unpacked(args):
    """The folder of the class folders of the archive, which is unpacked once."""
    folder = WORK / f"{args.archive.stem}-{args.archive.stat().st_size}"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.unpack_archive(args.archive, partial, "zip")
        partial.rename(folder)
    return [str(folder / separator.class_folder_of(args.archive))]


def archive(args):
    return [str(args.archive.resolve())]


def data(args):
    return [str(args.data.resolve())]


def our_net(args):
    return ["ours"]


def mobilenet(args):
    return ["mobilenet"]


HEATMAPS = views.heatmap_contenders()
BENCHMARKS = {
    **{
        name: compared(contenders, our_net, 3 if name in views.COUNTS else 7)
        for name, contenders in HEATMAPS.items()
    },
    "grad_cam_mobilenet": compared(HEATMAPS["grad_cam"], mobilenet, 5),
    "activations": compared(views.ACTIVATIONS, our_net, 7),
    "filter_patterns": compared(views.PATTERNS, our_net, 3, warm_up=0),
    "passes": lambda args: {"rows": views.passes(args.data.resolve())},
    "pipeline": compared(pipeline.READING, data, 3),
    "pipeline_in_training": compared(pipeline.TRAINING, data, 3),
    "separator": compared(separator.FROM_ARCHIVE, archive, 5),
    "separator_from_folder": compared(separator.FROM_FOLDER, unpacked, 5),
    "growth": lambda args: {
        "photos": separator.growth(args.archive.resolve(), args.repetitions or 3)
    },
    "training": lambda args: training.run(args.data.resolve(), WORK, args.minutes),
}
TITLES = {
    "grad_cam": "Grad-CAM of 64 photos, our net",
    "grad_cam_mobilenet": "Grad-CAM of 64 photos, MobileNetV2",
    "grad_cam_plus_plus": "Grad-CAM++ of 64 photos, our net",
    "layer_cam": "LayerCAM of 64 photos, our net",
    "smooth_grad": f"SmoothGrad of {views.SOME} photos, {views.SAMPLES} copies, our net",
    "integrated_gradients": (
        f"Integrated gradients of {views.SOME} photos, {views.SAMPLES} steps, our net"
    ),
    "guided_backpropagation": "Guided backpropagation of 64 photos, our net",
    "score_cam": f"Score-CAM of {views.FEW} photos, all 192 channels, our net",
    "occlusion": f"Occlusion of {views.FEW} photos, 121 squares, our net",
    "rise": f"RISE of {views.FEW} photos, {views.MASKS} masks, our net",
    "activations": "Activations of all 12 layers for 64 photos, our net",
    "filter_patterns": "Patterns of all 1,040 filters of our net, 24 steps",
    "pipeline": "1,536 varied photos of 144 x 144 pixels",
    "pipeline_in_training": "Training our net on them",
    "separator": "Splitting the photos, from the archive",
    "separator_from_folder": "Splitting the photos, from a folder",
}
TITLES = TITLES | {
    name: f"`{name}` of {views.COUNTS.get(name, 64)} photos, our net"
    for name in HEATMAPS
    if name not in TITLES
}
NEEDS = {
    "archive": {"separator", "separator_from_folder", "growth"},
    "data": {"passes", "pipeline", "pipeline_in_training", "training"},
}


# ---------------------------------------------------------------------------- what is told of it


def told(row, ours):
    """The cells of a contender: time for the whole work, ratio, memory, what came of it."""
    if "error" in row:
        return "fails", "", "", f"`{row['error']}`"
    scale, ratio = ours.get("amount", 1) / row.get("amount", 1), row["ratio"]
    spread = f"**{ratio['median']:.2f}** ({ratio['minimum']:.2f} to {ratio['maximum']:.2f})"
    made = ""
    if "pairs" in row:
        made = (
            f"{row['photos']:,} photos; {row['broken_files']} broken files, "
            f"{row['pairs_across_splits']} pairs across splits"
        )
    return (
        f"{row['seconds']['median'] * scale:.3g} s",
        "1" if row is ours else spread,
        f"{row['peak_bytes'] / 1e6:,.0f} MB",
        made,
    )


def table(results):
    """The lines of the table."""
    yield "| work | with | time | times ours (spread) | peak memory | what came of it |"
    yield "|---|---|---|---|---|---|"
    for name, title in TITLES.items():
        for label, row in results.get(name, {}).get("rows", {}).items():
            ours = results[name]["rows"]["ours"]
            cells = title if row is ours else "", label, *told(row, ours)
            yield f"| {' | '.join(cells)} |"


def sentences(results):
    """What the table does not tell."""
    if not results:
        return
    newest = max(results.values(), key=lambda benchmark: benchmark["date"])
    versions = [f"{name} {version}" for name, version in newest["versions"].items()]
    machine = f"{newest['processor']}, {newest['cores']} cores"
    yield f"Measured on {newest['date']}, {machine}; {', '.join(versions)}."
    for name, view in {
        "grad_cam": "Grad-CAM of our net",
        "grad_cam_mobilenet": "Grad-CAM of MobileNetV2",
        "activations": "All activations of our net",
    }.items():
        rows = results.get(name, {}).get("rows", {})
        shares = [
            f"{1 / row['ratio']['median']:.2f} times {label.removeprefix('a forward pass, ')}"
            for label, row in rows.items()
            if label.startswith("a forward pass") and "ratio" in row
        ]
        if shares:
            first = rows["ours"]["first_seconds"]
            yield f"{view}: {' and '.join(shares)}. The first call, which compiles: {first:.2g} s."
    rows = results.get("pipeline_in_training", {}).get("rows", {})
    bare = rows.get("the same batch again", {})
    if "seconds" in bare:
        shares = [
            f"{1 - bare['seconds']['minimum'] / row['seconds']['minimum']:.0%} with {label}"
            for label, row in rows.items()
            if row is not bare and "seconds" in row
        ]
        yield (
            "Of the time of training at 144 pixels, by the fastest rounds, the wait for photos is "
            f"{', '.join(shares)}."
        )
    if "passes" in results:
        rows = results["passes"]["rows"].items()
        shares = ", ".join(f"{row['passes']:.0%} ({label})" for label, row in rows)
        tries = max(row["tries"] for _, row in rows)
        yield (
            f"Patterns that pass when they are pasted into photos, of up to {tries:,} tries each, "
            f"measured on {results['passes']['date']}: {shares}."
        )
    if "growth" in results:
        grown = results["growth"]["photos"].values()
        times = [f"{row['seconds']['median']:.2g} s for {row['photos']:,}" for row in grown]
        yield f"`data_separator.py` on folders of more and more photos: {', '.join(times)}."
    if "training" in results:
        goal = f"{results['training']['goal']:.0%}"
        for label, net in results["training"]["nets"].items():
            minutes, highest = net["minutes_to_goal"], max(a for _, a in net["curve"])
            reached = f"{goal} at {minutes:.1f} minutes" if minutes else f"{goal} not reached"
            timed = (
                f" (timed: {net['timed_parts']} of {net['parts']} parts)" if "parts" in net else ""
            )
            yield (
                f"Training {training.LABELS[label]}: {reached}; validation accuracy at best "
                f"{highest:.1%}, in {net['minutes']:.0f} minutes{timed}, {net['epochs']:.2g} "
                f"epochs and {net['peak_bytes'] / 1e9:.1f} GB."
            )


def block(results):
    """What stands between the marks in benchmarks/README.md."""
    lines = [*table(results), "", *(f"- {sentence}" for sentence in sentences(results))]
    return MARKS[0] + "".join(f"{line}\n" for line in lines) + MARKS[1]


def short(results):
    """What stands between the marks in the front page's README.md: two sentences."""
    heat, drawn = (results[name]["rows"] for name in ("grad_cam", "filter_patterns"))

    def times(rows, label):
        return f"{rows[label]['ratio']['median']:.1f} times the time with {label}"

    rows = results.get("passes", {}).get("rows", {})
    shares = {label: f"{row['passes']:.0%}" for label, row in rows.items()}
    worth = (
        f" Of our patterns {shares.pop('ours')} pass when they are pasted into photos; "
        f"{', '.join(f'{share} ({label})' for label, share in shares.items())}."
        if shares
        else ""
    )
    machine = f"{results['grad_cam']['processor']}, {results['grad_cam']['cores']} cores"
    return (
        f"{MARKS[0]}On {machine}, Grad-CAM takes {times(heat, 'tf-keras-vis')} and "
        f"{times(heat, 'tf-explain')}, patterns of all filters {times(drawn, 'tf-keras-vis')} and "
        f"{times(drawn, 'the loop of the textbook')}.{worth}\n{MARKS[1]}"
    )


def read():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def tell(results):
    """Write the table and the figure of the training."""
    for page, told_there in ((README, block(results)), (FRONT, short(results))):
        text = page.read_text()
        begin = text.index(MARKS[0])
        end = text.index(MARKS[1], begin) + len(MARKS[1])
        measure.replace(page, text[:begin] + told_there + text[end:])
    if "training" in results:
        history = json.loads((HERE.parent / "models" / "metrics.json").read_text())["history"]
        training.draw(results["training"], history, FIGURE)


def positive(text):
    number = float(text)
    if not number > 0:
        raise ValueError
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--archive", type=Path, default=Path("kagglecatsanddogs.zip"))
    parser.add_argument("--data", type=Path, default=HERE.parent / "data")
    parser.add_argument("--minutes", type=positive, default=60, help="of training, for each net")
    parser.add_argument("--repetitions", type=int, choices=range(1, 100), metavar="N")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    args = parser.parse_args()
    names = args.names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"{', '.join(sorted(unknown))} is no benchmark: {', '.join(BENCHMARKS)} are.")
    if args.table:
        return tell(read())
    if sys.platform == "win32":
        sys.exit("Windows does not tell the peak memory of a process: run this on Linux or macOS.")
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
    WORK.mkdir(exist_ok=True)
    for name in names:
        print(f"== {name}", flush=True)
        conditions = measure.conditions() | {"date": time.strftime("%Y-%m-%d", time.gmtime())}
        try:
            measured = BENCHMARKS[name](args)
        except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
            sys.exit(f"{name} was not measured. {error}")
        results = read() | {name: measured | conditions}
        measure.save(RESULTS, results)
        tell(results)


if __name__ == "__main__":
    main()
