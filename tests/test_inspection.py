"""The command `debugcnn inspect`: YourCNN.ipynb, run on a model, as one page."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

from debugcnn import inspection
from debugcnn.__main__ import main

MODEL, IMAGES = ROOT / "examples" / "shapes.keras", ROOT / "examples" / "shapes"
FIGURE = """
import IPython.display, matplotlib.pyplot as plt, io
file = io.BytesIO()
plt.plot([1, 2])
plt.savefig(file, format="png", dpi=20)
plt.close()
IPython.display.display(IPython.display.Image(file.getvalue(), format="png", alt="A <line>."))
print(PHOTOS, STEPS + 1)
if STEPS > 24:
    raise ValueError("The steps are too many.")
"""


@pytest.fixture
def short_notebook(tmp_path, monkeypatch):
    """In place of YourCNN.ipynb: a notebook with a figure, which stops above 24 steps."""
    cells = [
        nbformat.v4.new_code_cell(c) for c in ("MODEL = None\nPHOTOS = None\nSTEPS = 24", FIGURE)
    ]
    cells[0].metadata["tags"] = ["parameters"]
    file = tmp_path / "short.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), file)
    monkeypatch.setattr(inspection, "notebook_file", lambda: file)


def run(*arguments):
    return main(["inspect", *map(str, arguments)])


def test_a_page_with_its_figures_and_without_code(short_notebook, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run(MODEL, IMAGES, "--set", "STEPS=4") == 0
    page = Path("out", "shapes-inspection.html")
    assert capfd.readouterr() == (f"Report: {page}\n", "")
    html = page.read_text()
    assert f"{IMAGES} 5" in html
    assert 'alt="A &lt;line&gt;."' in html and html.count('src="data:image/png') == 1
    assert "savefig" not in html
    assert 'src="http' not in html and "import(" not in html


def test_a_run_that_fails_leaves_the_page_as_it_was(short_notebook, tmp_path, capfd):
    page = tmp_path / "page.html"
    page.write_text("before")
    assert run(MODEL, IMAGES, "--html", page, "--set", "STEPS=25") == 2
    assert capfd.readouterr().err == "The steps are too many.\n"
    assert page.read_text() == "before"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.keras", IMAGES], "There is no model file 'none.keras'"),
        ([MODEL, "none"], "There is no image or folder 'none'"),
        ([MODEL, IMAGES, "--html", "none/page.html"], "'none/page.html' cannot be written"),
        ([MODEL, IMAGES, "--html", "."], "'.' cannot be written"),
        ([MODEL, IMAGES, "--set", "STEPS"], "--set is a name and a value"),
        ([MODEL, IMAGES, "--set", "CLASSES=[cat"], "--set is a name and a value"),
        ([MODEL, IMAGES, "--set", "STPES=3"], "YourCNN.ipynb has no parameter STPES: choose from"),
    ],
)
def test_wrong_arguments_get_a_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith(sentence) and err.count("\n") == 1 and not out
    assert not list(tmp_path.iterdir())


def test_a_missing_package_gets_a_sentence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "papermill", None)  # as if it were not installed
    assert run(MODEL, IMAGES, "--set", "STEPS=3") == 2
    expected = "This needs papermill as well: pip install 'debugcnn[notebooks]'.\n"
    assert capsys.readouterr().err == expected


@pytest.mark.notebook
def test_the_whole_command(tmp_path):
    page = tmp_path / "page.html"
    command = [sys.executable, "-m", "debugcnn", "inspect", MODEL, IMAGES, "--html", page]
    command += ["--set", "STEPS=2", "--set", "LAYERS=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"Report: {page}\n")
    html = page.read_text()
    assert "0 to 1: found by trial" in html and html.count('src="data:image/') > 8
