"""What predictions show, given the labels."""

import numpy as np
import pytest
from scipy.stats import norm
from tiny_classifiers import (
    case_of,
    colours,
    examined,
    finding_of,
    mean_colour_reader,
    normal_logits,
    predicted,
    three_colour_reader,
    three_colours,
    two_classes,
    with_mistakes,
)

from debugcnn.statistics import Z_ONE_IN_2000

# ---------------------------------------------------------- class_order, at_chance, constant_answer


@pytest.mark.parametrize(
    ("wrong", "said"), [(0, "fine"), (100, "fine"), (114, "fine"), (190, "fault"), (200, "fault")]
)
def test_two_classes_in_the_wrong_order_have_an_auc_below_chance(wrong, said):
    labels = np.arange(200) % 2
    case = predicted(labels, with_mistakes(labels, wrong))
    (finding,) = examined(case, "class_order").findings
    assert finding.verdict == said and finding.value == pytest.approx(case.auc.high)
    assert (case.auc.high < 0.4) is (said == "fault")


@pytest.mark.parametrize(
    ("correct", "paired", "said"),
    [(0.3, 0.6, "fault"), (0.3, 0.4, "fine"), (0.4, 0.57, "fine"), (0.2, 0.47, "fault")],
)
def test_classes_are_renamed_where_many_more_are_correct_then(correct, paired, said):
    labels = np.arange(90) % 3
    predictions = labels.copy()
    for k in range(3):
        own = np.flatnonzero(labels == k)
        first, second = round(correct * len(own)), round(paired * len(own))
        predictions[own[first:]] = (k + 2) % 3
        predictions[own[first : first + second]] = (k + 1) % 3
    report = examined(predicted(labels, 5.0 * np.eye(3)[predictions]), "class_order")
    (finding,) = report.findings
    assert finding.verdict == said
    assert finding.value == pytest.approx(paired - correct, abs=0.02)
    assert f"accuracy from {correct:.1%}" in finding.message or said == "fine"


@pytest.mark.parametrize(
    ("strength", "count", "said"),
    [
        (0.0, 400, "fault"),
        (0.1, 400, "fault"),
        (1.0, 400, "fine"),
        (0.4, 400, "fine"),  # weak, but beyond chance
        (0.0, 40, "suspicious"),  # too few to exclude an AUC of 0.65
        (-1.0, 400, "fine"),  # that is the order of the classes
    ],
)
def test_predictions_no_better_than_guessing(strength, count, said):
    labels = np.arange(count) % 2
    report = examined(
        predicted(labels, normal_logits(labels, strength)), "at_chance", "class_order"
    )
    finding = finding_of(report, "at_chance")
    assert finding.verdict == said
    auc = report.case.auc
    upper = auc.value + norm.ppf(0.975) * (auc.high - auc.value) / Z_ONE_IN_2000
    assert finding.value == pytest.approx(upper, abs=1e-4)
    assert finding_of(report, "class_order").verdict == ("fault" if strength < 0 else "fine")


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (("dead_filters", "zeroed"), "suspicious"),
        (("not_finite", "not_finite"), "suspicious"),
        (("missing_activation", "activation_inserted"), "suspicious"),
        (("resize", "unlike_training"), "suspicious"),
        (("threshold", "balance_of_training"), "suspicious"),
        (("memorised", "memorised"), "suspicious"),
        (("threshold", "threshold"), "fault"),
        (("resize", "resize"), "fault"),
        (("leak", "leak"), "fault"),
    ],
)
def test_what_explains_guesses_and_one_prediction_for_all(root, said):
    labels = np.arange(400) % 2
    guesses = two_classes(normal_logits(labels, 0)[:, 1] - 9)  # always class 0
    case = predicted(labels, guesses)
    case.faults.add(root)
    report = examined(case, "at_chance", "constant_answer")
    assert finding_of(report, "at_chance").verdict == said
    constant = "fault" if root[0] == "memorised" else said
    assert finding_of(report, "constant_answer").verdict == constant


@pytest.mark.parametrize(
    ("others", "ones", "said"),
    [
        (0, 0.5, "fault"),
        (1, 0.5, "fault"),  # of 400
        (3, 0.5, "fine"),
        (0, 0.89, "fault"),
        (0, 0.91, "fine"),  # nearly all labels are of this class
    ],
)
def test_one_prediction_for_everything(others, ones, said):
    labels = np.int64(np.arange(400) < 400 * ones)
    scores = 3 + np.random.default_rng(0).uniform(0, 0.1, 400)
    scores[np.flatnonzero(labels == 0)[:others]] = -3
    (finding,) = examined(predicted(labels, two_classes(scores)), "constant_answer").findings
    assert (finding.verdict, finding.value) == (said, 1 - others / 400)


# ------------------------------------------------------------------------------------- not a number


def test_nothing_is_said_of_predictions_that_are_not_finite():
    labels = np.arange(40) % 2
    logits = with_mistakes(labels, 4)
    logits[3] = np.nan
    causes = "at_chance", "class_order", "constant_answer", "threshold", "overconfident"
    report = examined(predicted(labels, logits), *causes, "saturated_answer")
    assert {f.verdict for f in report.findings} == {"not examined"}
    assert (report.accuracy, report.accuracy_as_fed, report.auc) == (None, None, None)
    assert str(report).startswith("40 images; the predictions are not finite")


def test_accuracy_counts_what_is_predicted():
    labels = np.arange(200) % 2
    report = examined(predicted(labels, with_mistakes(labels, 37)), "at_chance")
    assert report.accuracy == report.accuracy_as_fed == 1 - 37 / 200 and report.images == 200
    report = examined(case_of(three_colour_reader(), *three_colours()), "at_chance")
    assert (report.accuracy, report.auc) == (1, 1)


def test_a_model_that_reads_is_not_changed_by_reading_it():
    case = case_of(mean_colour_reader(), *colours(40))
    before = [np.array(w) for w in case.model.get_weights()]
    examined(case, "at_chance", "dead_filters", "exploding", "not_finite")
    assert all(np.array_equal(a, b) for a, b in zip(before, case.model.get_weights()))
