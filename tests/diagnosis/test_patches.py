"""Patches that turn the prediction of other images."""

import cv2
import numpy as np
import pytest
from tiny_classifiers import (
    WIDE,
    blue_spot_reader,
    case_of,
    colours,
    examined,
    mean_colour_reader,
    two_classes,
    without_blue,
)

from debugcnn.diagnosis.causes import shortcut as shortcut_module
from debugcnn.diagnosis.forms import Feed
from debugcnn.diagnosis.patches import ALIKE, HOSTS, likeness, paste_patches
from debugcnn.diagnosis.search import Search


def with_marks(share=1.0, same=True):
    """Images and labels: somewhere on a share of class 1, but at no edge, a square of 5 pixels, all
    blue, or each with a pattern of its own around a blue pixel.
    """
    images, labels = without_blue(40)
    generator = np.random.default_rng(0)
    for i in np.flatnonzero(labels):
        y, x = generator.integers(8, WIDE - 13, 2)
        if generator.random() < share:
            mark = generator.uniform(0, 255, (5, 5, 3)) if not same else np.zeros((5, 5, 3))
            mark[..., 2] = 250 if same else np.minimum(mark[..., 2], mark[..., 0])
            mark[2, 2] = (0, 0, 250)
            images[i, y : y + 5, x : x + 5] = mark
    return images, labels


@pytest.fixture(scope="module")
def spot_reader():
    return blue_spot_reader()


def patches_of(model, images, labels, **options):
    feed = Feed(images, (0, 1))
    return paste_patches(model, feed, labels, feed.logits(model), **options)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_mark_at_any_place_is_found_by_pasting_it(spot_reader, share):
    images, labels = with_marks(share)
    first, *_ = patches_of(spot_reader, images, labels)
    assert first.label == 1 and first.turned == 1 and first.twins >= 2
    square = images[first.image, first.rows, first.columns]
    assert square.shape == (8, 8, 3) and np.sum((square == [0, 0, 250]).all(-1)) >= 20


@pytest.mark.parametrize(("same", "said"), [(True, "fault"), (False, "fine")])
def test_a_patch_is_a_mark_if_it_has_twins(spot_reader, same, said):
    images, labels = with_marks(same=same)
    case = case_of(spot_reader, images, labels)
    case.search = Search(case.given, case.given_logits)
    (finding,) = examined(case, "shortcut:pasted_patch").findings
    assert finding.verdict == said
    if same:
        patch = finding.evidence.details
        assert f"(row {patch.rows.start}, column {patch.columns.start})" in finding.message
        assert "makes the model predict class 1 for 100% of them" in finding.message


def test_another_thing_in_every_image_has_no_twins(spot_reader):
    pasted = patches_of(spot_reader, *with_marks(same=False))
    assert pasted[0].turned == 1 and pasted[0].twins < 2
    pasted = patches_of(mean_colour_reader(), *colours(200))
    assert len(pasted) == 16 and max(patch.turned for patch in pasted) < 0.8


def test_patches_at_the_same_place_are_twins_though_they_look_different(spot_reader):
    images, labels = without_blue(40)
    images = {"same": images, "other": images.copy()}
    generator = np.random.default_rng(0)
    for i in np.flatnonzero(labels):
        mark = generator.uniform(0, 255, (7, 7, 3))
        mark[..., 2] = np.minimum(mark[..., 2], mark[..., 0])
        mark[3, 3] = (0, 0, 250)
        for where, (y, x) in {"same": (8, 20), "other": generator.integers(0, 33, 2)}.items():
            images[where][i, y : y + 7, x : x + 7] = mark
    pasted = {where: patches_of(spot_reader, p, labels) for where, p in images.items()}
    strong = [patch for patch in pasted["same"] if patch.label == 1]
    assert len(strong) == 8 and all((p.turned, p.twins) == (1, 7) for p in strong)
    for patch in strong:
        assert patch.rows.start <= 11 < patch.rows.stop
        assert patch.columns.start <= 23 < patch.columns.stop
    pixels = [images["same"][p.image, p.rows, p.columns] for p in strong[:2]]
    assert likeness(*pixels) < ALIKE  # not by their looks
    assert pasted["other"][0].turned == 1 and pasted["other"][0].twins < shortcut_module.TWINS
    # No more is looked at than can matter.
    fewer = patches_of(spot_reader, images["same"], labels, enough_twins=3)
    assert [p for p in fewer if p.label] == strong
    assert sum(p.label == 0 for p in pasted["same"]) == 8 and sum(p.label == 0 for p in fewer) == 5


