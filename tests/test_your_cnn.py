"""YourCNN.ipynb on models of several kinds."""

import keras
import nbformat
import numpy as np
import papermill
import pytest
from conftest import ROOT
from keras import layers
from nbconvert import HTMLExporter
from notebook_runs import figures, markdown, outputs, printed, run, write_images

SMALL = {"STEPS": 2, "LAYERS": 2, "FILTERS": 3, "EXPLAINED": 2}


def nested(classes, activation):
    backbone = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(64, 64, 3), alpha=0.35
    )
    return build(
        (64, 64, 3),
        layers.Rescaling(1 / 127.5, -1),
        backbone,
        layers.GlobalAveragePooling2D(),
        layers.Dense(classes, activation=activation),
    )


def build(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


def grey():
    return build(
        (28, 28, 1),
        layers.Conv2D(4, 3, activation="relu", name="conv"),
        layers.Flatten(),
        layers.Dense(10),
    )


def wide(sign=1):
    """Predicts class 1 for reddish images and class 0 for bluish ones, or, with a sign of -1, the
    other way round. Two of its filters never respond.
    """
    model = build(
        (48, 96, 3),
        layers.Conv2D(4, 3, padding="same", activation="relu", name="conv"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid", name="answer"),
    )
    kernel, bias = (np.zeros(w.shape) for w in model.get_layer("conv").get_weights())
    kernel[1, 1, 0, 0] = kernel[1, 1, 2, 1] = 1  # how red, how blue
    model.get_layer("conv").set_weights([kernel, bias])
    weights = sign * np.array([[9.0], [-9], [0], [0]])
    model.get_layer("answer").set_weights([weights, np.zeros(1)])
    return model


def labels_without_maps():
    return build((16, 16, 3), layers.Flatten(), layers.Dense(5, activation="sigmoid"))


def views(model, images, tmp_path, **parameters):
    """The executed notebook, what it printed, and its tables."""
    model.save(tmp_path / "my.keras")
    paths = {"MODEL": str(tmp_path / "my.keras"), "PHOTOS": str(images)}
    notebook = run("YourCNN.ipynb", tmp_path / "out", **paths, **SMALL, **parameters)
    assert "Error" not in printed(notebook)
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    return notebook, printed(notebook), "\n".join(markdown(notebook))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 3)
    return folder


@pytest.mark.notebook
def test_logits_and_grey_images_without_labels(images, tmp_path):
    notebook, text, tables = views(grey(), images / "cats", tmp_path)
    assert "28 x 28 pixels (height x width), channels: 1" in tables
    assert "one of 10 classes; the net returns logits; softmax applied here" in tables
    assert "The accuracy: left out. The photos have no labels." in text
    assert "| photos | 3 from" in tables
    assert len(figures(notebook)) >= 4


@pytest.mark.notebook
def test_a_folder_for_each_class(images, tmp_path):
    _, text, tables = views(wide(), images, tmp_path)
    assert "It is assumed that the folders in alphabetical order are the classes" in text
    assert "| right | 6 of 6 | 100.0%, interval 61.0% to 100.0% |" in tables
    assert "one of 2 classes, by a single number; the net ends in the sigmoid itself" in tables
    assert "The surest mistakes: left out. There is none: all 6 photos are right." in text
    assert "| `conv` | 2 of 4 | 0 |" in tables
    assert "(taken)" in tables
    assert "The diagnosis: left out. Too few labelled images (3, 3 by class)" in text
    assert "`conv`: a unit responds to" in tables and "silent: 2 of 4 filters" in tables


@pytest.mark.notebook
def test_names_of_classes_and_a_nested_model(images, tmp_path):
    names = ["dog", "cat"]
    _, text, tables = views(nested(2, "softmax"), images, tmp_path, CLASSES=names)
    assert "Each folder has the name of one of CLASSES" in text
    assert "0 to 255: the net changes the scale of pixels itself" in tables
    assert "| trivial answer right | 3 of 6 | 50.0% |" in tables
    assert "<details>" in tables


@pytest.mark.notebook
def test_what_does_not_work_is_told_and_the_rest_goes_on(images, tmp_path):
    notebook, text, tables = views(labels_without_maps(), images, tmp_path)
    assert "5 classes, each yes or no by itself" in tables
    assert "they lie in 2 folders, and the model has 5 classes" in text
    for what in ("activations", "patterns"):
        assert f"The {what}: left out. Model" in text
    assert "Grad-CAM: left out. No layer of model" in text
    assert "The occlusion took" in text
    assert "| saturated answers |" in tables
    assert "0 of 5 channels never change" in text
    assert len(figures(notebook)) == 3  # the layers, the answers, the occlusion


@pytest.mark.notebook
def test_the_diagnosis(tmp_path):
    write_images(tmp_path / "images", 12)
    options = {"VALUE_RANGE": [0, 255]}
    _, _, tables = views(wide(sign=-1), tmp_path / "images", tmp_path, **options)
    assert "| fault | `channel_order` | " in tables
    assert "Of 24 photos, fine: " in tables and "`untrained_layer`" in tables


@pytest.mark.notebook
def test_a_wrong_path_stops_with_one_sentence(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run("YourCNN.ipynb", tmp_path, MODEL="none.keras")
    last = str(error.value).strip().splitlines()[-1]
    assert last.endswith("There is no model file 'none.keras': give the path of a .keras file.")


def test_the_page_has_alternative_texts_and_fetches_nothing():
    template = ROOT / "debugcnn" / "templates" / "page.html.j2"
    exporter = HTMLExporter(template_file=str(template), exclude_input=True)
    page, _ = exporter.from_filename(ROOT / "YourCNN.ipynb")
    notebook = nbformat.read(ROOT / "YourCNN.ipynb", as_version=4)
    assert page.count("<img") == len(figures(notebook)) == page.count('src="data:image/')
    assert "Bars for the layers of shapes.keras" in page
    assert 'src="http' not in page and "import(" not in page
