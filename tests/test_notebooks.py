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
from pathlib import Path

import cv2
import keras
import nbformat
import numpy as np
import papermill
import pytest
from nbconvert import HTMLExporter
from PIL import Image, ImageSequence
from publish import digest

from debugcnn import heatmap_comparison
import diagnose
from debugcnn import training
import debugcnn.quiet
from injected_faults import blind, tables

ROOT = Path(__file__).parents[1]
NOTEBOOKS = [
    *("CatsVsDogs.ipynb", "VisualizingCNN.ipynb", "YourCNN.ipynb", "DebuggingCNN.ipynb"),
    "CheckingHeatmaps.ipynb",
]
PATTERNS = ROOT / "images" / "figures" / "patterns.jpg"  # drawn by examples/patterns.py
SMALL = {
    "STAGES": [[32, 2, 0.5], [40, 1, 1.0]],
    "ROUNDS": [[2, 4e-3], [1, 1e-3]],
    "CURE_STAGES": [[40, 1, 1.0]],
    "BATCH": 8,
    "PRECISION": "float32",
    "EVERY": 1,
    "SAMPLE": 40,
}


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(notebook):
    """What the cells printed."""
    streams = [o for cell in code(notebook) for o in cell.outputs if o.output_type == "stream"]
    return "".join(stream.text for stream in streams)


@pytest.fixture(params=NOTEBOOKS)
def committed(request):
    return nbformat.read(ROOT / request.param, as_version=4)


def test_the_committed_cells_were_run_once_from_the_top(committed):
    assert [cell.execution_count for cell in code(committed)] == [
        *range(1, len(code(committed)) + 1)
    ]
    assert committed.metadata["executed_cells"] == digest(committed), "run `make publish`"


def test_the_outputs_are_clean(committed):
    for cell in code(committed):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            assert not any("widget" in kind for kind in output.get("data", {}))
    assert not re.search(r"/(home|root|tmp|work|Users)/", nbformat.writes(committed))


def test_github_can_show_it(committed):
    assert len(nbformat.writes(committed)) < 1_200_000


def test_every_figure_has_an_alternative_text(committed):
    pictures = [
        (kind, output.metadata.get(kind, {}).get("alt", ""))
        for cell in code(committed)
        for output in cell.outputs
        for kind in output.get("data", {})
        if kind.startswith("image/")
    ]
    assert len(pictures) > 5
    assert min(len(text) for _, text in pictures) > 20


def test_the_page_shows_every_alternative_text(committed):
    exporter = HTMLExporter(template_file=str(ROOT / "examples" / "alt.html.j2"))
    page, _ = exporter.from_notebook_node(committed)
    pictures = re.findall(r"<img [^>]{1,200}", re.sub(r"base64,[^\"]*", "", page))
    assert len(pictures) > 5
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)


def test_cells_are_short_and_explained(committed):
    assert max(len(cell.source.splitlines()) for cell in code(committed)) <= 26
    assert sum(cell.cell_type == "markdown" for cell in committed.cells) >= len(code(committed)) / 3
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in committed.cells) == 1


@pytest.mark.parametrize(
    "figure",
    sorted(set((ROOT / "images" / "figures").glob("*.jpg")) - {PATTERNS}),
    ids=lambda p: p.stem,
)
def test_a_figure_of_the_readme_is_the_notebooks(figure):
    pictures = [
        base64.b64decode(output.data["image/jpeg"])
        for name in NOTEBOOKS
        for cell in code(nbformat.read(ROOT / name, as_version=4))
        for output in cell.outputs
        if "image/jpeg" in output.get("data", {})
    ]
    assert figure.read_bytes() in pictures


