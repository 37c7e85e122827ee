"""The cause "shortcut": what a model reads beside the thing."""

import numpy as np
import pytest
from tiny_classifiers import (
    SIDE,
    case_of,
    colours,
    corner_reader,
    examined,
    finding_of,
    mean_colour_reader,
    textured,
    two_classes,
    verdict,
    with_a_corner,
    with_mistakes,
)

from debugcnn.diagnosis.causes import shortcut as shortcut_module
from debugcnn.diagnosis.patches import Patch
from debugcnn.diagnosis.search import Search


def patch(label, twins, turned=1.0):
    return Patch(0, label, slice(0, 3), slice(0, 3), turned, twins)


@pytest.mark.parametrize(
    ("patches", "said"),
    [
        ([patch(0, 5), patch(1, 0)], "fault"),
        ([patch(0, 4, 0.8), patch(1, 0)], "fault"),  # just enough
        ([patch(0, 6), patch(1, 1)], "suspicious"),  # things that look all the same
        ([patch(0, 3), patch(1, 0)], "fine"),
        ([], "fine"),
    ],
)
def test_patches_in_most_classes_are_only_suspicious(monkeypatch, patches, said):
    images, labels = colours(60)
    monkeypatch.setattr(shortcut_module, "paste_patches", lambda *args, **options: patches)
    case = case_of(mean_colour_reader(), images, labels, with_mistakes(labels, 4))
    assert verdict(case, "shortcut:pasted_patch") == said


def test_a_shortcut_is_not_looked_for_in_a_model_that_knows_little():
    images, labels = colours(200)
    guesses = two_classes(np.random.default_rng(0).normal(size=200))
    case = case_of(mean_colour_reader(), images, labels, guesses)
    report = examined(case, "shortcut:covered_place", "shortcut:pasted_patch")
    assert {m.message for m in report.measurements} == {
        "The model knows too little for a shortcut to show."
    }


def test_patches_are_pasted_only_where_no_place_explains_it():
    images, labels = textured(100, SIDE), np.arange(100) % 2
    images[:, -2:, -2:] = 128
    images = with_a_corner(images, labels)
    case = case_of(corner_reader(), images, labels)
    case.search = Search(case.given, case.given_logits)
    report = examined(case, "shortcut:covered_place", "shortcut:pasted_patch")
    finding = finding_of(report, "shortcut")
    assert finding.verdict == "fault" and "covered, accuracy drops" in finding.message
    assert report.measurements[1].verdict == "not examined"
    assert "for class 1 by 100.0%" in finding.message


def test_a_healthy_model_reads_no_shortcut():
    """It reads the middle, which is covered as a control."""
    labels = np.arange(100) % 2
    images = np.random.default_rng(0).uniform(60, 140, (100, SIDE, SIDE, 3)).astype(np.float32)
    images[labels == 1, 6:10, 6:10, 0] += 100
    model = mean_colour_reader((160, -80, -80), bias=-160 * 3 / 255)
    case = case_of(model, images, labels)
    case.search = Search(case.given, case.given_logits)
    assert case.accuracy > 0.9
    report = examined(case, "shortcut")
    assert {m.verdict for m in report.measurements} == {"fine"}
