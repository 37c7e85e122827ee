"""What is taken away from images, and whether it separates the classes by itself."""

import cv2
import numpy as np
import pytest
from tiny_classifiers import (
    as_jpeg,
    colours,
    textured,
)

from debugcnn.diagnosis.interventions import (
    CONTROL_REGION,
    cues,
    interventions,
    separation,
)
from debugcnn.statistics import binary_auc


def changed_by(images):
    """{what is done: the images after it}."""
    return {name: change(images) for name, change in interventions(images).items()}


# ------------------------------------------------------------------------------------ interventions


def test_interventions_do_what_they_say():
    images, _ = colours(8)
    images[3] += 60
    images = np.clip(images, 0, 255)
    changed = changed_by(images)
    assert all(after.shape == images.shape for after in changed.values())
    assert np.ptp(changed["colour taken away"], axis=-1).max() < 1e-3
    assert np.ptp(changed["brightness equalised"].mean((1, 2, 3))) < 3
    assert np.ptp(changed["tint equalised"].mean((1, 2)), axis=-1).max() < 3
    inside = np.s_[:, 2:-2, 2:-2]
    np.testing.assert_array_equal(changed["border covered"][inside], images[inside])
    mean = images.mean((0, 1, 2))
    for edge in np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]:
        np.testing.assert_allclose(changed["border covered"][edge] - mean, 0, atol=1e-3)
    steps = np.abs(np.diff(changed["sharpness taken away"], axis=1)).mean()
    assert steps < 0.7 * np.abs(np.diff(images, axis=1)).mean()
    assert 0 < np.abs(changed["file quality equalised"] - images).mean() < 40


def test_corners_are_where_their_names_say():
    images = np.random.default_rng(0).uniform(0, 255, (2, 50, 40, 3))
    changed, height, width = changed_by(images), 11, 9  # 0.22 of the sides
    for name, corner in (
        ("top left", np.s_[:, :height, :width]),
        ("top right", np.s_[:, :height, -width:]),
        ("bottom left", np.s_[:, -height:, :width]),
        ("bottom right", np.s_[:, -height:, -width:]),
    ):
        expected = images.copy()
        expected[corner] = images.mean((0, 1, 2))
        np.testing.assert_allclose(changed[f"{name} corner covered"], expected)


def test_as_much_of_the_middle_as_of_the_border_is_covered():
    images = np.zeros((1, 100, 60, 3), np.float32)
    images[0, 0, 0] = 255  # so that the mean shows where it was put
    changed = changed_by(images)
    shares = {name: (after[0] != images[0]).any(-1).mean() for name, after in changed.items()}
    for place, control in CONTROL_REGION.items():
        assert shares[place] == pytest.approx(shares[control], abs=0.02)
    assert not (changed["middle covered"] != images)[:, :20].any()
    assert not (changed["middle covered"] != images)[:, :, :12].any()


def test_equal_brightness_takes_away_gain_and_offset():
    images = textured(6, 24) * 0.3 + 60
    equalised = interventions(images)["brightness equalised"]
    plain = equalised(images)
    generator = np.random.default_rng(0)
    gain, offset = generator.uniform(0.5, 2, (6, 1, 1, 1)), generator.uniform(-20, 20, (6, 1, 1, 1))
    np.testing.assert_allclose(equalised(images * gain + offset), plain, atol=1e-2)
    assert (plain > 0).all() and (plain < 255).all()
    assert np.ptp(plain.mean((1, 2, 3))) < 0.01 and np.ptp(plain.std((1, 2, 3))) < 0.01
    assert plain.mean() == pytest.approx(images.mean(), rel=1e-4)
    assert plain.std((1, 2, 3)).mean() == pytest.approx(images.std((1, 2, 3)).mean(), rel=1e-4)
    tint = interventions(images)["tint equalised"]
    np.testing.assert_allclose(tint(images + [9, 0, -9]), tint(images), atol=1e-2)
    assert tint(images).mean((1, 2, 3)) == pytest.approx(images.mean((1, 2, 3)), rel=1e-4)


def test_images_of_other_channels_are_changed_too():
    grey = textured(3, 24)[..., :1]
    assert {"tint equalised", "colour taken away"}.isdisjoint(interventions(grey))
    four = np.concatenate([textured(3, 24), 7 + grey / 2], -1)
    for images in (grey, four):
        for name, after in changed_by(images).items():
            assert after.shape == images.shape, name
    for name in ("tint equalised", "colour taken away", "file quality equalised"):
        np.testing.assert_array_equal(changed_by(four)[name][..., 3], four[..., 3])


# --------------------------------------------------------------------------------------------- cues


def separates(images, labels, name):
    """The AUC with which a property separates the classes, and whether that is clear."""
    return separation(cues(images)[name], labels)