def test_a_patch_is_given_up_only_where_it_cannot_turn_enough():
    labels = np.arange(200) % 2
    images = np.zeros((200, 10, 10, 3), np.float32)
    images[..., 0] = np.arange(200)[:, None, None]
    images[labels == 1, :, :, 1] = 99
    hosts = np.random.default_rng(0).permutation(np.flatnonzero(labels == 0))[:HOSTS]

    def predicting(stay):
        def predict(model, images, output):
            index = np.median(images[..., 0], (1, 2)).round().astype(int)
            pasted = (images[..., 1] == 99).any((1, 2)) & (labels[index] == 0)
            ones = (labels[index] == 1) | (pasted & ~np.isin(index, stay))
            return two_classes(np.where(ones, 1.0, -1.0))

        return predict

    for many, turned, looked_at in ((6, 26 / 32, 8), (7, 9 / 16, 5)):
        feed = Feed(images, (0, 255), predict=predicting(hosts[:many]))  # all in the first half
        patches = paste_patches(None, feed, labels, two_classes(2.0 * labels - 1), enough_twins=3)
        own = [patch for patch in patches if patch.label == 1]
        assert all(patch.turned == pytest.approx(turned) for patch in own)
        assert len(own) == looked_at


def test_a_class_of_few_correct_images_has_a_patch_all_the_same():
    images, labels = colours(200)
    few = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:2]]
    pasted = patches_of(mean_colour_reader(), images[few], labels[few], enough_twins=3)
    assert {patch.label for patch in pasted} == {0, 1}


@pytest.mark.parametrize("shape", [(40, 40, 3), (110, 70, 3), (11, 9, 1)])
def test_the_patch_holds_the_whole_mark(shape):
    """A mark of a tenth of the sides; covering a part of it is not enough."""
    generator, size = np.random.default_rng(0), max(1, min(shape[:2]) // 10)
    labels = np.repeat([0, 1], [5, 8])

    def predict(model, images, output):
        return two_classes(images.max((1, 2, 3)) - 0.5)

    for _ in range(3):
        images = np.zeros((13, *shape), np.float32)
        for i in np.flatnonzero(labels):
            y, x = (generator.integers(0, side - size + 1) for side in shape[:2])
            images[i, y : y + size, x : x + size] = 1
        feed = Feed(images, (0, 255), predict=predict)
        pasted = paste_patches(None, feed, labels, predict(None, images, None))
        assert sum(patch.label for patch in pasted) == 8
        for patch in [patch for patch in pasted if patch.label]:
            rows, columns = np.nonzero(images[patch.image].max(-1))
            assert patch.rows.start <= rows.min() and rows.max() < patch.rows.stop
            assert patch.columns.start <= columns.min() and columns.max() < patch.columns.stop
            assert patch.rows.stop - patch.rows.start == max(2, round(shape[0] * 0.2))
            assert patch.turned == 1


def test_patches_that_look_alike():
    generator = np.random.default_rng(0)
    patch, other = (np.float32(generator.uniform(0, 255, (24, 24, 3))) for _ in range(2))
    patch, other = (cv2.GaussianBlur(p, (0, 0), 3) * 4 - 380 for p in (patch, other))
    assert likeness(patch, patch) == 1
    assert likeness(patch, other) < 0.3
    for shift in ((4, -6), (-6, 4), (6, 6)):
        assert 0.4 < likeness(patch, np.roll(patch, shift, (0, 1))) < 0.8
    assert likeness(patch, patch + 23) == 1 > likeness(patch, patch + 24)


def of_spots(same, ground):
    """Images on a background that all share or that differs, each of class 1 with a spot somewhere:
    always the same spot, or another one.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = generator.uniform(0, 255, (40, 40, 40, 1))
    if ground:
        images[:] = 65
    for i in np.flatnonzero(labels):
        y, x = generator.integers(8, 25, 2)
        spot = generator.uniform(100, 255, (8, 8, 1)) if not same else 230.0
        images[i, y : y + 8, x : x + 8] = spot
    return np.float32(np.repeat(images, 3, -1)), labels


@pytest.mark.parametrize(
    ("same", "ground", "twins"), [(True, False, True), (False, False, False), (False, True, False)]
)
def test_twins_are_more_alike_than_what_else_lies_there(same, ground, twins):
    """A background that all images share makes no twins."""
    images, labels = of_spots(same, ground)

    def predict(model, images, output):  # where there is a light spot of 8 x 8 pixels anywhere
        means = np.stack([cv2.blur(image, (8, 8)).max() for image in images[..., 0]])
        return two_classes(np.float64(means) - (160 if not ground else 90))

    feed = Feed(images, (0, 255), predict=predict)

    pasted = paste_patches(None, feed, labels, predict(None, images, None))
    marks = [patch for patch in pasted if patch.label and patch.turned >= 0.8]
    assert marks and (max(patch.twins for patch in marks) >= shortcut_module.TWINS) is twins
