"""Execute notebooks in place, from a clean kernel, as they are committed.

    python -m tools.publish NOTEBOOK [NOTEBOOK ...]

A digest of the cells is kept in the notebook, so that a test can tell when a cell was changed and
not executed again. The image of a cell tagged `figure-NAME` is also kept as
images/figures/NAME.jpg.
"""

import argparse
import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from debugcnn.files.atomic import write_atomically

FIGURES = Path("images", "figures")


def digest(notebook: nbformat.NotebookNode) -> str:
    """The SHA-256 of all cells' types and sources."""
    cells = "\0".join(f"{cell.cell_type}\0{cell.source}" for cell in notebook.cells)
    return hashlib.sha256(cells.encode()).hexdigest()


def publish(path: str | os.PathLike[str]) -> None:
    """Execute a notebook, and write it and its tagged figures only if all cells succeed.

    Raises nbclient's CellExecutionError for a cell that fails.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata = {"tags": tags} if (tags := cell.metadata.get("tags")) else {}
    client = NotebookClient(notebook, timeout=None, record_timing=False, coalesce_streams=True)
    client.execute()
    notebook.metadata["executed_cells"] = digest(notebook)
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("figure-"):
                FIGURES.mkdir(exist_ok=True)
                file = FIGURES / f"{tag.removeprefix('figure-')}.jpg"
                write_atomically(file, _last_jpeg(cell))
    write_atomically(path, nbformat.writes(notebook) + "\n")


def _last_jpeg(cell):
    outputs = [output.get("data", {}) for output in cell.outputs]
    jpegs = [data["image/jpeg"] for data in outputs if "image/jpeg" in data]
    return base64.b64decode(jpegs[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="+", metavar="NOTEBOOK")
    for path in parser.parse_args(arguments).notebooks:
        publish(path)
        print(f"{path}: {os.path.getsize(path):,} bytes")


if __name__ == "__main__":
    main()
