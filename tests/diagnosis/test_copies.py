"""Images that were trained on, too: the cause "leak"."""

import cv2
import numpy as np
import pytest
from tiny_classifiers import (
    as_jpeg,
    case_of,
    examined,
    mean_colour_reader,
    textured,
    verdict,
    with_mistakes,
)

from debugcnn.diagnosis.copies import copies, is_copy


def moved(image, degrees=0.0, scale=1.0, shift=(0, 0)):
    """An image rotated and enlarged around its middle, mirrored beyond its edges."""
    side = image.shape[0]
    warp = cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, degrees, scale)
    warp[:, 2] += shift
    return cv2.warpAffine(image, warp, (side, side), borderMode=cv2.BORDER_REFLECT)


def small_grey(image, side=48):
    return cv2.resize(np.float32(image).mean(-1), (side, side), interpolation=cv2.INTER_AREA)


CHANGES = {
    "rotated by 5 degrees": lambda p: moved(p, 5),
    "rotated the other way": lambda p: moved(p, -4),
    "cropped": lambda p: cv2.resize(p[4:-4, 4:-4], p.shape[1::-1], interpolation=cv2.INTER_AREA),
    "shifted": lambda p: moved(p, shift=(4, -3)),
    "darker": lambda p: 0.6 * p,
    "lighter": lambda p: np.clip(p + 40, 0, 255),
    "compressed": lambda p: as_jpeg(p, 30),
    "all at once": lambda p: as_jpeg(np.clip(0.8 * moved(p, 3, 1.08) + 10, 0, 255), 60),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_image_is_a_copy(change):
    images = textured(5, 96)
    own = [small_grey(image) for image in images]
    changed = [small_grey(CHANGES[change](image)) for image in images]
    for i in range(5):
        assert is_copy(changed[i], own[i]) is True
        assert is_copy(changed[i], own[(i + 1) % 5]) is False


def test_alike_in_large_but_not_in_detail_is_no_copy():
    generator = np.random.default_rng(0)
    large = cv2.resize(np.float32(generator.uniform(0, 255, (4, 4))), (48, 48))
    image, other = (np.float32(large + generator.normal(0, 12, (48, 48))) for _ in range(2))
    assert np.corrcoef(image.ravel(), other.ravel())[0, 1] > 0.9
    assert is_copy(image, image) and not is_copy(image, other)


def test_alike_in_detail_but_not_in_large_is_no_copy():
    generator = np.random.default_rng(0)
    large = np.float32(generator.uniform(80, 170, (2, 4, 4)))
    detail = cv2.GaussianBlur(generator.normal(size=(48, 48)), (0, 0), 1.2)
    detail *= 40 / detail.std()
    image, other = (np.float32(cv2.resize(coarse, (48, 48)) + detail) for coarse in large)
    assert np.corrcoef(image.ravel(), other.ravel())[0, 1] < 0.82
    assert is_copy(image, np.float32(image + 5)) and not is_copy(image, other)


def test_flat_images_show_nothing():
    flat, image = np.full((48, 48), 90, np.float32), small_grey(textured(1, 96)[0])
    for pair in ((flat, flat), (flat, image), (image, flat)):
        assert is_copy(*pair) is False


def smooth(count, seed=0):
    """Smooth random images, each unlike the others."""
    small = np.float32(np.random.default_rng(seed).uniform(0, 255, (count, 6, 6, 3)))
    return np.stack([cv2.resize(s, (48, 48), interpolation=cv2.INTER_CUBIC) for s in small])


def test_copies_of_training_images_are_found_also_mirrored():
    trained, examined_ = smooth(30), smooth(20, seed=1)
    assert copies(examined_, trained) == []
    examined_[3], examined_[7] = trained[11] + 1, trained[12, :, ::-1]
    assert copies(examined_, trained) == [(3, 11, False), (7, 12, True)]


def test_changed_copies_are_found_also_mirrored():
    trained, images = textured(20, 64), textured(10, 64, seed=1)
    assert copies(images, trained) == []
    images[2] = moved(trained[11], 6, 1.1)
    images[5] = moved(trained[4][:, ::-1], -5, 1.1)
    images[7] = trained[9]
    images[9] = CHANGES["all at once"](trained[0])
    expected = [(2, 11, False), (5, 4, True), (7, 9, False), (9, 0, False)]
    assert copies(images, trained) == expected
    assert copies(images[..., :1], trained[..., :1]) == expected


def test_of_an_images_twins_one_is_named():
    trained, images = textured(210, 32), textured(4, 32, seed=1)
    trained[50] = trained[49]
    images[1] = trained[50]
    images[3] = CHANGES["compressed"](moved(trained[110], 5))
    pairs = copies(images, trained)
    assert [copy.examined for copy in pairs] == [1, 3] and pairs[0].trained in (49, 50)
    assert pairs[1] == (3, 110, False)


@pytest.mark.parametrize(("natural", "count"), [(0, 3), (4, 0)])
def test_as_many_copies_as_twins_in_training_are_no_leak(natural, count):
    trained, images = textured(60, 64), textured(20, 64, seed=1)
    for i in range(natural):  # they look like others that were trained on
        trained[2 * i] = moved(trained[2 * i + 1], 6, 1.1)
    for i in range(3):
        images[i] = moved(trained[20 + i], -6, 1.1)
    assert len(copies(images, trained)) == count
    images[:12] = [moved(trained[20 + i], -6, 1.1) for i in range(12)]
    assert len(copies(images, trained)) == 12


def test_drawings_that_are_alike_are_copies_only_if_they_are_equal():
    generator = np.random.default_rng(0)
    kinds = smooth(4)
    trained, images = (
        np.clip(np.repeat(kinds, 10, 0) + generator.normal(0, 3, (40, 48, 48, 3)), 0, 255)
        for _ in range(2)
    )
    assert copies(images, trained) == []
    images[5], images[6] = trained[7], trained[8, :, ::-1]
    assert [copy.examined for copy in copies(images, trained)] == [5, 6]


def test_drawings_rotated_a_little_are_no_copies_of_each_other():
    kinds, generator = textured(3, 64), np.random.default_rng(0)
    drawings = np.stack(
        [moved(kinds[i % 3], 7 * (i // 3) + generator.uniform(-1, 1), 1.1) for i in range(12)]
    )
    assert copies(drawings[9:], drawings[:9]) == []
    alone = np.concatenate([drawings[6:7], textured(20, 64, seed=5)])
    assert copies(drawings[9:10], alone) == [(0, 0, False)]  # among natural images, it would be


@pytest.mark.parametrize(("count", "said"), [(0, "fine"), (1, "suspicious"), (2, "fault")])
def test_images_that_were_trained_on(count, said):
    images, trained = textured(100, 16), textured(120, 16, seed=1)
    images[:count] = trained[5 : 5 + count, :, ::-1]
    labels = np.arange(100) % 2
    case = case_of(
        mean_colour_reader(),
        images,
        labels,
        with_mistakes(labels, 4),
        train=(trained, np.arange(120) % 2),
    )
    (finding,) = examined(case, "leak").findings
    assert (finding.verdict, finding.value) == (said, count / 100)
    message = f"{count} of 100 images were trained on, {count} of them mirrored."
    assert finding.message == message


def test_a_single_copy_is_no_more_than_suspicious():
    images, trained = textured(20, 16), textured(30, 16, seed=1)
    images[3] = trained[4]  # 5 % of the images
    labels = np.arange(20) % 2
    train = trained, np.arange(30) % 2
    case = case_of(mean_colour_reader(), images, labels, with_mistakes(labels, 1), train=train)
    assert verdict(case, "leak") == "suspicious"
