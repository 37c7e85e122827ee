"""The command `debugcnn inspect`: YourCNN.ipynb run on a model, as one page."""

import argparse
import importlib.util
import sys
from pathlib import Path

from .files.atomic import write_atomically

PACKAGE = Path(__file__).parent
NEEDED = ("papermill", "nbconvert", "ipykernel")


def notebook_file() -> Path:
    """YourCNN.ipynb: beside the package in a checkout, inside it where it was installed."""
    return next(f for f in (PACKAGE.parent / "YourCNN.ipynb", PACKAGE / "YourCNN.ipynb") if f.exists())


def parser() -> argparse.ArgumentParser:
    """Its arguments; imports nothing that takes time."""
    result = argparse.ArgumentParser(
        prog="debugcnn inspect",
        description="See a model in all views: layers, predictions, activations, filter patterns "
        "and heatmaps, as one page of HTML.",
    )
    result.add_argument("model", type=Path, help="a .keras or .h5 file")
    result.add_argument("images", type=Path, help="an image, a folder of images, or of class folders")
    result.add_argument("--html", type=Path, help="the page (out/MODEL-inspection.html)")
    result.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of YourCNN.ipynb, its value in YAML, such as CLASSES='[cat, dog]'",
    )
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = parser().parse_args(arguments)
    try:
        page = inspect(args.model, args.images, args.html, dict(map(_setting, args.set)))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Report: {page}")
    return 0


def inspect(model: Path, images: Path, page: Path | None = None, settings: dict | None = None) -> Path:
    """Run the notebook, write the page, and return its path.

    Raises ValueError, in one sentence, for a path that does not exist or a package that is missing.
    """
    for path in (model, images):
        if not path.exists():
            raise ValueError(f"There is no {str(path)!r}: check the path.")
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing: pip install 'debugcnn[notebooks]'.")
    page = page or Path("out", f"{model.stem}-inspection.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    parameters = {"MODEL": str(model), "PHOTOS": str(images)} | (settings or {})
    write_atomically(page, _as_html(_executed(parameters)))
    return page


def _executed(parameters):
    import papermill

    with_kernel = {"kernel_name": "python3", "progress_bar": sys.stderr.isatty()}
    try:
        return papermill.execute_notebook(notebook_file(), None, parameters, **with_kernel)
    except papermill.PapermillExecutionError as error:
        raise ValueError(error.evalue or error.ename) from error


def _as_html(notebook):
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_file=str(PACKAGE / "templates" / "page.html.j2"))
    exporter.exclude_input = True
    return exporter.from_notebook_node(notebook)[0]


def _setting(text):
    import yaml

    name, _, value = text.partition("=")
    if not (name.isidentifier() and value):
        raise ValueError(f"--set is a name and a value, such as CLASSES='[cat, dog]', not {text!r}.")
    return name, yaml.safe_load(value)
