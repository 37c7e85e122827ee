"""The command `debugcnn diagnose`."""

import argparse
import os
import sys
from pathlib import Path

EXIT_STATUS = "exit status: 0, no fault was found; 1, a fault was found; 2, nothing was examined"


class _Parser(argparse.ArgumentParser):
    """Lists the causes in its help, which takes seconds, since it imports them."""

    def format_help(self):
        from .catalogue import help_lines

        return f"{super().format_help()}\ncauses:\n{help_lines()}\n\n{EXIT_STATUS}\n"


def parser() -> argparse.ArgumentParser:
    """Its arguments; imports nothing that takes time."""
    result = _Parser(
        prog="debugcnn diagnose",
        description="Find out what is wrong with an image classifier, and what fixes it.",
    )
    result.add_argument("model", type=Path, help="a .keras or .h5 file")
    result.add_argument("images", type=Path, help="a folder with a folder of images for each class")
    result.add_argument("--train", type=Path, help="such a folder of images that it was trained on")
    result.add_argument(
        *("--value-range", "--value_range"),
        nargs="+",
        default=["0", "255"],
        metavar="VALUE",
        help="how the program feeds it: the lowest and highest pixel value (0 255), caffe or torch",
    )
    result.add_argument("--classes", nargs="+", help="names in the order of the model's output")
    result.add_argument(
        *("--images",), dest="count", type=int, default=500, help="images at most (500)"
    )
    result.add_argument("--output", help="of several outputs: its name or number")
    result.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="CAUSE=VALUE",
        help="overrule the limit of a cause, such as leak=0.02; may be repeated",
    )
    result.add_argument("--json", type=Path, help="a file for the report")
    result.add_argument("--html", type=Path, help="a file for the report with pictures")
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = parser().parse_args(arguments)
    try:
        _check(args)
        report = _diagnosed(args)
        print(report)
        for path in filter(None, (args.json, args.html)):
            report.save(path) if path is args.html else _save_json(report, path)
            print(f"Report: {path}")
    except (ValueError, OSError, MemoryError) as error:
        print(str(error) or "Out of memory: give fewer images (--images).", file=sys.stderr)
        return 2
    return int(bool(report.faults))


def _save_json(report, path):
    from ..files.atomic import write_atomically

    write_atomically(path, report.to_json())


def _check(args):
    """Raises ValueError, in one sentence, for what can be told before anything is loaded."""
    if not args.model.exists():
        raise ValueError(f"There is no model file {str(args.model)!r}: give a .keras or .h5 file.")
    for folder in filter(None, (args.images, args.train)):
        if not folder.is_dir():
            raise ValueError(
                f"There is no folder {str(folder)!r}: give one with a folder for each class."
            )
    if args.count < 1:
        raise ValueError(f"--images is a number of images from 1 up, not {args.count}.")
    args.value_range = _value_range(args.value_range)
    args.limits = dict(map(_limit, args.limit))
    for path in filter(None, (args.json, args.html)):
        folder = path.absolute().parent
        if not (folder.is_dir() and os.access(folder, os.W_OK)) or path.is_dir():
            raise ValueError(f"{str(path)!r} cannot be written: give a file in a folder that can.")


def _value_range(values):
    if len(values) == 1 and values[0] in ("caffe", "torch"):
        return values[0]
    try:
        low, high = map(float, values)
    except ValueError:
        low, high = 0.0, 0.0
    if not low < high:
        raise ValueError(
            "--value-range is the lowest and the highest pixel value, such as 0 255, or caffe or "
            f"torch, not {' '.join(values)}."
        )
    return low, high


def _limit(text):
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(
            f"--limit is a cause and a number, such as leak=0.02, not {text!r}."
        ) from None


def _diagnosed(args):
    from tqdm import tqdm

    from ..files.images import Resizing
    from ..loading import images_per_class, load_labelled, load_model_quietly
    from .engine import diagnose

    model = load_model_quietly(args.model)
    output = int(args.output) if args.output and args.output.isdigit() else args.output
    variants = {
        "taking the nearest pixel": Resizing(resample="nearest"),
        "a crop from the middle": Resizing("crop"),
        "padding": Resizing("pad"),
    }

    def load(folder, **options):
        options |= {"class_names": args.classes, "output": output}
        per_class = images_per_class(folder, args.count)
        loaded = load_labelled(model, folder, per_class=per_class, **options)
        if loaded.unreadable:
            print(f"{loaded.unreadable} images in {folder} cannot be read and are left out.")
        return loaded

    examined = load(args.images, variants=variants)
    trained = load(args.train) if args.train else None
    return diagnose(
        model,
        examined.pixels,
        examined.labels,
        train=trained and (trained.pixels, trained.labels),
        value_range=args.value_range,
        output=output,
        resized_variants=examined.variants,
        class_names=examined.class_names,
        limits=args.limits,
        progress=lambda steps: tqdm(steps, desc="examining", unit=" steps", disable=None),
    )
