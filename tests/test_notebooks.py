"""The committed notebooks are one clean run, and the same cells run on small made-up data."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache

import cv2
import keras
import nbformat
import numpy as np
import papermill
import pytest
from conftest import ROOT
from nbconvert import HTMLExporter
from notebook_runs import code, figures, markdown, outputs, printed, run, write_images

import debugcnn
from debugcnn import separator, training
from debugcnn.diagnosis import catalogue
from injected_faults import blind, results, tables
from tools.publish import digest

NOTEBOOKS = (
    *("CatsVsDogs.ipynb", "VisualizingCNN.ipynb", "YourCNN.ipynb", "DebuggingCNN.ipynb"),
    "CheckingHeatmaps.ipynb",
)
FIGURES = ROOT / "images" / "figures"
OTHER_FIGURES = {FIGURES / "patterns.jpg"}  # drawn by tools/patterns.py
TEMPLATE = ROOT / "debugcnn" / "templates" / "alt.html.j2"
SMALL = {
    "STAGES": [[32, 2, 0.5], [40, 1, 1.0]],
    "ROUNDS": [[2, 4e-3], [1, 1e-3]],
    "CURE_STAGES": [[40, 1, 1.0]],
    "BATCH": 8,
    "PRECISION": "float32",
    "EVERY": 1,
    "SAMPLE": 40,
}


# ------------------------------------------------------------------------- as they are committed


@cache
def read(name):
    return nbformat.read(ROOT / name, as_version=4)


@pytest.fixture(params=NOTEBOOKS)
def committed(request):
    return read(request.param)


def test_the_committed_cells_were_run_once_from_the_top(committed):
    counts = [cell.execution_count for cell in code(committed)]
    assert counts == list(range(1, len(counts) + 1))
    assert committed.metadata["executed_cells"] == digest(committed), "run `make publish`"


def test_the_outputs_are_clean(committed):
    for output in outputs(committed):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        assert not any("widget" in kind for kind in output.get("data", {}))
    assert not re.search(r"/(home|root|tmp|work|Users)/", nbformat.writes(committed))


def test_github_can_show_it(committed):
    assert len(nbformat.writes(committed)) < 1_200_000


def test_every_figure_has_an_alternative_text(committed):
    shown = figures(committed)
    assert len(shown) > 5
    assert min(len(output.metadata.get(kind, {}).get("alt", "")) for kind, output in shown) > 20


def test_the_page_shows_every_alternative_text(committed):
    exporter = HTMLExporter(template_file=str(TEMPLATE), exclude_input=True, exclude_markdown=True)
    page, _ = exporter.from_notebook_node(committed)
    images = re.findall(r"<img [^>]{1,200}", re.sub(r"base64,[^\"]*", "", page))
    assert len(images) == len(figures(committed))
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)


def test_cells_are_short_and_explained(committed):
    assert max(len(cell.source.splitlines()) for cell in code(committed)) <= 26
    assert sum(cell.cell_type == "markdown" for cell in committed.cells) >= len(code(committed)) / 3
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in committed.cells) == 1


@pytest.mark.parametrize(
    "figure", sorted(set(FIGURES.glob("*.jpg")) - OTHER_FIGURES), ids=lambda path: path.stem
)
def test_a_figure_of_the_readme_is_the_notebooks(figure):
    shown = [pair for name in NOTEBOOKS for pair in figures(read(name))]
    jpegs = {output.data[kind] for kind, output in shown if kind == "image/jpeg"}
    assert figure.read_bytes() in map(base64.b64decode, jpegs)


def test_the_debugging_notebook_shows_the_counts_and_the_causes():
    sentence, cases, causes = markdown(read("DebuggingCNN.ipynb"))
    assert sentence == tables.sentence(results.read())
    assert cases == blind.table(blind.read())
    assert f"knows {len(catalogue.causes_in_order())} causes" in causes
    assert causes.endswith(catalogue.causes_table())


# ------------------------------------------------------------------------------ CatsVsDogs.ipynb


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for seed, (split, count) in enumerate((("train", 120), ("validation", 16), ("test", 16))):
        write_images(folder / split, count, seed)
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The folder of the trained models, and the notebook that trained them."""
    models = tmp_path_factory.mktemp("models")
    parameters = SMALL | {"DATA": str(data), "MODELS": str(models)}
    return models, run("CatsVsDogs.ipynb", models / "run", **parameters)


