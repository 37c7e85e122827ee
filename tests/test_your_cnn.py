"""YourCNN.ipynb on nets of several kinds, what it computes itself, and the example net."""

import cv2
import keras
import nbformat
import numpy as np
import papermill
import pytest
from keras import layers
from nbconvert import HTMLExporter
from scipy.stats import spearmanr
from test_notebooks import ROOT, code, make_photos, run, text_of

import debugcnn.quiet
from examples import shapes
from debugcnn.views import notebook as helpers

SMALL = {"STEPS": 2, "LAYERS": 2, "FILTERS": 3, "EXPLAINED": 2}


def nested(classes, activation):
    backbone = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(64, 64, 3), alpha=0.35
    )
    return keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            keras.layers.Rescaling(1 / 127.5, -1),
            backbone,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes, activation=activation),
        ]
    )


def build(shape, *inside):
    return keras.Sequential([keras.Input(shape), *inside])


def grey():
    return build(
        (28, 28, 1),
        layers.Conv2D(4, 3, activation="relu", name="conv"),
        layers.Flatten(),
        layers.Dense(10),
    )


def wide():
    """Says class 1 of reddish photos and class 0 of bluish ones; two of its filters never fire."""
    net = build(
        (48, 96, 3),
        layers.Conv2D(4, 3, padding="same", activation="relu", name="conv"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid", name="answer"),
    )
    kernel, bias = (np.zeros(w.shape) for w in net.get_layer("conv").get_weights())
    kernel[1, 1, 0, 0] = kernel[1, 1, 2, 1] = 1  # how red, how blue
    net.get_layer("conv").set_weights([kernel, bias])
    net.get_layer("answer").set_weights([np.array([[9.0], [-9], [0], [0]]), np.zeros(1)])
    return net


def labels_without_maps():
    return build((16, 16, 3), layers.Flatten(), layers.Dense(5, activation="sigmoid"))


def inspect(net, photos, tmp_path, **parameters):
    net.save(tmp_path / "my.keras")
    given = dict(MODEL=str(tmp_path / "my.keras"), PHOTOS=str(photos), **SMALL, **parameters)
    notebook = run("YourCNN.ipynb", tmp_path / "out", **given)
    tables = [
        output.data["text/markdown"]
        for cell in code(notebook)
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    ]
    assert "Error" not in text_of(notebook)
    return notebook, text_of(notebook), "\n".join(tables)


def pictures(notebook):
    kinds = [o.data for cell in code(notebook) for o in cell.outputs if "data" in o]
    return sum("image/png" in kind or "image/jpeg" in kind for kind in kinds)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    make_photos(folder, 3, np.random.default_rng(0))
    return folder


def test_logits_and_grey_photos_without_labels(photos, tmp_path):
    notebook, text, tables = inspect(grey(), photos / "cats", tmp_path)
    assert "28 x 28 pixels (height x width), channels: 1" in tables
    assert "one of 10 classes; the net returns logits; softmax applied here" in tables
    assert "The accuracy: left out. The photos have no labels." in text
    assert "| photos | 3 from" in tables
    assert pictures(notebook) >= 4


def test_a_folder_for_each_class(photos, tmp_path):
    notebook, text, tables = inspect(wide(), photos, tmp_path)
    assert "It is assumed that the folders in alphabetical order are the classes" in text
    assert "| right | 6 of 6 | 100.0%, interval 61.0% to 100.0% |" in tables
    assert "one of 2 classes, by a single number; the net ends in the sigmoid itself" in tables
    assert "The surest mistakes: left out. There is none: all 6 photos are right." in text
    assert "| `conv` | 2 of 4 | 0 |" in tables
    assert "(taken)" in tables
    assert "The diagnosis: left out. Too few labelled photos (3, 3 by class)" in text
    assert "`conv`: a unit responds to" in tables and "silent: 2 of 4 filters" in tables


def test_names_of_classes_and_a_nested_model(photos, tmp_path):
    notebook, text, tables = inspect(nested(2, "softmax"), photos, tmp_path, CLASSES=["dog", "cat"])
    assert "Each folder has the name of one of CLASSES" in text
    assert "0 to 255: the net changes the scale of pixels itself" in tables
    assert "| trivial answer right | 3 of 6 | 50.0% |" in tables
    assert "<details>" in tables
    assert not [o for cell in code(notebook) for o in cell.outputs if o.get("name") == "stderr"]


def test_what_does_not_work_is_told_and_the_rest_goes_on(photos, tmp_path):
    notebook, text, tables = inspect(labels_without_maps(), photos, tmp_path)
    assert "5 classes, each yes or no by itself" in tables
    assert "they lie in 2 folders, and the net has 5 classes" in text
    for what in ("activations", "patterns", "facts about the layers"):
        assert f"The {what}: left out. Model" in text
    assert "Grad-CAM: left out. No layer of model" in text
    assert "The occlusion took" in text
    assert "| saturated answers |" in tables
    assert pictures(notebook) == 3  # the layers, the answers, the occlusion


def test_the_diagnosis(tmp_path):
    make_photos(tmp_path / "photos", 12, np.random.default_rng(0))
    net = wide()
    net.get_layer("answer").set_weights([np.array([[-9.0], [9], [0], [0]]), np.zeros(1)])
    _, _, tables = inspect(net, tmp_path / "photos", tmp_path, VALUE_RANGE=[0, 255])
    assert "| fault | `channel_order` | With red and blue exchanged, 100.0% are right" in tables
    assert "Of 24 photos, fine: " in tables and "`untrained_layer`" in tables


def test_a_wrong_path_stops_with_one_sentence(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError) as error:
        run("YourCNN.ipynb", tmp_path, MODEL="none.keras")
    last = str(error.value).strip().splitlines()[-1]
    assert last.endswith("There is no model file 'none.keras': give the path of a .keras file.")


def test_section(capsys):
    with helpers.section("One"):
        raise ValueError("No map.\nMore.")
    with helpers.section("Two"):
        raise KeyError("x")
    with helpers.section("Three"):
        print("fine")
    assert capsys.readouterr().out == "One: left out. No map.\nTwo: left out. KeyError: 'x'\nfine\n"


def test_spread():
    assert helpers.spread("abcdefg", 3) == ["a", "d", "g"]
    assert helpers.spread("ab", 6) == ["a", "b"]


def test_the_interval_against_published_values():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    known = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611)}
    for (right, count), interval in known.items():
        assert debugcnn.wilson_interval(right, count) == pytest.approx(interval, abs=1e-4)


