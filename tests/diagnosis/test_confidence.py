"""Confidence that exceeds accuracy."""

import numpy as np
import pytest
from scipy.stats import norm
from tiny_classifiers import (
    examined,
    finding_of,
    predicted,
    two_classes,
    verdict,
)

from debugcnn.statistics import Z_ONE_IN_2000, wilson_interval


def with_confidence(confidence, correct):
    """(labels, logits) of two classes: each image predicted with a confidence, correct or not."""
    confidence, correct = np.broadcast_arrays(confidence, correct)
    labels = np.arange(len(confidence)) % 2
    scores = np.log(confidence / (1 - confidence)) / 2
    sign = np.where(correct, 1, -1) * (2 * labels - 1)
    return labels, two_classes(scores * sign)


@pytest.mark.parametrize(
    ("confidence", "wrong", "count", "said"),
    [
        (0.9995, 50, 200, "fault"),
        (0.9995, 5, 200, "fine"),  # as published models do
        (0.9985, 50, 200, "fine"),  # not that certain
        (0.9995, 30, 200, "fault"),
        (0.9995, 20, 200, "fine"),  # 10 % of 200 may be 5 %
        (0.9995, 9, 22, "fault"),
    ],
)
def test_certain_and_wrong(confidence, wrong, count, said):
    labels, logits = with_confidence(np.full(count, confidence), np.arange(count) >= wrong)
    (finding,) = examined(predicted(labels, logits), "saturated_answer").findings
    assert finding.verdict == said
    certain = count if confidence > 0.999 else 0
    assert finding.message.startswith(f"{certain} predictions are at least 99.9 % certain")
    if certain:
        # Wilson's lower bound at 99.9 %, from that at 95 % in closed form.
        z, share = norm.ppf(0.9995), wrong / count
        centre = share + z**2 / (2 * count)
        half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
        assert finding.value == pytest.approx((centre - half) / (1 + z**2 / count), rel=1e-6)
        assert finding.value < wilson_interval(wrong, count)[0]
        np.testing.assert_array_equal(finding.evidence.details, np.arange(wrong))


def test_few_certain_predictions_are_not_judged():
    confidence = np.where(np.arange(100) < 19, 0.9999, 0.7)
    labels, logits = with_confidence(confidence, np.arange(100) > 12)
    assert verdict(predicted(labels, logits), "saturated_answer") == "fine"
    confidence[19] = 0.9999
    labels, logits = with_confidence(confidence, np.arange(100) > 12)
    assert verdict(predicted(labels, logits), "saturated_answer") == "fault"


@pytest.mark.parametrize(
    ("confidence", "wrong", "said"),
    [
        (0.95, 80, "fault"),
        (0.95, 20, "fine"),
        (0.75, 100, "fine"),
        (0.95, 60, "suspicious"),
        (0.6, 20, "fine"),  # underconfident
    ],
)
def test_more_confident_than_correct(confidence, wrong, said):
    labels, logits = with_confidence(np.full(400, confidence), np.arange(400) >= wrong)
    (finding,) = examined(predicted(labels, logits), "overconfident").findings
    assert finding.verdict == said
    share = 1 - wrong / 400
    error = np.sqrt(share * (1 - share) / 400)
    assert finding.value == pytest.approx(confidence - share - Z_ONE_IN_2000 * error, abs=1e-6)
    assert f"confidence is {confidence:.1%}, and its accuracy {share:.1%}" in finding.message


@pytest.mark.parametrize(
    ("root", "certain", "confident"),
    [
        (("missing_activation", "activation_inserted"), "suspicious", "suspicious"),
        (("class_order", "class_order"), "suspicious", "suspicious"),
        (("at_chance", "at_chance"), "suspicious", "suspicious"),
        (("channel_order", "unlike_training"), "suspicious", "suspicious"),
        (("constant_answer", "constant_answer"), "suspicious", "fault"),
        (("threshold", "threshold"), "fault", "suspicious"),
        (("channel_order", "channel_order"), "fault", "fault"),
        (("leak", "leak"), "fault", "fault"),
    ],
)
def test_what_explains_confidence_that_is_too_high(root, certain, confident):
    labels, logits = with_confidence(np.full(200, 0.9999), np.arange(200) >= 60)
    case = predicted(labels, logits)
    case.faults.add(root)
    report = examined(case, "saturated_answer", "overconfident")
    assert finding_of(report, "saturated_answer").verdict == certain
    assert finding_of(report, "overconfident").verdict == confident
