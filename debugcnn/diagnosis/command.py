"""The command `debugcnn diagnose`."""

import argparse
import sys
from pathlib import Path

from .. import arguments
from ..files.atomic import write_atomically

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
        "--value-range",
        nargs="+",
        default=["0", "255"],
        metavar="VALUE",
        help="how the program feeds it: the lowest and highest pixel value (0 255), caffe or torch",
    )
    result.add_argument("--classes", nargs="+", help="names in the order of the model's output")
    result.add_argument(
        "--images", dest="count", type=int, default=500, help="images at most (500)"
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


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = parser().parse_args(argv)
    try:
        _check(args)
        report = _diagnosed(args)
        print(report)
        for path, text in ((args.json, report.to_json), (args.html, report.to_html)):
            if path:
                write_atomically(path, text())
                print(f"Report: {path}")
    except (ValueError, OSError, MemoryError) as error:
        print(str(error) or "Out of memory: give fewer images (--images).", file=sys.stderr)
        return 2
    return int(bool(report.faults))


def _check(args):
    """Raises ValueError, in one sentence, for what can be told before anything is loaded."""
    arguments.check_model_file(args.model)
    for folder in filter(None, (args.images, args.train)):
        arguments.check_folder(folder)
    arguments.check_count(args.count)
    args.value_range = arguments.value_range(args.value_range)
    args.limits = dict(map(_limit, args.limit))
    for path in filter(None, (args.json, args.html)):
        arguments.check_output_file(path)


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