def test_rank_correlation():
    maps = np.random.default_rng(0).integers(0, 9, (4, 5, 7))
    others = np.random.default_rng(1).normal(size=(4, 5, 7)) + maps
    found = debugcnn.rank_correlation(maps, others)
    expected = [spearmanr(m.ravel(), o.ravel()).statistic for m, o in zip(maps, others)]
    np.testing.assert_allclose(found, expected)
    assert np.ptp(found) > 0.01
    same = debugcnn.rank_correlation(maps, np.exp(maps)), debugcnn.rank_correlation(maps, -maps)
    np.testing.assert_allclose(same, [[1] * 4, [-1] * 4])
    assert np.isnan(debugcnn.rank_correlation(maps, np.ones((4, 5, 7)))).all()


@pytest.mark.parametrize(
    ("folders", "names", "classes", "found"),
    [
        (["a", "b"], [], 2, [0, 1]),
        (["cats", "Dogs"], ["dog", "cat"], 2, [1, 0]),
        (["cat"], ["dog", "cat", "owl"], 3, [1]),
        (["x", "y"], ["dog", "cat"], 2, [0, 1]),
    ],
)
def test_classes_of_folders(folders, names, classes, found):
    assert debugcnn.class_numbers(folders, names, classes)[0].tolist() == found


@pytest.mark.parametrize(
    ("folders", "names", "sentence"),
    [(["a", "b", "c"], [], "in 3 folders"), (["cat", "owl"], ["cat", "dog"], "does not name owl")],
)
def test_folders_that_are_no_labels(folders, names, sentence):
    with pytest.raises(ValueError, match=sentence):
        debugcnn.class_numbers(folders, names, 2)


def test_confusion_and_folders_in_another_order():
    counts = debugcnn.confusion_matrix([0, 0, 0, 1, 1, 2], [1, 1, 0, 2, 2, 0], 3)
    assert counts.tolist() == [[1, 2, 0], [0, 0, 2], [1, 0, 0]]
    assert np.trace(counts) == 1 and debugcnn.best_pairing(counts) == 5
    assert debugcnn.best_pairing([[5, 4], [4, 0]]) == 8


