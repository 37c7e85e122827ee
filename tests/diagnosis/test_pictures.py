"""What the pictures of causes show."""

import matplotlib.pyplot as plt
import numpy as np
from faulty_cases import report_of
from tiny_classifiers import (
    SIDE,
    blue_spot_reader,
    case_of,
    colours,
    corner_reader,
    examined,
    finding_of,
    mean_colour_reader,
    textured,
    two_classes,
    with_a_corner,
    without_blue,
)

from debugcnn.diagnosis.registry import CAUSES
from debugcnn.diagnosis.search import Search

TINT = np.array([50.0, 0, -50])


def drawn(report, name):
    """The titles of a cause's picture, and its caption."""
    figure, caption = CAUSES[name].draw(report.case, finding_of(report, name).evidence)
    titles = [axis.get_title() for axis in figure.axes]
    plt.close(figure)
    return titles, caption


def test_the_picture_of_a_mark_shows_it_pasted():
    images, labels = without_blue(40)
    for i in np.flatnonzero(labels):
        y, x = np.random.default_rng(i).integers(8, 27, 2)
        images[i, y : y + 5, x : x + 5] = [0, 0, 250]
    names = ["plain", "marked"]
    case = case_of(blue_spot_reader(), images, labels, class_names=names)
    case.search = Search(case.given, case.given_logits)
    titles, caption = drawn(examined(case, "shortcut:pasted_patch"), "shortcut")
    assert titles == ["marked", *["plain"] * 3, "the patch", *["marked"] * 3]
    assert "the patch that its prediction depends on" in caption


def test_the_picture_of_a_covered_place_shows_what_changes():
    images, labels = textured(100, SIDE), np.arange(100) % 2
    images[:, -2:, -2:] = 128
    case = case_of(corner_reader(), with_a_corner(images, labels), labels)
    case.search = Search(case.given, case.given_logits)
    report = examined(case, "shortcut:covered_place")
    titles, caption = drawn(report, "shortcut")
    assert titles == ["predicted class 1"] * 4 + ["predicted class 0"] * 4
    change = report.faults[0].evidence.details.loss.name
    assert caption.endswith(f"below, the same with the {change}.")


def test_the_picture_of_a_shift_shows_training_images_made_alike():
    (images, labels), train = colours(200, 2), colours(200, 1)
    tinted = np.float32(np.clip(images + TINT, 0, 255))
    case = case_of(mean_colour_reader(), tinted, labels, train=train)
    titles, caption = drawn(examined(case, "channel_order"), "channel_order")
    assert titles == ["examined"] * 4 + ["trained on"] * 4 + ["made alike"] * 4
    assert "made like the examined ones" in caption


def test_the_picture_of_an_input_shows_both_forms():
    titles, caption = drawn(report_of("input_scale"), "input_scale")
    assert [title.split(":")[0] for title in titles[::2]] == [
        *["class 0, as fed"] * 2,
        *["class 0, fixed"] * 2,
    ]
    assert {title.split(":\n")[1] for title in titles[:4]} == {"predicted class 1"}
    assert "with values from 0.000" in caption


def test_the_picture_of_images_cut_short_shows_them():
    images, labels = colours(60)
    images[:20, SIDE // 2 :] = 128
    scores = np.where(np.arange(60) < 20, -1.0, 1.0) * (2 * labels - 1)
    case = case_of(mean_colour_reader(), images, labels, two_classes(scores))
    titles, caption = drawn(examined(case, "blank_photos"), "blank_photos")
    assert titles[:2] == ["image 1\nlabel: class 0", "image 2\nlabel: class 1"] and len(titles) == 8
