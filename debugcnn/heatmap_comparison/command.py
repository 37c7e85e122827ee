"""The command `debugcnn heatmaps`. TensorFlow is imported only once the arguments are checked."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..arguments import (
    check_count,
    check_folder,
    check_model_file,
    check_output_file,
    value_range,
)
from ..files.compact_json import write_json
from ..files.images import labelled_files
from .masks import check_masks

WORK = Path("out/heatmaps")
JSON_DEPTH = 3  # a line for each score of each method
DESCRIPTION = """Which heatmap is true? All methods, compared on a model and images of yours.

Of each method it is measured whether the logit falls when the pixels with the highest values are
removed, whether the heatmap depends on what the layers have learned, which half of an image made of
two it points at, how much of it lies on the subject, and what it costs. A method that cannot
explain the model is left out with the reason, as is guided backpropagation without a ReLU."""
EPILOG = """The exit status is 0, or 2 with one sentence if the model cannot be compared."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, 2 after a sentence about what went wrong."""
    args = _parser().parse_args(arguments)
    try:
        _check(args)
        print(_compared(args))
    except (ValueError, OSError) as error:
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
    parser.add_argument("model", metavar="MODEL", type=Path, help="a .keras or .h5 file")
    parser.add_argument(
        "images",
        metavar="IMAGES",
        type=Path,
        help="a folder with a folder of images for each class",
    )
    parser.add_argument(
        "--images",
        dest="count",
        type=int,
        default=25,
        metavar="N",
        help="images of each class (default: 25)",
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


def _check(args):
    """Raises ValueError for what would fail only after minutes of work."""
    args.value_range = value_range(args.value_range)
    check_count(args.count)
    check_model_file(args.model)
    check_folder(args.images)
    files, _, _ = labelled_files(args.images)
    if args.masks:
        check_folder(args.masks)
        check_masks(files, args.masks)
    if args.json:
        check_output_file(args.json)


def _compared(args):
    """Compare, write the results, and return the table and the sources of the methods."""
    from ..loading import load_model_quietly
    from ..views.heatmap_catalogue import method_sources
    from .measurements import compare
    from .report import table

    results = compare(
        load_model_quietly(args.model),
        args.images,
        args.count,
        args.value_range,
        masks=args.masks,
        class_names=args.classes,
        work=args.work,
    )
    if args.json:
        write_json(args.json, results, JSON_DEPTH)
    return f"{table(results)}\n\n{method_sources(results['cost'])}"