def test_in_colour():
    photos = np.arange(16.0).reshape(1, 2, 2, 4)
    assert np.array_equal(debugcnn.to_rgb(photos), photos[..., :3])
    assert debugcnn.to_rgb(photos[..., :1]).shape == (1, 2, 2, 3)
    assert debugcnn.to_rgb(np.full((1, 2, 2, 3), np.nan)).max() == 127.5


def test_ends_and_channels_that_never_change():
    net = build(
        (8, 8, 3),
        layers.Conv2D(4, 3, name="first"),
        layers.BatchNormalization(),
        layers.ReLU(name="relu"),
        layers.Conv2D(2, 3, activation="relu", name="second"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
    )
    kernel, bias = net.get_layer("second").get_weights()
    kernel[..., 0], kernel[..., 1], bias[:] = 0.1, 0, [1, -1]  # one that changes, one that cannot
    net.get_layer("second").set_weights([kernel, bias])
    assert debugcnn.convolution_ends(net) == ["relu", "second"]
    images = np.random.default_rng(0).uniform(0, 1, (6, 8, 8, 3)).astype(np.float32)
    counted = debugcnn.constant_channels(net, np.tile(images, (7, 1, 1, 1)))
    assert set(counted) == {"relu", "second"} and counted["second"] == (1, 2, 0)
    assert debugcnn.constant_channels(net, images[:1])["second"] == counted["second"]
    kernel[..., 0], bias[:] = 0, [np.inf, -1]
    net.get_layer("second").set_weights([kernel, bias])
    assert debugcnn.constant_channels(net, images)["second"] == (2, 2, 6 * 4 * 4)


@pytest.mark.parametrize("count", [1, 30])
def test_the_drawing_of_few_and_of_many_layers(count):
    net = build((8, 8, 3), *(layers.Conv2D(4, 3, padding="same") for _ in range(count)))
    figure = debugcnn.layers_figure(debugcnn.layer_table(net))
    up, down = figure.axes
    assert len(up.patches) == len(down.patches) == count
    words = [text.get_text() for text in [*up.texts, *down.texts]]
    assert words.count("8 x 8") == 1 and words.count("4") == 1
    debugcnn.views.figures.plt.close(figure)


def test_the_page_has_alternative_texts_and_fetches_nothing():
    exporter = HTMLExporter(template_file=str(ROOT / "examples" / "page.html.j2"))
    page, _ = exporter.from_filename(ROOT / "YourCNN.ipynb")
    notebook = nbformat.read(ROOT / "YourCNN.ipynb", as_version=4)
    assert page.count("<img") == pictures(notebook) == page.count('src="data:image/')
    assert "Bars for the layers of shapes.keras" in page
    assert 'src="http' not in page and "import(" not in page


def test_shapes_are_drawn_alike_each_time():
    first, labels = shapes.draw_many(8, np.random.default_rng([0, 1]))
    again, _ = shapes.draw_many(8, np.random.default_rng([0, 1]))
    assert first.shape == (8, shapes.HEIGHT, shapes.WIDTH, 3)
    assert labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    np.testing.assert_array_equal(first, again)
    file = ROOT / "examples" / "shapes" / "circle" / "circle-01.png"
    assert np.abs(cv2.imread(str(file))[..., ::-1].astype(int) - first[0]).max() <= 2


def test_the_example_net_takes_0_to_1_and_is_mostly_right():
    net = debugcnn.load_model(ROOT / "examples" / "shapes.keras")
    assert not [layer for layer in net.layers if isinstance(layer, layers.Rescaling)]
    assert net.count_params() <= 60_000
    assert (ROOT / "examples" / "shapes.keras").stat().st_size < 500_000
    right = []
    for label, name in enumerate(shapes.CLASSES):
        folder = ROOT / "examples" / "shapes" / name
        photos, files = debugcnn.load_images(folder, (shapes.HEIGHT, shapes.WIDTH))
        assert len(files) == shapes.KEPT
        right += list(debugcnn.probabilities(net, photos / 255).argmax(1) == label)
    assert 0.85 < np.mean(right) < 1