@pytest.mark.notebook
def test_training_learns_and_keeps_what_it_measured(trained):
    models, notebook = trained
    metrics = json.loads((models / "metrics.json").read_text())
    assert metrics["counts"]["train"] == {"cats": 120, "dogs": 120}
    assert [line["epoch"] for line in metrics["history"]] == [1, 2, 3, 4]
    assert [line["side"] for line in metrics["history"]][:3] == [32, 32, 40]
    assert metrics["history"][2]["accuracy"] > 0.9
    assert metrics["hardware"] == [training.hardware()]
    assert metrics["test_photos"] == 32
    low, high = metrics["test_interval"]
    assert low <= metrics["test_accuracy"] <= high
    assert f"Test accuracy {metrics['test_accuracy']:.2%}" in printed(notebook)
    model = keras.models.load_model(models / "cats_vs_dogs.keras")
    assert model.input_shape == (None, metrics["image_size"], metrics["image_size"], 3)
    assert model.dtype_policy.name == "float32"
    upright = metrics["upright"]
    assert upright["epochs"] == 3
    assert upright["seconds"] <= metrics["seconds"]
    assert list(upright["validation_changed"]) == list(metrics["validation_changed"])
    before = keras.models.load_model(models / "upright.keras")
    assert before.input_shape == (None, upright["image_size"], upright["image_size"], 3)
    weights = zip(before.get_weights()[:-2], model.get_weights()[:-2])
    assert any(np.abs(first - second).max() > 1e-6 for first, second in weights)


@pytest.mark.notebook
@pytest.mark.parametrize("name", ["upright", "cats_vs_dogs"])
def test_what_is_stored_of_the_filters_is_true(trained, data, name):
    """Computed again: the stored responses come from training images that the seed drew."""
    models, _ = trained
    model = keras.models.load_model(models / f"{name}.keras")
    stored = np.load(models / f"{name}_filters.npz")
    assert stored["digest"] == debugcnn.model_digest(model)
    rows = keras.utils.image_dataset_from_directory(
        data / "train",
        image_size=model.input_shape[1:3],
        interpolation="area",
        verbose=False,
    )
    images = np.rint(np.concatenate([batch for batch, _ in rows]))
    for layer in ("conv1", "conv6", "conv10"):
        highest = debugcnn.responses(model, images, layer).max(axis=0)
        assert (stored[f"{layer}/highest"] <= highest + 1e-3).all()
        assert (stored[f"{layer}/often"] <= stored[f"{layer}/highest"] + 1e-6).all()
        assert ((stored[f"{layer}/fires"] > 0) == (stored[f"{layer}/highest"] > 0)).all()
    rows = sum(len(stored[key]) for key in stored if "shown" in key)
    assert cv2.imread(str(models / f"{name}_patches.jpg")).shape == (48 * rows, 432, 3)


@pytest.mark.notebook
def test_a_finished_training_is_not_repeated(trained, data, tmp_path):
    models, first = trained
    history = (models / "training" / "history.json").read_bytes()
    second = run("CatsVsDogs.ipynb", tmp_path, DATA=str(data), MODELS=str(models), **SMALL)
    assert (models / "training" / "history.json").read_bytes() == history
    epochs = [
        re.findall(r"^epoch.*$", printed(notebook), re.MULTILINE) for notebook in (first, second)
    ]
    assert epochs[0] == epochs[1]
    assert len(epochs[0]) == 4  # with the one of the fix


@pytest.mark.notebook
def test_another_training_in_the_same_place_is_refused(trained, data, tmp_path):
    other = SMALL | {"WARMUP": 0.2}
    with pytest.raises(papermill.PapermillExecutionError, match="other images or parameters"):
        run("CatsVsDogs.ipynb", tmp_path, DATA=str(data), MODELS=str(trained[0]), **other)


