"""The cells of CatsVsDogs.ipynb as Python: what is measured is what a reader runs."""

import ast
import atexit
import importlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

NOTEBOOK = Path(__file__).resolve().parents[1] / "CatsVsDogs.ipynb"


def _cells():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [
        ("".join(cell["source"]), cell["metadata"].get("tags", []))
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def training(parameters):
    """All cells up to the one that trains, as a program, with other `parameters` (a dict)."""
    program = []
    for source, tags in _cells():
        program.append(source)
        if "parameters" in tags:
            program += [f"{name} = {value!r}" for name, value in parameters.items()]
        if source.startswith("history = train("):
            return "\n\n".join(program)
    raise ValueError(f"No cell of {NOTEBOOK.name} trains.")


def definitions():
    """A module with the imports, parameters, functions and classes of the notebook, and no work."""
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    program = []
    for source, _ in _cells():
        for statement in ast.parse(source).body:
            if isinstance(statement, kept) or _is_constant(statement):
                program.append(ast.unparse(statement))
    folder = tempfile.mkdtemp()  # TensorFlow reads the source of a function when it compiles it
    atexit.register(shutil.rmtree, folder)
    Path(folder, "cats_vs_dogs.py").write_text("\n\n".join(program))
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("cats_vs_dogs")
    finally:
        sys.path.remove(folder)


def _is_constant(statement):
    try:
        ast.literal_eval(statement.value)
    except (AttributeError, ValueError):
        return False
    return isinstance(statement, ast.Assign)
