"""The models that read painted marks, and what was measured of heatmaps on them."""

import json
from pathlib import Path

import numpy as np
import pytest

import debugcnn
from debugcnn import HEATMAP_METHODS, TRIVIAL_HEATMAPS
from tools import marks

ROOT = Path(__file__).parents[1]
RESULTS = json.loads(marks.RESULTS.read_text())
UNEQUAL = RESULTS["unequal marks"]


def sample_photos(copies):
    photos, _ = debugcnn.load_images(ROOT / "images", (marks.SIDE, marks.SIDE))
    return np.repeat(np.uint8(photos), copies, axis=0)


def model_of(number):
    return debugcnn.load_model(marks.MODELS / f"{number}.keras")


@pytest.mark.parametrize("task", marks.TASKS)
def test_the_models_read_the_marks_and_nothing_else(task):
    model, photos = model_of(marks.TASKS.index(task)), sample_photos(12)
    marked, labels, positions = marks.painted(photos, task, seed=7)
    assert 0.3 < labels.mean() < 0.7
    with_marks, without = (marks.logits_of(model, p).argmax(1) for p in (marked, photos))
    assert np.mean(with_marks == labels) > 0.9 and not without.any()
    changed = (marked != photos).any(-1)
    assert not (changed & ~positions.any(1)).any() and changed.sum() > 0.8 * positions.sum()
    results = RESULTS["tasks"][task]
    assert results["accuracy"] > 0.95 and results["predicted 0 without marks"] > 0.95


@pytest.mark.parametrize("strong", [0, 1])
def test_a_mark_adds_to_the_logit_what_it_should(strong):
    photos = sample_photos(6)
    marked, logits, positions = marks.painted_unequal(photos, strong, seed=7)
    there = positions.any((2, 3))
    assert set(map(tuple, there)) == {(False, False), (False, True), (True, False), (True, True)}
    expected = -3 + 4 * there[:, strong] + 2 * there[:, 1 - strong]
    np.testing.assert_array_equal(logits, expected)
    assert ((marked != photos).any((1, 2, 3)) == there.any(1)).all()
    np.testing.assert_allclose(marks.soft_labelled(photos, strong)[1].max(), 1 / (1 + np.exp(-3)))
    model = model_of(len(marks.TASKS) + strong)
    added = (marks.logits_of(model, marked) - marks.logits_of(model, photos))[:, 1]
    for kind in (0, 1):
        alone = there[:, kind] & ~there[:, 1 - kind]
        assert added[alone].mean() == pytest.approx(4 if kind == strong else 2, abs=0.5)


def test_a_mark_is_found_if_it_is_higher_than_the_rest():
    positions = np.zeros((1, 2, 64, 64), bool)
    positions[0, 0, 4:12, 4:12] = positions[0, 1, 40:48, 40:48] = True
    near = marks.with_margin(positions)
    assert near[0, 0].sum() == 16 * 16 and (near & positions == positions).all()
    maps = np.random.default_rng(0).random((1, 64, 64))
    maps[positions.any(1)] = 2
    assert marks.all_found(maps, positions, near) == [1]
    maps[positions[:, 1]] = 0.5
    assert marks.all_found(maps, positions, near) == [0]
    assert marks.all_found(maps, positions[:, :1], near) == [1]


def test_every_heatmap_was_measured():
    names = debugcnn.heatmap_names()
    of_tasks = [results["scores"] for results in RESULTS["tasks"].values()]
    assert all(list(scores) == names for scores in [*of_tasks, UNEQUAL["scores"]])
    assert set(HEATMAP_METHODS) < set(names)


def test_the_marks_of_unequal_weight():
    assert UNEQUAL["added logits"] == pytest.approx([4, 2], abs=0.3)
    scores = UNEQUAL["scores"]
    for name in TRIVIAL_HEATMAPS:  # each mark is the stronger once, so chance gets a half
        assert scores[name]["part of the stronger"]["mean"] == pytest.approx(0.5, abs=0.01)
        assert scores[name]["stronger is hotter"]["mean"] == pytest.approx(0.5, abs=0.01)
    cubed, plain = (
        scores[name]["part of the stronger"]["mean"] for name in ("Grad-CAM cubed", "Grad-CAM")
    )
    assert cubed == pytest.approx(plain**3 / (plain**3 + (1 - plain) ** 3), abs=0.02)