def make_photos(folder, count, generator):
    """Cats are bluish noise, dogs reddish: easy to learn."""
    for label, channel in (("cats", 0), ("dogs", 2)):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            photo = generator.integers(0, 90, (60, 80, 3))
            photo[..., channel] += 120
            cv2.imwrite(str(folder / label / f"{i}.jpg"), photo.astype(np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for split, count in (("train", 120), ("validation", 16), ("test", 16)):
        make_photos(folder / split, count, generator)
    return folder


def run(name, out, **parameters):
    """The executed notebook, from the project's folder."""
    out.mkdir(exist_ok=True)
    papermill.execute_notebook(
        ROOT / name, out / name, parameters=parameters, cwd=ROOT, progress_bar=False
    )
    return nbformat.read(out / name, as_version=4)


def trained_photos(models, side):
    """The training photos of the fixture `trained`, (n, side, side, 3)."""
    rows = keras.utils.image_dataset_from_directory(
        Path(json.loads((models / "data.json").read_text()), "train"),
        image_size=(side, side),
        interpolation="area",
        verbose=False,
    )
    return np.rint(np.concatenate([photos for photos, _ in rows]))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    (models / "data.json").write_text(json.dumps(str(data)))
    notebook = run("CatsVsDogs.ipynb", models / "run", DATA=str(data), MODELS=str(models), **SMALL)
    return models, notebook


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
    model = keras.models.load_model(models / "cats_vs_dogs.keras")
    assert model.input_shape == (None, metrics["image_size"], metrics["image_size"], 3)
    assert model.dtype_policy.name == "float32"
    assert f"Test accuracy {metrics['test_accuracy']:.2%}" in text_of(notebook)
    upright = metrics["upright"]
    assert upright["epochs"] == 3
    assert upright["seconds"] <= metrics["seconds"]
    assert list(upright["validation_changed"]) == list(metrics["validation_changed"])
    before = keras.models.load_model(models / "upright.keras")
    assert before.input_shape == (None, upright["image_size"], upright["image_size"], 3)
    weights = zip(before.get_weights()[:-2], model.get_weights()[:-2])
    assert any(np.abs(one - other).max() > 1e-6 for one, other in weights)


@pytest.mark.parametrize("name", ["upright", "cats_vs_dogs"])
def test_what_is_stored_of_the_filters_is_true(trained, name):
    """Looked up afresh: responses and patches come from the photos that the seed draws."""
    models, _ = trained
    net = keras.models.load_model(models / f"{name}.keras")
    stored = np.load(models / f"{name}_filters.npz")
    assert stored["digest"] == debugcnn.model_digest(net)
    photos = trained_photos(models, net.input_shape[1])
    for layer in ("conv1", "conv6", "conv10"):
        found = debugcnn.responses(net, photos, layer)
        assert (stored[f"{layer}/highest"] <= found.max(axis=0) + 1e-3).all()
        assert (stored[f"{layer}/often"] <= stored[f"{layer}/highest"] + 1e-6).all()
        assert ((stored[f"{layer}/fires"] > 0) == (stored[f"{layer}/highest"] > 0)).all()
    sheet = cv2.imread(str(models / f"{name}_patches.jpg"))
    assert sheet.shape == (
        48 * sum(len(stored[name]) for name in stored if "shown" in name),
        432,
        3,
    )


def test_a_finished_training_is_not_repeated(trained, data, tmp_path):
    models, first = trained
    history = (models / "training" / "history.json").read_bytes()
    second = run("CatsVsDogs.ipynb", tmp_path, DATA=str(data), MODELS=str(models), **SMALL)
    assert (models / "training" / "history.json").read_bytes() == history
    lines = [
        re.findall(r"^epoch.*$", text_of(notebook), re.MULTILINE) for notebook in (first, second)
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 4  # with the one of the cure


def test_another_training_in_the_same_place_is_refused(trained, data, tmp_path):
    other = SMALL | {"WARMUP": 0.2}
    with pytest.raises(papermill.PapermillExecutionError, match="other photos or parameters"):
        run("CatsVsDogs.ipynb", tmp_path, DATA=str(data), MODELS=str(trained[0]), **other)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that kills a process group")
def test_a_killed_training_goes_on_at_the_last_epoch(data, tmp_path):
    parameters = SMALL | {
        "DATA": str(data),
        "MODELS": str(tmp_path),
        "STAGES": [[32, 20, 1.0]],
        "ROUNDS": [[20, 4e-3]],
    }
    (tmp_path / "parameters.json").write_text(json.dumps(parameters))  # YAML can read it
    command = [
        sys.executable,
        "-m",
        "papermill",
        "CatsVsDogs.ipynb",
        str(tmp_path / "killed.ipynb"),
    ]
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
    # Each device normalises its half of the batch, 4 photos, which takes longer to learn.
    parameters = SMALL | {"STAGES": [[32, 5, 0.5], [40, 2, 1.0]], "ROUNDS": [[5, 4e-3], [2, 1e-3]]}
    parameters |= {"DATA": str(data), "MODELS": str(tmp_path), "DEVICES": ["CPU:0", "CPU:1"]}
    papermill.execute_notebook(
        tmp_path / "two.ipynb", tmp_path / "out.ipynb", parameters, cwd=ROOT, progress_bar=False
    )
    assert "Training on CPU:0, CPU:1" in text_of(
        nbformat.read(tmp_path / "out.ipynb", as_version=4)
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["history"][6]["accuracy"] > 0.9


@pytest.mark.parametrize("name", ["upright", "cats_vs_dogs"])
def test_the_views_of_the_trained_model(trained, tmp_path, name):
    given = {"MODEL": str(trained[0] / f"{name}.keras"), "STEPS": 2}
    cured = str(trained[0] / "cats_vs_dogs.keras")
    notebook = run("VisualizingCNN.ipynb", tmp_path, CURED=cured, **given)
    assert "filters never fire on 40 training photos" in text_of(notebook)
    assert not [o for c in code(notebook) for o in c.outputs if o.get("name") == "stderr"]


def test_the_views_are_of_one_net_and_name_the_notebook_for_others(tmp_path):
    net = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    net.save(tmp_path / "other.keras")
    with pytest.raises(papermill.PapermillExecutionError, match="open YourCNN.ipynb for your own"):
        run("VisualizingCNN.ipynb", tmp_path / "out", MODEL=str(tmp_path / "other.keras"))


def test_what_is_stored_of_another_net_is_not_shown(trained, tmp_path):
    for name in ("cats_vs_dogs_filters.npz", "cats_vs_dogs_patches.jpg", "metrics.json"):
        shutil.copy(ROOT / "models" / name, tmp_path)
    shutil.copy(trained[0] / "cats_vs_dogs.keras", tmp_path)
    with pytest.raises(papermill.PapermillExecutionError, match="is missing or of another net"):
        run("VisualizingCNN.ipynb", tmp_path, MODEL=str(tmp_path / "cats_vs_dogs.keras"), STEPS=1)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"MODEL": "none.keras"}, "There is no model file 'none.keras'"),
        ({"MODEL": "README.md"}, "'README.md' cannot be loaded as a Keras model"),
        ({"PHOTOS": "none"}, "There is no photo or folder 'none'"),
        ({"PHOTOS": "README.md"}, "'README.md' cannot be read as a photo"),
    ],
)
def test_wrong_input_gets_a_sentence(parameters, sentence, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run("VisualizingCNN.ipynb", tmp_path, **parameters)
    assert error.value.ename == "ValueError"
    assert sentence in error.value.evalue


def test_a_model_without_convolutions_gets_a_sentence(tmp_path):
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(1)]
    keras.Sequential(layers).save(tmp_path / "dense.keras")
    with pytest.raises(papermill.PapermillExecutionError, match="has no convolution"):
        run("VisualizingCNN.ipynb", tmp_path / "out", MODEL=str(tmp_path / "dense.keras"))


