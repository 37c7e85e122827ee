"""What cannot be examined is refused in one sentence."""

import numpy as np
import pytest
from tiny_classifiers import (
    colours,
    mean_colour_reader,
)

import debugcnn
from debugcnn.diagnosis import distribution_shift
from debugcnn.diagnosis.registry import CAUSES


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros(40, int), r"Too few labelled images \(40 by class\): 20 are needed, 10 of them"),
        (np.r_[np.zeros(31, int), np.ones(9, int)], r"Too few labelled images \(31, 9 by class\)"),
        (np.arange(40) % 3, "labels are 0 to 1, not 0 to 2"),
        (np.arange(40) % 2 - 1, "labels are 0 to 1, not -1 to 0"),
        (np.zeros(39, int), "labels are one class number for each of the 40 images"),
        (np.arange(40) % 2.0, "labels are one class number for each of the 40 images"),
        (np.eye(2)[np.arange(40) % 2], "labels are one class number for each of the 40 images"),
    ],
)
def test_labels_that_cannot_be_examined(labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        debugcnn.diagnose(mean_colour_reader(), colours(40)[0], labels)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"class_names": ["a"]}, "class_names holds 1 names, and the model has 2 classes"),
        ({"train": (colours(20)[0], np.zeros(19, int))}, r"train is \(images, labels\)"),
        ({"train": (colours(20)[0], np.zeros(20))}, r"train is \(images, labels\)"),
        ({"resized_variants": {"cropping": colours(39)[0]}}, "39 images are resized by cropping"),
        ({"limits": {"leek": 1}}, "There is no cause 'leek' to set a limit for"),
        ({"value_range": "jet"}, "value_range"),
    ],
)
def test_options_that_do_not_fit(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        debugcnn.diagnose(mean_colour_reader(), *colours(40), **options)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="16"):
        debugcnn.diagnose(mean_colour_reader(), np.zeros((40, 8, 8, 3)), np.arange(40) % 2)


def test_distribution_shifts_belong_to_causes():
    owners = {owner for owner, _ in distribution_shift.PROPERTIES.values()}
    for name in owners:
        assert "unlike_training" in [m.name for m in CAUSES[name].measurements]
