"""The comparison of heatmaps, on a model whose evidence is known, and its results for ours."""

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import keras
import numpy as np
import pytest
from keras import layers

import debugcnn
from debugcnn import HEATMAP_METHODS, TRIVIAL_HEATMAPS
from debugcnn.heatmap_comparison import images as compared_images, main, measurements
from debugcnn.heatmap_comparison.images import ComparedImages, load_compared_images
from debugcnn.heatmap_comparison.report import MINUS_BLOB, bootstrap, table
from debugcnn.views.methods import method

ROOT = Path(__file__).parents[1]
RESULTS = json.loads((ROOT / "models" / "heatmaps.json").read_text())
MARKS = json.loads((ROOT / "models" / "marks.json").read_text())
PAGE = ROOT / "docs" / "heatmaps.md"
HEIGHT, WIDTH = 24, 32
NEW = "brightness"


def corner_model():
    """Class 1 where the lower left corner, a quarter of each side, is bright."""
    inputs = keras.Input((HEIGHT, WIDTH, 3))
    maps = layers.Conv2D(2, 1, activation="relu", name="first")(inputs / 255)
    maps = layers.AveragePooling2D(2)(maps)
    maps = layers.Conv2D(2, 1, activation="relu", name="last")(maps)
    model = keras.Model(inputs, layers.Dense(1, "sigmoid", name="dense")(layers.Flatten()(maps)))
    for name in ("first", "last"):
        layer = model.get_layer(name)
        layer.set_weights([np.ones_like(layer.kernel) / layer.kernel.shape[2], np.zeros(2)])
    weights = np.zeros((HEIGHT // 2, WIDTH // 2, 2))
    weights[-HEIGHT // 8 :, : WIDTH // 8] = 1
    model.get_layer("dense").set_weights([weights.reshape(-1, 1), np.array([-weights.sum() * 0.5])])
    return model


def corner():
    inside = np.zeros((HEIGHT, WIDTH), np.uint8)
    inside[-HEIGHT // 4 :, : WIDTH // 4] = 255
    return inside


@contextlib.contextmanager
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compared_images, "CHUNK", 3)
        patch.setattr(measurements, "PAIRS", 2)
        yield


@contextlib.contextmanager
def a_new_method():
    @method(NEW, paper="a test", signed=False, scale=2.0)
    def brightness(
        model, images, target=None, *, layer=None, value_range=(0, 255), output=None, scale=1.0
    ):
        return scale * np.mean(images, -1, dtype="f4")

    try:
        yield
    finally:
        del HEATMAP_METHODS[NEW]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model's file, a folder of images, and one of masks."""
    folder = tmp_path_factory.mktemp("comparison")
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        for kind in ("images", "masks"):
            (folder / kind / name).mkdir(parents=True)
        for i in range(4):
            image = rng.integers(60, 120, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            image[corner() > 0] = 250 if name == "light" else 5
            cv2.imwrite(str(folder / "images" / name / f"{i}.png"), image)
            cv2.imwrite(str(folder / "masks" / name / f"{i}.png"), corner())
    corner_model().save(folder / "model.keras")
    return folder


def command(folder, *more, model="model.keras"):
    files = [str(folder / model), str(folder / "images")]
    return main([*files, "--work", str(folder / "work"), *more])


class Compared(NamedTuple):
    folder: Path
    results: dict
    printed: str


@pytest.fixture(scope="module")
def compared(folder):
    """The command, run once, with one more method than there are."""
    masks, file, printed = folder / "masks", folder / "results.json", io.StringIO()
    with small_chunks(), a_new_method(), contextlib.redirect_stdout(printed):
        assert command(folder, "--masks", str(masks), "--json", str(file)) == 0
    return Compared(folder, json.loads(file.read_text()), printed.getvalue())


@pytest.fixture(scope="module")
def model(folder):
    return debugcnn.load_model(folder / "model.keras")


@pytest.fixture
def case(model, folder, tmp_path):
    return load_compared_images(model, folder / "images", 4, (0, 255), work=tmp_path)


# ------------------------------------------------------------------------------------ the command


def test_known_evidence_is_found(compared):
    results = compared.results
    assert results["images"] == 8 and results["accuracy"] == 1
    scores = results["scores"]
    for name in ("HiResCAM, a layer earlier", "integrated gradients", "SmoothGrad"):
        assert scores[name]["share on the subject"]["mean"] > 0.9
        assert scores[name]["peak on the subject"]["mean"] == 1
        assert scores[name]["deletion to grey"]["images"] == 8
        assert scores[name]["deletion to grey"][MINUS_BLOB]["interval"][0] > 0
    assert scores["blob in the middle"]["peak on the subject"]["mean"] == 0
    assert scores["random"]["share on the subject"]["mean"] == pytest.approx(1 / 16, abs=0.02)
    assert all(of_name["insertion into blur"]["images"] == 8 for of_name in scores.values())
    assert results["layers"]["edges of the photo"]["first"]["mean"] == pytest.approx(1)
    assert results["layers"]["integrated gradients"]["dense"]["mean"] < 0.5


def test_a_method_that_is_registered_is_compared(compared):
    names = debugcnn.heatmap_names()
    names.insert(len(HEATMAP_METHODS), NEW)
    assert list(compared.results["scores"]) == names
    assert table(compared.results) in compared.printed
    assert compared.printed.count("\n| ") == 1 + len(names)
    assert f"\n{NEW}: a test\n" in compared.printed
    assert compared.results["cost"].keys() == HEATMAP_METHODS.keys() | {NEW}


def test_each_score_has_a_line_in_the_file(compared):
    lines = (compared.folder / "results.json").read_text().splitlines()
    names = compared.results["scores"]
    (scores,) = {len(of_name) for of_name in names.values()}
    assert sum('"minus the blob"' in line for line in lines) == scores * len(names)


def test_a_run_that_was_interrupted_resumes(compared, monkeypatch, tmp_path):
    def fails(model, images, target=None, **options):
        assert len(images) in (1, 4), "explained again"  # but tried, and timed
        return np.zeros(images.shape[:3], "f4")

    for name, registered in HEATMAP_METHODS.items():
        monkeypatch.setitem(HEATMAP_METHODS, name, replace(registered, function=fails))
    file, masks = tmp_path / "again.json", compared.folder / "masks"
    with small_chunks(), a_new_method():
        assert command(compared.folder, "--masks", str(masks), "--json", str(file)) == 0
    again = json.loads(file.read_text())
    for key in ("scores", "layers", "curves"):
        assert again[key] == compared.results[key]


def test_a_model_of_one_convolution_without_a_relu(folder, capsys, tmp_path):
    inner = [
        keras.Input((HEIGHT, WIDTH, 3)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, activation="tanh"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, "softmax"),
    ]
    keras.Sequential(inner).save(folder / "tanh.keras")
    file = tmp_path / "results.json"
    assert command(folder, "--images", "2", "--json", str(file), model="tanh.keras") == 0
    assert "guided backpropagation is left out. Model 'sequential" in capsys.readouterr().out
    results = json.loads(file.read_text())
    names = debugcnn.heatmap_names()
    assert list(results["scores"]) == [name for name in names if "uided" not in name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--masks", "."], "holds no mask"),
        (["--masks", "nowhere"], "no folder 'nowhere'"),
        (["--value-range", "1", "0"], "--value-range is"),
        (["--value-range", "tf"], "--value-range is"),
        (["--images", "0"], "--images is a number"),
        (["--json", "nowhere/results.json"], "cannot be written"),
        (["--classes", "dark", "bright"], "light"),
    ],
)
def test_wrong_input_gets_one_sentence(folder, capsys, change, words):
    assert command(folder, *change) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize("option", [["--help"], ["no.keras", "."]])
def test_arguments_are_checked_without_tensorflow(option):
    program = (
        "import sys\n"
        "from debugcnn.heatmap_comparison import main\n"
        "try:\n"
        "    status = main(sys.argv[1:])\n"
        "finally:\n"
        "    assert 'tensorflow' not in sys.modules\n"
        "sys.exit(status)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *option], capture_output=True, text=True, cwd=ROOT
    )
    if option == ["--help"]:
        assert run.returncode == 0 and "usage: debugcnn heatmaps" in run.stdout and not run.stderr
    else:
        assert run.returncode == 2 and run.stderr.startswith("There is no model file 'no.keras'")


# ------------------------------------------------------------------------------------- the images


def test_heatmaps_of_another_model_are_not_taken(model, folder, tmp_path):
    def work():
        return load_compared_images(model, folder / "images", 4, (0, 255), work=tmp_path).work

    before = work()
    bias = model.get_layer("dense").bias
    weights = bias.numpy()
    bias.assign(weights + 1)
    try:
        assert work() != before
    finally:
        bias.assign(weights)
    assert work() == before


def test_images_come_from_each_class_in_turn(case):
    assert [file.parent.name for file in case.files] == ["dark", "light"] * 4
    assert list(case.labels) == [0, 1] * 4 == list(case.target)


def test_classes_may_have_another_order_than_folders(model, folder, tmp_path):
    options = dict(work=tmp_path, class_names=["light", "dark"])
    case = load_compared_images(model, folder / "images", 4, (0, 255), **options)
    assert list(case.labels) == [1, 0] * 4
    assert measurements.side_by_side(case) is None  # the model predicts all of them wrongly


def test_only_images_with_a_mask_are_loaded(model, folder, tmp_path):
    masks = tmp_path / "masks"
    (masks / "light").mkdir(parents=True)
    cv2.imwrite(str(masks / "light" / "2.png"), corner())
    options = dict(work=tmp_path / "work", masks=masks)
    case = load_compared_images(model, folder / "images", None, (0, 255), **options)
    assert [file.parts[-2:] for file in case.files] == [("light", "2.png")]


# ------------------------------------------------------------------------------- the measurements


def test_an_image_of_two_halves_is_made_of_the_middles_of_two_images(case, monkeypatch):
    monkeypatch.setattr(measurements, "PAIRS", 2)
    pairs = measurements.side_by_side(case)
    assert pairs.images.shape == (2, HEIGHT, WIDTH, 3) and list(pairs.target) == [0, 1]
    middle = slice(WIDTH // 4, WIDTH // 4 + WIDTH // 2)
    left, right = slice(0, WIDTH // 2), slice(WIDTH // 2, None)
    np.testing.assert_array_equal(pairs.images[0][:, left], case.images[0][:, middle])
    np.testing.assert_array_equal(pairs.images[1][:, right], case.images[3][:, middle])
    for own_half, own, other in zip(pairs.own_half, (left, right), (right, left)):
        assert own_half[:, own].all() and not own_half[:, other].any()


def test_the_holes_of_another_image_are_those_of_another(case, monkeypatch):
    name = "HiResCAM, a layer earlier"
    alone = measurements.removal_logits(case, name, slice(0, 1))
    assert alone.shape == (1, 5, 2) and np.isnan(alone[0, 4]).all()
    assert np.isfinite(alone[:, :4]).all()
    noise = np.random.default_rng(0).random((3, HEIGHT, WIDTH))
    for stop, other in ((2, 1), (3, 1)):  # of two the other, of three the one before the last
        maps = np.arange(stop)[:, None, None] + noise[:stop]
        monkeypatch.setattr(ComparedImages, "heatmaps", lambda case, name, chunk, maps=maps: maps)
        curves = measurements.removal_logits(case, name, slice(0, stop))
        expected = debugcnn.deletion_curve(
            case.model, case.images[:1], maps[[other]], measurements.FRACTIONS, case.target[:1]
        )
        np.testing.assert_allclose(curves[0, 4], expected[0], rtol=1e-4)
        assert not np.allclose(curves[0, 4], curves[0, 0])


@pytest.mark.parametrize(("count", "orders"), [(4, 2), (149, 2), (150, 3), (800, 10)])
def test_each_order_of_the_layers_is_applied_to_other_images(case, monkeypatch, count, orders):
    case.images = case.images[np.arange(count) % 8] + np.arange(count)[:, None, None, None]
    case.target = np.arange(count)
    calls = []

    def cascade(model, explain, images, target, layers, seed):
        calls.append((seed, list(target), images))
        return {layer: np.array([0.1, 0.2, 0.3, 0.4]) + seed for layer in layers}

    monkeypatch.setattr(measurements, "cascading_randomization", cascade)
    agreement = measurements.randomization_agreement(case, ["Grad-CAM", "random"], print)
    assert [seed for seed, _, _ in calls] == list(range(orders))
    assert [target for _, target, _ in calls] == [[2 * i, 2 * i + 1] for i in range(orders)]
    assert all(np.array_equal(images, case.images[target]) for _, target, images in calls)
    assert list(agreement["random"]) == ["dense", "last", "first"]
    expected = np.array([0.3, 0.4]) + np.arange(orders)[:, None]
    np.testing.assert_allclose(agreement["random"]["last"], expected)


def test_all_heatmaps_are_randomized_at_once_as_each_would_be_alone(case):
    names = ["integrated gradients", "Grad-CAM x occlusion", "edges of the photo"]
    agreement = measurements.randomization_agreement(case, names, print)
    methods = HEATMAP_METHODS
    alone = {
        names[0]: methods[names[0]],
        names[1]: lambda *given: debugcnn.product(
            methods["Grad-CAM"](*given), methods["occlusion"](*given)
        ),
        names[2]: lambda model, images, target: debugcnn.edge_map(images),
    }
    for name, explain in alone.items():
        expected = debugcnn.cascading_randomization(
            case.model,
            explain,
            case.images[2:4],
            case.target[2:4],
            layers=["dense", "last", "first"],
            seed=1,
        )
        for layer, values in expected.items():
            np.testing.assert_allclose(agreement[name][layer][1], values, atol=1e-6)


# -------------------------------------------------------------------------------------- intervals


def test_the_bootstrap_is_near_the_closed_form():
    values = np.random.default_rng(1).normal(3, 2, 400)
    result = bootstrap([*values, np.nan])
    half = 1.96 * values.std(ddof=1) / 20
    assert result["images"] == 400 and result["mean"] == pytest.approx(values.mean(), abs=1e-4)
    expected = [values.mean() - half, values.mean() + half]
    np.testing.assert_allclose(result["interval"], expected, 0.02)
    assert bootstrap([np.nan])["mean"] is None


def test_the_bootstrap_draws_rows_that_belong_together():
    values = np.random.default_rng(1).normal(3, 2, 400)
    alone = bootstrap(values)
    thrice = bootstrap(np.repeat(values[:, None], 3, 1))
    assert thrice == alone | {"images": 1200}  # the interval is not narrower
    holes = np.stack([values, np.full(400, np.nan)], 1)
    assert bootstrap(holes) == alone


# ------------------------------------------------------------------------------- results for ours


def test_enough_images_were_measured():
    assert RESULTS["images"] >= 500 and list(RESULTS["scores"]) == debugcnn.heatmap_names()
    assert all(score["images"] >= 90 for score in RESULTS["scores"]["Grad-CAM"].values())
    assert set(TRIVIAL_HEATMAPS) < set(RESULTS["scores"])


def test_the_page_has_the_table():
    assert table(RESULTS) in PAGE.read_text()


def test_the_sentences_under_the_table_agree_with_the_results():
    text = " ".join(PAGE.read_text().split())
    tasks, unequal = MARKS["tasks"].values(), MARKS["unequal marks"]

    def on_the_marks(name):
        shares = [task["scores"][name]["share on the marks"]["mean"] for task in tasks]
        return f"{min(shares):.0%} to {max(shares):.0%}"

    exact, coarse = map(on_the_marks, ("integrated gradients from blur", "Grad-CAM"))
    assert (
        f"from a blurred photo have {exact} of their positive values on the marks, Grad-CAM "
        f"{coarse}." in text
    )
    both = min(task["scores"]["Grad-CAM"]["marks found"]["mean"] for task in tasks)
    assert f"Grad-CAM finds both on {both:.0%} of the photos" in text
    stronger, weaker = unequal["added logits"]
    names = "Grad-CAM", "occlusion", "Grad-CAM squared x occlusion"
    parts = [unequal["scores"][name]["part of the stronger"]["mean"] for name in names]
    assert (
        "twice as much to the logit as the other ({:.0%} of both), it gets {:.0%} of the values on "
        "both by Grad-CAM and {:.0%} by occlusion, but {:.0%} by Grad-CAM squared times "
        "occlusion".format(stronger / (stronger + weaker), *parts)
    ) in text
    names = "Grad-CAM", "Grad-CAM cubed"
    shares = [RESULTS["scores"][name]["share on the subject"]["mean"] for name in names]
    assert "cubing Grad-CAM raises it from {:.0%} to {:.0%}".format(*shares) in text
