"""Running a notebook on small data, and what its cells show."""

import cv2
import nbformat
import numpy as np
import papermill
from conftest import ROOT


def run(name, folder, **parameters):
    """The executed notebook, from the project's folder; it is also written to `folder`."""
    folder.mkdir(exist_ok=True)
    papermill.execute_notebook(ROOT / name, folder / name, parameters, cwd=ROOT, progress_bar=False)
    return nbformat.read(folder / name, as_version=4)


def code(notebook):
    """The code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    """All outputs of all cells."""
    return [output for cell in code(notebook) for output in cell.outputs]


def printed(notebook):
    """The text that the cells printed."""
    return "".join(o.text for o in outputs(notebook) if o.output_type == "stream")


def markdown(notebook):
    """The Markdown that the cells displayed."""
    shown = [output.get("data", {}) for output in outputs(notebook)]
    return [data["text/markdown"] for data in shown if "text/markdown" in data]


def figures(notebook):
    """The figures that the cells displayed, as pairs of MIME type and output."""
    return [
        (kind, output)
        for output in outputs(notebook)
        for kind in output.get("data", {})
        if kind.startswith("image/")
    ]


def write_images(folder, count, seed=0):
    """Folders cats and dogs, with `count` images each. Cats are bluish noise, dogs reddish."""
    generator = np.random.default_rng(seed)
    for label, channel in (("cats", 0), ("dogs", 2)):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            image = generator.integers(0, 90, (60, 80, 3))
            image[..., channel] += 120
            cv2.imwrite(str(folder / label / f"{i}.jpg"), image.astype(np.uint8))
