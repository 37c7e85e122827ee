"""Execute notebooks in place, from a clean kernel, as they are committed.

    python tests/publish.py NOTEBOOK [NOTEBOOK ...]

A digest of the cells is kept in the notebook, so that a test can tell when a cell was changed and
not run again. The picture of a cell tagged `figure-NAME` is also kept as images/figures/NAME.jpg.
"""

import base64
import hashlib
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def digest(notebook):
    """The SHA-256 of all cells' types and sources."""
    cells = "\0".join(f"{cell.cell_type}\0{cell.source}" for cell in notebook.cells)
    return hashlib.sha256(cells.encode()).hexdigest()


def publish(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata = {"tags": tags} if (tags := cell.metadata.get("tags")) else {}
    client = NotebookClient(notebook, timeout=None, record_timing=False, coalesce_streams=True)
    client.execute()
    notebook.metadata["executed_cells"] = digest(notebook)
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("figure-"):
                pictures = [
                    o.data["image/jpeg"] for o in cell.outputs if "image/jpeg" in o.get("data", {})
                ]
                figure = Path("images", "figures", tag.removeprefix("figure-") + ".jpg")
                figure.parent.mkdir(exist_ok=True)
                figure.write_bytes(base64.b64decode(pictures[-1]))
    complete = Path(f"{path}.partial")
    nbformat.write(notebook, complete)
    os.replace(complete, path)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        publish(path)
        print(f"{path}: {os.path.getsize(path):,} bytes")