def test_what_is_in_the_middle_is_no_cue():
    labels = np.arange(200) % 2
    images = np.float32(np.random.default_rng(0).uniform(80, 120, (200, 32, 32, 3)))
    thing = images.copy()
    thing[labels == 1, 6:-6, 6:-6] = [250, 40, 30]
    thing[labels == 1, 8:24:2, 8:24] = 0  # sharp, and of another lightness
    for name in cues(thing):
        area, clear = separates(thing, labels, name)
        assert area < 0.65 and not clear
    tinted = images + labels[:, None, None, None] * np.float32([15, 0, -15])
    assert separates(tinted, labels, "tint equalised") == (1, True)
    assert separates(tinted, labels, "brightness equalised")[0] < 0.65
    lighter = images + 20 * labels[:, None, None, None]
    assert separates(lighter, labels, "brightness equalised") == (1, True)
    assert separates(lighter, labels, "tint equalised")[0] < 0.65


def test_cues_in_closed_form():
    flat = np.zeros((2, 40, 60, 3), np.float32) + np.float32([120, 90, 60])
    flat[:, 6:34, 9:51] = [0, 250, 130]  # 0.15 of the sides are outside
    amounts = cues(flat)
    assert amounts["brightness equalised"] == pytest.approx([90, 90])
    assert amounts["tint equalised"] == pytest.approx([60, 60])
    assert amounts["colour taken away"] == pytest.approx([60, 60])
    # A wide frame of stripes: the steps are 30 from each column to the next.
    striped = np.zeros((1, 40, 60, 3), np.float32) + 100
    striped[:, :, ::2] += 30
    amounts = cues(striped)
    assert amounts["sharpness taken away"] == pytest.approx([30 / 15], rel=0.01)
    assert amounts["file quality equalised"] == pytest.approx([1])
    blocks = np.zeros((1, 40, 60, 3), np.float32) + 100
    blocks += 20 * (np.arange(60) // 8 % 2)[:, None]
    assert cues(blocks)["file quality equalised"][0] > 5
    again = cues(striped * 2 + 20)
    assert again["sharpness taken away"] == pytest.approx(amounts["sharpness taken away"], rel=0.01)
    grey = cues(striped[..., :1])
    assert grey["tint equalised"] == 0 and grey["brightness equalised"] == pytest.approx([115])


def test_sharpness_and_compression_are_cues():
    images, labels = textured(60, 64), np.arange(60) % 2
    blurred, coarse = images.copy(), images.copy()
    blurred[labels == 1] = [cv2.GaussianBlur(p, (0, 0), 2) for p in images[labels == 1]]
    assert separates(blurred, labels, "sharpness taken away")[0] > 0.95
    assert separates(images, labels, "sharpness taken away")[0] < 0.75
    coarse[labels == 1] = [as_jpeg(p, 10) for p in images[labels == 1]]
    assert separates(coarse, labels, "file quality equalised")[0] > 0.8


@pytest.mark.parametrize(("others", "clear"), [(0.0, True), (0.5, False)])
def test_a_cue_of_many_classes_is_one_of_a_single_class(others, clear):
    labels = np.repeat([0, 1, 2], 80)
    amounts = np.random.default_rng(0).normal(size=240) + 2 * (labels == 0) - others * (labels == 1)
    best, is_clear = separation(amounts, labels)
    assert best == pytest.approx(binary_auc(amounts, np.int32(labels == 0))) and best > 0.85
    assert is_clear is clear
    assert separation(amounts[:160], labels[:160])[1] is True  # of two, each is one


def test_few_images_have_to_separate_more():
    for half, clear in ((5, False), (20, True)):
        labels = np.repeat([0, 1], half)
        for amounts in (np.arange(2.0 * half), -np.arange(2.0 * half)):
            assert separation(amounts, labels) == (1, clear)
    # Of 8 and 8, 3.3 standard errors of chance are 0.49: only what is nearly perfect is clear.
    labels, amounts = np.repeat([0, 1], 8), np.arange(16.0)
    assert separation(amounts, labels) == (1, True)
    amounts[7], amounts[8] = 8.5, 7.5
    assert separation(amounts, labels) == (pytest.approx(63 / 64), False)
    labels, noise = np.arange(4000) % 2, np.random.default_rng(0).normal(size=4000)
    assert separation(noise + 0.8 * labels, labels)[1] is False  # 0.71: below CUE_AUC
    assert separation(noise + 1.1 * labels, labels)[1] is True  # 0.78
    assert separation(np.ones(4000), labels) == (0.5, False)
    labels = np.arange(60) % 3  # one of three classes
    for far in (5.0, -5.0):
        assert separation(np.where(labels == 2, far, noise[:60]), labels) == (1, True)
