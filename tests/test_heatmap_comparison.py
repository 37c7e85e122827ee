"""The command that judges heatmaps, on a net whose reason is known, and what it found for ours."""

import json
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from debugcnn import heatmap_comparison
import debugcnn.quiet
from tools import marks

ROOT = Path(__file__).parents[1]
FOUND = json.loads((ROOT / "models" / "heatmaps.json").read_text())
MARKS = json.loads((ROOT / "models" / "marks.json").read_text())
PLANTED = MARKS["tasks"]
HEIGHT, WIDTH = 24, 32
TRIVIAL = heatmap_comparison.TRIVIAL
NAMES = [*heatmap_comparison.METHODS, *heatmap_comparison.PRODUCTS, *TRIVIAL]


def corner_net():
    """Class 1 where the lower left corner, a quarter of each side, is bright."""
    photos = keras.Input((HEIGHT, WIDTH, 3))
    maps = layers.Conv2D(2, 1, activation="relu", name="first")(photos / 255)
    maps = layers.AveragePooling2D(2)(maps)
    maps = layers.Conv2D(2, 1, activation="relu", name="last")(maps)
    model = keras.Model(photos, layers.Dense(1, "sigmoid", name="dense")(layers.Flatten()(maps)))
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


@pytest.fixture
def case(tmp_path, monkeypatch):
    """A model's file, a folder of photos, one of masks, and a folder to work in."""
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        for folder in ("photos", "masks"):
            (tmp_path / folder / name).mkdir(parents=True)
        for i in range(4):
            photo = rng.integers(60, 120, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            photo[corner() > 0] = 250 if name == "light" else 5
            cv2.imwrite(str(tmp_path / "photos" / name / f"{i}.png"), photo)
            cv2.imwrite(str(tmp_path / "masks" / name / f"{i}.png"), corner())
    corner_net().save(tmp_path / "net.keras")
    monkeypatch.setattr(check_heatmaps, "CHUNK", 3)
    monkeypatch.setattr(check_heatmaps, "PAIRS", 2)
    return tmp_path


def command(case, *more):
    options = ["--work", str(case / "work"), "--json", str(case / "found.json"), *more]
    return heatmap_comparison.main([str(case / "net.keras"), str(case / "photos"), *options])


def test_a_reason_that_is_known_is_found(case, capsys):
    assert command(case, "--masks", str(case / "masks")) == 0
    found = json.loads((case / "found.json").read_text())
    assert found["photos"] == 8 and found["right"] == 1
    assert list(found["scores"]) == NAMES
    scores = found["scores"]
    for name in ("HiResCAM, a layer earlier", "integrated gradients", "SmoothGrad"):
        assert scores[name]["share on the subject"]["mean"] > 0.9
        assert scores[name]["peak on the subject"]["mean"] == 1
        less = scores[name]["deletion to grey"]["less the blob"]
        assert less["interval"][0] > 0 and less["photos"] == 8
    assert scores["blob in the middle"]["peak on the subject"]["mean"] == 0
    assert scores["random"]["share on the subject"]["mean"] == pytest.approx(1 / 16, abs=0.02)
    assert all(one["insertion into blur"]["photos"] == 8 for one in scores.values())
    assert found["layers"]["edges of the photo"]["first"]["mean"] == pytest.approx(1)
    assert found["layers"]["integrated gradients"]["dense"]["mean"] < 0.5
    printed = capsys.readouterr().out
    assert heatmap_comparison.table(found) in printed
    assert printed.count("\n| ") == 1 + len(NAMES)


def test_a_run_that_was_stopped_goes_on(case, monkeypatch):
    assert command(case) == 0
    first = json.loads((case / "found.json").read_text())

    def fails(*given):
        raise AssertionError("made again")

    monkeypatch.setattr(check_heatmaps, "cost", lambda case, names: {})
    monkeypatch.setattr(check_heatmaps, "usable", lambda *given: (NAMES[: -len(TRIVIAL)], {}))
    for name in heatmap_comparison.METHODS:
        monkeypatch.setitem(heatmap_comparison.METHODS, name, fails)
    assert command(case) == 0
    again = json.loads((case / "found.json").read_text())
    assert again["scores"] == first["scores"] and again["layers"] == first["layers"]


def test_heatmaps_of_another_net_are_not_taken(case):
    model = debugcnn.load_model(case / "net.keras")
    options = dict(folder=case / "photos", limit=4, value_range=(0, 255), work=case / "work")
    folder = heatmap_comparison.Photos(model, **options).work
    model.get_layer("dense").bias.assign([1.0])
    assert heatmap_comparison.Photos(model, **options).work != folder
    model.get_layer("dense").bias.assign([0.0])


def test_photos_come_from_each_class_in_turn(case):
    model = debugcnn.load_model(case / "net.keras")
    photos = heatmap_comparison.Photos(model, case / "photos", 4, (0, 255), case / "work")
    assert [name.split("/")[0] for name in photos.names] == ["dark", "light"] * 4
    assert list(photos.labels) == [0, 1] * 4 == list(photos.target)


def test_a_picture_of_two_is_made_of_the_middles_of_two_photos(case):
    model = debugcnn.load_model(case / "net.keras")
    photos = heatmap_comparison.Photos(model, case / "photos", 4, (0, 255), case / "work")
    pictures, targets, own = heatmap_comparison.side_by_side(photos)
    assert pictures.shape == (2, HEIGHT, WIDTH, 3) and list(targets) == [0, 1]
    middle = slice(WIDTH // 4, WIDTH // 4 + WIDTH // 2)
    np.testing.assert_array_equal(pictures[0][:, : WIDTH // 2], photos.images[0][:, middle])
    np.testing.assert_array_equal(pictures[1][:, WIDTH // 2 :], photos.images[3][:, middle])
    assert own[0, :, : WIDTH // 2].all() and not own[0, :, WIDTH // 2 :].any()
    assert own[1, :, WIDTH // 2 :].all() and not own[1, :, : WIDTH // 2].any()


def test_the_holes_of_another_photo_are_those_of_another(case):
    model = debugcnn.load_model(case / "net.keras")
    photos = heatmap_comparison.Photos(model, case / "photos", 4, (0, 255), case / "work")
    name = "HiResCAM, a layer earlier"
    one = heatmap_comparison.curves(photos, name, slice(0, 1))
    assert one.shape == (1, 5, 2) and np.isnan(one[0, 4]).all() and np.isfinite(one[:, :4]).all()
    for stop, other in ((2, 1), (3, 1)):  # of two the other, of three the one before the last
        heat = (
            np.arange(stop)[:, None, None]
            + np.random.default_rng(0).random((3, HEIGHT, WIDTH))[:stop]
        )
        photos.heatmaps = lambda name, chunk, heat=heat: heat
        run = heatmap_comparison.curves(photos, name, slice(0, stop))
        options = dict(target=photos.target[:1], fractions=heatmap_comparison.FRACTIONS)
        expected = debugcnn.deletion_curve(model, photos.images[:1], heat[[other]], **options)
        np.testing.assert_allclose(run[0, 4], expected[0], rtol=1e-4)
        assert not np.allclose(run[0, 4], run[0, 0])


def test_a_net_of_one_convolution_without_a_relu(case, capsys):
    net = [
        keras.Input((HEIGHT, WIDTH, 3)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, activation="tanh"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, "softmax"),
    ]
    keras.utils.set_random_seed(0)
    keras.Sequential(net).save(case / "net.keras")
    assert command(case, "--limit", "2") == 0
    assert "guided backpropagation is left out. Model 'sequential" in capsys.readouterr().out
    found = json.loads((case / "found.json").read_text())
    assert list(found["scores"]) == [name for name in NAMES if "uided" not in name]


def test_classes_may_have_another_order_than_folders(case):
    model = debugcnn.load_model(case / "net.keras")
    options = dict(limit=4, value_range=(0, 255), work=case / "work", classes=["light", "dark"])
    photos = heatmap_comparison.Photos(model, case / "photos", **options)
    assert list(photos.labels) == [1, 0] * 4
    assert heatmap_comparison.side_by_side(photos) is None  # the net gets all of them wrong


def test_the_bootstrap_is_near_the_closed_form():
    values = np.random.default_rng(1).normal(3, 2, 400)
    one = heatmap_comparison.bootstrap([*values, np.nan])
    half = 1.96 * values.std(ddof=1) / 20
    assert one["photos"] == 400 and one["mean"] == pytest.approx(values.mean(), abs=1e-4)
    np.testing.assert_allclose(one["interval"], [values.mean() - half, values.mean() + half], 0.02)
    assert heatmap_comparison.bootstrap([np.nan])["mean"] is None


def test_the_bootstrap_draws_rows_that_belong_together():
    values = np.random.default_rng(1).normal(3, 2, 400)
    alone = heatmap_comparison.bootstrap(values)
    thrice = heatmap_comparison.bootstrap(np.repeat(values[:, None], 3, 1))
    assert thrice == alone | {"photos": 1200}  # no surer by saying it three times
    holes = np.stack([values, np.full(400, np.nan)], 1)
    assert heatmap_comparison.bootstrap(holes) == alone


@pytest.mark.parametrize(("photos", "orders"), [(4, 2), (149, 2), (150, 3), (800, 10)])
def test_each_order_of_the_layers_meets_other_photos(case, monkeypatch, photos, orders):
    model = debugcnn.load_model(case / "net.keras")
    few = heatmap_comparison.Photos(model, case / "photos", 4, (0, 255), case / "work")
    few.images = few.images[np.arange(photos) % 8] + np.arange(photos)[:, None, None, None]
    few.target = np.arange(photos)
    asked = []

    def cascade(model, explain, images, target, layers, seed):
        asked.append((seed, list(target), images))
        return {layer: np.array([0.1, 0.2, 0.3, 0.4]) + seed for layer in layers}

    monkeypatch.setattr(visualize, "cascade", cascade)
    found = heatmap_comparison.randomised(few, ["Grad-CAM", "random"], lambda line: None)
    assert [seed for seed, _, _ in asked] == list(range(orders))
    assert [target for _, target, _ in asked] == [[2 * i, 2 * i + 1] for i in range(orders)]
    assert all(np.array_equal(given, few.images[target]) for _, target, given in asked)
    assert list(found["random"]) == ["dense", "last", "first"]
    expected = np.array([0.3, 0.4]) + np.arange(orders)[:, None]
    np.testing.assert_allclose(found["random"]["last"], expected)


def test_all_methods_are_shuffled_at_once_as_each_would_be_alone(case):
    model = debugcnn.load_model(case / "net.keras")
    photos = heatmap_comparison.Photos(model, case / "photos", 4, (0, 255), case / "work")
    names = ["integrated gradients", "Grad-CAM x occlusion", "edges of the photo"]
    found = heatmap_comparison.randomised(photos, names, lambda line: None)
    methods = heatmap_comparison.METHODS
    alone = {
        names[0]: lambda *given: methods[names[0]](*given, (0, 255)),
        names[1]: lambda *given: debugcnn.product(
            methods["Grad-CAM"](*given, (0, 255)), methods["occlusion"](*given, (0, 255))
        ),
        names[2]: lambda model, images, target: debugcnn.edge_map(images),
    }
    for name, explain in alone.items():
        given = photos.images[2:4], photos.target[2:4]
        expected = debugcnn.cascading_randomization(model, explain, *given, ["dense", "last", "first"], seed=1)
        for layer, values in expected.items():
            np.testing.assert_allclose(found[name][layer][1], values, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--masks", "nowhere"], "holds no mask"),
        (["--value-range", "1", "0"], "value_range is"),
    ],
)
def test_wrong_input_gets_one_sentence(case, capsys, change, words):
    assert command(case, *change) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (case / "found.json").exists()


# -------------------------------------------------------------------------- what was found for ours


def test_the_readme_has_the_table():
    assert heatmap_comparison.table(FOUND) in (ROOT / "README.md").read_text()


def test_the_sentences_under_the_table_agree_with_what_was_found():
    text = " ".join((ROOT / "README.md").read_text().split())
    tasks = PLANTED

    def on_the_marks(method):
        shares = [one["scores"][method]["share on the marks"]["mean"] for one in tasks.values()]
        return f"{min(shares):.0%} to {max(shares):.0%}"

    exact, coarse = (on_the_marks(m) for m in ("integrated gradients from blur", "Grad-CAM"))
    assert (
        f"from a blurred photo put {exact} of their heat on the marks, Grad-CAM {coarse};" in text
    )
    both = min(one["scores"]["Grad-CAM"]["marks found"]["mean"] for one in tasks.values())
    assert f"Grad-CAM finds both on {both:.0%} of the photos" in text
    shares = [
        FOUND["scores"][m]["share on the subject"]["mean"] for m in ("Grad-CAM", "Grad-CAM cubed")
    ]
    assert "cubing Grad-CAM lifts it from {:.0%} to {:.0%}".format(*shares) in text
    true = MARKS["worth"]["worth"][0] / sum(MARKS["worth"]["worth"])
    some = "Grad-CAM", "occlusion", "Grad-CAM squared x occlusion"
    parts = [MARKS["worth"]["scores"][m]["part of the stronger"]["mean"] for m in some]
    assert (
        "twice as much as the other ({:.0%} of both), it has {:.0%} of the heat by Grad-CAM and "
        "{:.0%} by occlusion, but {:.0%} by Grad-CAM squared times occlusion".format(true, *parts)
        in text
    )


def test_what_was_found_is_of_enough_photos():
    assert FOUND["photos"] >= 500 and list(FOUND["scores"]) == NAMES
    assert all(one["photos"] >= 90 for one in FOUND["scores"]["Grad-CAM"].values())


def sample_photos(copies):
    photos, _ = debugcnn.load_images(ROOT / "images", (marks.SIDE, marks.SIDE))
    return np.repeat(np.uint8(photos), copies, axis=0)


@pytest.mark.parametrize("task", marks.TASKS)
def test_the_nets_read_the_marks_and_nothing_else(task):
    model = debugcnn.load_model(marks.SHOWN / f"{marks.TASKS.index(task)}.keras")
    photos = sample_photos(12)
    marked, labels, places = marks.painted(photos, task, seed=7)
    assert 0.3 < labels.mean() < 0.7
    says = [debugcnn.logits(model, some / np.float32(255)).argmax(1) for some in (marked, photos)]
    assert np.mean(says[0] == labels) > 0.9 and not says[1].any()
    changed = (marked != photos).any(-1)
    assert not (changed & ~places.any(1)).any() and changed.sum() > 0.8 * places.sum()
    assert PLANTED[task]["right"] > 0.95 and PLANTED[task]["called 0 without"] > 0.95


@pytest.mark.parametrize("strong", [0, 1])
def test_a_mark_is_worth_what_it_was_given(strong):
    photos = sample_photos(6)
    marked, logits, places = marks.weighed(photos, strong, seed=7)
    there = places.any((2, 3))
    assert set(map(tuple, there)) == {(False, False), (False, True), (True, False), (True, True)}
    expected = -3 + 4 * there[:, strong] + 2 * there[:, 1 - strong]
    np.testing.assert_array_equal(logits, expected)
    assert ((marked != photos).any((1, 2, 3)) == there.any(1)).all()
    np.testing.assert_allclose(marks.probable(photos, strong)[1].max(), 1 / (1 + np.exp(-3)))
    model = debugcnn.load_model(marks.SHOWN / f"{len(marks.TASKS) + strong}.keras")
    logit = [debugcnn.logits(model, some / np.float32(255))[:, 1] for some in (marked, photos)]
    for one, two in ((0, 1), (1, 0)):
        added = (logit[0] - logit[1])[there[:, one] & ~there[:, two]].mean()
        assert added == pytest.approx(4 if one == strong else 2, abs=0.5)


def test_the_worth_that_was_found_is_that_of_the_nets():
    assert MARKS["worth"]["worth"] == pytest.approx([4, 2], abs=0.3)
    scores = MARKS["worth"]["scores"]
    assert list(scores) == NAMES
    for name in TRIVIAL:  # each mark is the stronger once, so what knows nothing gets a half
        assert scores[name]["part of the stronger"]["mean"] == pytest.approx(0.5, abs=0.01)
        assert scores[name]["stronger is hotter"]["mean"] == pytest.approx(0.5, abs=0.01)
    cubed, plain = (
        scores[name]["part of the stronger"]["mean"] for name in ("Grad-CAM cubed", "Grad-CAM")
    )
    assert cubed == pytest.approx(plain**3 / (plain**3 + (1 - plain) ** 3), abs=0.02)
