"""The command `debugcnn heatmaps`. TensorFlow is imported only once the arguments are checked."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..files.compact_json import write_json
from ..files.images import labelled_files
from .masks import which_have_mask

WORK = Path("out/heatmaps")
JSON_DEPTH = 3  # a line for each score of each method
DESCRIPTION = """Which heatmap is true? All methods, compared on a model and images of yours.

Of each method it is measured whether the logit falls when the pixels with the highest values are
removed, whether the heatmap depends on what the layers have learned, which half of an image made of
two it points at, how much of it lies on the subject, and what it costs. A method that cannot
explain the model is left out with the reason, as is guided backpropagation without a ReLU."""
EPILOG = """The exit status is 0, or 2 with one sentence if the model cannot be compared."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0, or 2 after a sentence about wrong input."""
    args = _parser().parse_args(arguments)
    try:
        value_range = _value_range(args.value_range)
        _check(args)
        print(_compared(args, value_range))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="debugcnn heatmaps",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a .keras or .h5 file")
    parser.add_argument("folder", metavar="IMAGES", help="a folder with a folder for each class")
    parser.add_argument(
        "--images", type=int, default=25, metavar="N", help="images of each class (default: 25)"
    )
    parser.add_argument(
        "--value-range",
        nargs="+",
        default=["0", "255"],
        metavar="VALUE",
        help="of a pixel: the lowest and the highest, or caffe or torch (default: 0 255)",
    )
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME", help="names in the order of the model's output"
    )
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="FOLDER",
        help="a folder like IMAGES with a PNG for each image whose subject is known, white on the "
        "subject and black elsewhere",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    parser.add_argument(
        "--work",
        type=Path,
        default=WORK,
        metavar="FOLDER",
        help="keeps the heatmaps, so that an interrupted run resumes; delete it after changing a "
        f"method (default: {WORK.as_posix()})",
    )
    return parser


def _value_range(words):
    if words in (["caffe"], ["torch"]):
        return words[0]
    with suppress(ValueError):  # not two, or no numbers
        low, high = map(float, words)
        if low < high:
            return low, high
    raise ValueError(
        "--value-range is the lowest and the highest value of a pixel, such as 0 255, or caffe or "
        f"torch, not {' '.join(words)}."
    )


def _check(args):
    """Raises ValueError for what would fail only after minutes of work."""
    if args.images < 1:
        raise ValueError(f"--images is a whole number from 1 up, not {args.images}.")
    if not Path(args.model).exists():
        raise ValueError(f"There is no model file {args.model!r}: give the path of a .keras file.")
    files, _, _ = labelled_files(args.folder)
    if args.masks:
        which_have_mask(files, args.masks)
    if args.json and not args.json.parent.is_dir():
        raise ValueError(f"There is no folder {str(args.json.parent)!r} for --json: create it.")


def _compared(args: Any, value_range) -> str:
    """Compare, write the results, and return the table and the sources of the methods."""
    from ..files.models import load_model
    from ..views.heatmap_catalogue import method_sources
    from .measurements import compare
    from .report import table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what was changed to load an old file
        model = load_model(args.model)
    results = compare(
        model, args.folder, args.images, value_range, args.masks, args.classes, args.work
    )
    if args.json:
        write_json(args.json, results, JSON_DEPTH)
    return f"{table(results)}\n\n{method_sources(results['cost'])}"