def test_all_patterns_are_drawn_and_one_grows(tmp_path):
    layers = [
        keras.Input((32, 32, 3)),
        keras.layers.Conv2D(100, 3, name="first"),
        keras.layers.Conv2D(4, 3, name="second"),
    ]
    keras.Sequential(layers).save(tmp_path / "net.keras")
    command = [sys.executable, "examples/patterns.py", tmp_path / "net.keras", tmp_path / "out"]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    sheet = cv2.imread(str(tmp_path / "out" / "patterns.jpg"))
    # 100 filters fill four rows of 32, and 4 filters one; between the layers stand headings.
    assert sheet.shape == (2 * 18 + 4 * 66 - 2 + 64, 32 * 66 - 2, 3)
    assert sheet[-30, 300:].min() > 240 and sheet[-30, :200].std() > 5
    with Image.open(tmp_path / "out" / "ascent.gif") as film:
        frames = [np.asarray(film.convert("RGB"), float) for _ in ImageSequence.Iterator(film)]
    assert len(frames) > 5 and frames[0].std() < 12 < frames[-1].std()


# ----------------------------------------------------------------------------- DebuggingCNN.ipynb


def test_the_debugging_notebook_tells_what_was_counted():
    notebook = nbformat.read(ROOT / "DebuggingCNN.ipynb", as_version=4)
    results = json.loads((ROOT / "bugs" / "results.json").read_text())
    told = [
        output.data["text/markdown"]
        for cell in code(notebook)
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    ]
    cases = json.loads((ROOT / "bugs" / "blind.json").read_text())
    assert told == [tables.sentence(results), blind.table(cases), tables.peers_table(results)]
    readme = (ROOT / "README.md").read_text()
    assert tables.sentence(results) in readme and blind.sentence(cases) in readme
    table = next(c.source for c in notebook.cells if "| symptom |" in c.source)
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) > 12 and "\n".join(rows) in readme
    named = set(re.findall(r"`([a-z_]+)`", "\n".join(row.split("|")[2] for row in rows)))
    assert set(diagnose.CAUSES) - named == {"exploding"}
    assert f"knows {len(diagnose.CAUSES)} causes" in readme


def test_the_debugging_notebook_runs_on_real_photos(real_archive, tmp_path):
    data = tmp_path / "data"
    command = [sys.executable, ROOT / "data_separator.py", real_archive, "--output", data]
    subprocess.run(command, check=True, capture_output=True)
    notebook = run("DebuggingCNN.ipynb", tmp_path / "out", DATA=str(data), ALL=250)
    assert "All cells took" in text_of(notebook)


def test_the_notebook_on_heatmaps_runs_on_another_net(tmp_path):
    for i, file in enumerate(sorted((ROOT / "examples" / "shapes").glob("*/*.png"))[::12]):
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "photos" / f"{i}.png")
    parameters = {
        "MODEL": str(ROOT / "examples" / "shapes.keras"),
        "PHOTOS": str(tmp_path / "photos"),
        "MASKS": "",
        "VALUE_RANGE": [0, 1],
    }
    done = papermill.execute_notebook(
        ROOT / "CheckingHeatmaps.ipynb", tmp_path / "out.ipynb", parameters, cwd=ROOT
    )
    pictures = [
        o for c in code(done) for o in c.outputs if "image" in str(o.get("data", {}).keys())
    ]
    assert len(pictures) == 13
    for name in heatmap_comparison.METHODS:
        assert name in text_of(done)
    gained = re.findall(
        r"all pixels together ([+-][\d.]+), the logit gained ([+-][\d.]+)", text_of(done)
    )
    assert len(gained) == 4
    for together, gain in gained:
        assert float(together) == pytest.approx(float(gain), abs=0.1 + 0.1 * abs(float(gain)))
