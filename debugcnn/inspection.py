"""The command `debugcnn inspect`: YourCNN.ipynb run on a model, as one page."""

import argparse
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from . import arguments
from .files.atomic import write_atomically

PACKAGE = Path(__file__).parent
TEMPLATE = PACKAGE / "templates" / "page.html.j2"
REQUIRED = ("papermill", "nbconvert", "ipykernel")  # of the extra "notebooks"
FOLDER = Path("out")  # of pages for which no file is named


def parser() -> argparse.ArgumentParser:
    """Its arguments; imports nothing that takes time."""
    result = argparse.ArgumentParser(
        prog="debugcnn inspect",
        description="See a model in all views: layers, predictions, activations, filter patterns "
        "and heatmaps, as one page of HTML.",
        epilog="exit status: 0, the page was written; 2, nothing was written",
    )
    result.add_argument("model", type=Path, help="a .keras or .h5 file")
    result.add_argument(
        "images", type=Path, help="an image, a folder of images, or of class folders"
    )
    result.add_argument("--html", type=Path, help="the page (out/MODEL-inspection.html)")
    result.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of YourCNN.ipynb, its value in YAML, such as CLASSES='[cat, dog]'; "
        "may be repeated",
    )
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = parser().parse_args(argv)
    try:
        _check_packages()
        settings = dict(map(_setting, args.set))
        page = inspect(args.model, args.images, args.html, settings)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Report: {page}")
    return 0


def inspect(
    model: str | PathLike[str],
    images: str | PathLike[str],
    page: str | PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Run YourCNN.ipynb on a model and its images, write what it shows as HTML, return the path.

    `images` is an image, a folder of images, or a folder with a folder for each class. The page,
    if it is not named, is FOLDER/MODEL-inspection.html; it holds its figures and fetches nothing.
    `settings` are other parameters of the notebook, {name: value}. Raises ValueError, in one
    sentence, for a path that does not exist, a missing package, an unknown setting, and what stops
    the notebook; a page that was there before is then left as it was.
    """
    model, images = Path(model), Path(images)
    arguments.check_model_file(model)
    if not images.exists():
        raise ValueError(f"There is no image or folder {str(images)!r}: check the path.")
    _check_packages()
    parameters = {"MODEL": str(model), "PHOTOS": str(images)} | dict(settings or {})
    _check_parameters(parameters)
    if page is None:
        FOLDER.mkdir(exist_ok=True)
        page = FOLDER / f"{model.stem}-inspection.html"
    arguments.check_output_file(Path(page))
    write_atomically(page, _as_html(_executed(parameters)))
    return Path(page)


def notebook_file() -> Path:
    """YourCNN.ipynb: beside the package in a checkout, inside it where it was installed."""
    beside = PACKAGE.parent / "YourCNN.ipynb"
    return beside if beside.exists() else PACKAGE / "YourCNN.ipynb"


def _check_packages():
    missing = [name for name in REQUIRED if not importlib.util.find_spec(name)]
    if missing:
        raise ValueError(
            f"This needs {', '.join(missing)} as well: pip install 'debugcnn[notebooks]'."
        )


def _setting(text):
    import yaml  # comes with papermill

    name, _, value = text.partition("=")
    try:
        if name.isidentifier() and value:
            return name, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise ValueError(
        f"--set is a name and a value in YAML, such as CLASSES='[cat, dog]', not {text!r}."
    )


def _check_parameters(parameters):
    import papermill

    known = papermill.inspect_notebook(notebook_file())
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ValueError(
            f"YourCNN.ipynb has no parameter {unknown[0]}: choose from {', '.join(known)}."
        )


def _executed(parameters):
    import papermill
    from nbclient.exceptions import DeadKernelError

    options = {
        "kernel_name": "python3",
        "progress_bar": sys.stderr.isatty(),
        "extra_arguments": ["--log-level=ERROR"],  # of the kernel, which else warns of its port
    }
    try:
        return papermill.execute_notebook(notebook_file(), None, parameters, **options)
    except papermill.PapermillExecutionError as error:
        raise ValueError(error.evalue or error.ename) from error
    except DeadKernelError as error:
        raise ValueError(
            "The process that ran the notebook was killed, as where memory runs out: give fewer "
            "or smaller images."
        ) from error


def _as_html(notebook):
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_file=str(TEMPLATE))
    exporter.exclude_input = True
    return exporter.from_notebook_node(notebook)[0]