@pytest.mark.notebook
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that kills a process group")
def test_a_killed_training_goes_on_at_the_last_epoch(data, tmp_path):
    parameters = SMALL | {
        "DATA": str(data),
        "MODELS": str(tmp_path),
        "STAGES": [[32, 20, 1.0]],
        "ROUNDS": [[20, 4e-3]],
    }
    (tmp_path / "parameters.json").write_text(json.dumps(parameters))  # YAML can read it
    command = [sys.executable, "-m", "papermill", "CatsVsDogs.ipynb", tmp_path / "killed.ipynb"]
    killed = subprocess.Popen(
        [*command, "-f", str(tmp_path / "parameters.json")],
        cwd=ROOT,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    while killed.poll() is None and not any((tmp_path / "training").glob("ckpt-*.index")):
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = json.loads((tmp_path / "training" / "history.json").read_text())
    run("CatsVsDogs.ipynb", tmp_path / "again", **parameters)
    after = json.loads((tmp_path / "training" / "history.json").read_text())
    assert 1 <= len(before) < 20
    assert after[: len(before) - 1] == before[: len(before) - 1]
    assert [line["epoch"] for line in after] == [*range(1, 21)]


@pytest.mark.notebook
def test_training_on_two_devices(data, tmp_path):
    notebook = nbformat.read(ROOT / "CatsVsDogs.ipynb", as_version=4)
    two = (
        "import tensorflow as tf\n"
        "processor = tf.config.list_physical_devices('CPU')[0]\n"
        "two = [tf.config.LogicalDeviceConfiguration()] * 2\n"
        "tf.config.set_logical_device_configuration(processor, two)"
    )
    notebook.cells.insert(0, nbformat.v4.new_code_cell(two))
    nbformat.write(notebook, tmp_path / "two.ipynb")
    # Each device normalises its half of the batch, 4 images, which takes longer to learn.
    parameters = SMALL | {"STAGES": [[32, 5, 0.5], [40, 2, 1.0]], "ROUNDS": [[5, 4e-3], [2, 1e-3]]}
    parameters |= {"DATA": str(data), "MODELS": str(tmp_path), "DEVICES": ["CPU:0", "CPU:1"]}
    done = papermill.execute_notebook(
        tmp_path / "two.ipynb", None, parameters, cwd=ROOT, progress_bar=False
    )
    assert "Training on CPU:0, CPU:1" in printed(done)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["history"][6]["accuracy"] > 0.9


# -------------------------------------------------------------------------- VisualizingCNN.ipynb


@pytest.mark.notebook
@pytest.mark.parametrize("name", ["upright", "cats_vs_dogs"])
def test_the_views_of_the_trained_model(trained, tmp_path, name):
    files = {"MODEL": f"{name}.keras", "CURED": "cats_vs_dogs.keras"}
    parameters = {key: str(trained[0] / file) for key, file in files.items()}
    notebook = run("VisualizingCNN.ipynb", tmp_path, STEPS=2, **parameters)
    assert "filters never fire on 40 training photos" in printed(notebook)
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]


@pytest.mark.notebook
def test_the_views_name_the_notebook_for_other_models(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    model.save(tmp_path / "other.keras")
    with pytest.raises(papermill.PapermillExecutionError, match="open YourCNN.ipynb for your own"):
        run("VisualizingCNN.ipynb", tmp_path / "out", MODEL=str(tmp_path / "other.keras"))


@pytest.mark.notebook
def test_what_is_stored_of_another_model_is_not_shown(trained, tmp_path):
    for name in ("cats_vs_dogs_filters.npz", "cats_vs_dogs_patches.jpg", "metrics.json"):
        shutil.copy(ROOT / "models" / name, tmp_path)
    shutil.copy(trained[0] / "cats_vs_dogs.keras", tmp_path)
    with pytest.raises(papermill.PapermillExecutionError, match="is missing or of another net"):
        run("VisualizingCNN.ipynb", tmp_path, MODEL=str(tmp_path / "cats_vs_dogs.keras"), STEPS=1)


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"MODEL": "none.keras"}, "There is no model file 'none.keras'"),
        ({"PHOTOS": "none"}, "There is no image or folder 'none'"),
    ],
)
def test_wrong_input_gets_a_sentence(parameters, sentence, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run("VisualizingCNN.ipynb", tmp_path, **parameters)
    assert error.value.ename == "ValueError"
    assert sentence in error.value.evalue


# ---------------------------------------------------- DebuggingCNN.ipynb, CheckingHeatmaps.ipynb


@pytest.mark.notebook
def test_the_debugging_notebook_runs_on_real_photos(real_archive, tmp_path):
    folder = tmp_path / "data"
    separator.main([str(real_archive), "--output", str(folder)])
    notebook = run("DebuggingCNN.ipynb", tmp_path / "out", DATA=str(folder), ALL=250)
    assert "All cells took" in printed(notebook)


@pytest.mark.notebook
def test_the_notebook_on_heatmaps_runs_on_another_model(tmp_path):
    (tmp_path / "images").mkdir()
    for file in sorted((ROOT / "examples" / "shapes").glob("*/*.png"))[::12]:
        shutil.copy(file, tmp_path / "images")
    parameters = {
        "MODEL": str(ROOT / "examples" / "shapes.keras"),
        "PHOTOS": str(tmp_path / "images"),
        "MASKS": "",
        "VALUE_RANGE": [0, 1],
    }
    notebook = run("CheckingHeatmaps.ipynb", tmp_path, **parameters)
    assert len(figures(notebook)) == 13
    for name in debugcnn.HEATMAP_METHODS:
        assert name in printed(notebook)
    sums = re.findall(
        r"all pixels together ([+-][\d.]+), the logit gained ([+-][\d.]+)", printed(notebook)
    )
    assert len(sums) == 4
    for together, gain in sums:
        assert float(together) == pytest.approx(float(gain), abs=0.1 + 0.1 * abs(float(gain)))
