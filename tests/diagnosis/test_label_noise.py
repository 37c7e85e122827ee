"""Wrong labels: the cause "label_noise"."""

import numpy as np
import pytest
from scipy.special import softmax
from tiny_classifiers import (
    SIDE,
    case_of,
    colours,
    examined,
    finding_of,
    mean_colour_reader,
    softmax_of,
    textured,
    two_classes,
    verdict,
)

import debugcnn
from debugcnn.diagnosis.causes.label_noise import noise_of


def drawn_labels(count, classes, wrong=0.0, seed=0, strength=3.0):
    """Logits, labels that are drawn from them, of which a share is then changed, and which."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1, (count, classes))
    logits[np.arange(count), generator.integers(0, classes, count)] += 2 * strength
    logits *= generator.uniform(0.1, 2, (count, 1))  # more confident of some than of others
    labels = (softmax(logits, 1).cumsum(1) > generator.random((count, 1))).argmax(1)
    changed = generator.random(count) < wrong
    labels[changed] = (labels[changed] + generator.integers(1, classes, changed.sum())) % classes
    return logits, labels, changed


@pytest.mark.parametrize(("classes", "wrong"), [(2, 0.2), (5, 0.1)])
def test_the_share_of_wrong_labels_is_estimated(classes, wrong):
    logits, labels, changed = drawn_labels(1000, classes, wrong)
    noise = noise_of(logits, labels)
    error = np.sqrt(wrong / 1000)  # of counting them; what is not seen costs more
    assert noise.share == pytest.approx(changed.mean(), abs=3 * error) and noise.gain > 3


def test_labels_without_noise_gain_nothing_whatever_the_temperature():
    logits, labels, _ = drawn_labels(200, 3, 0)
    plain, softer = noise_of(logits, labels), noise_of(logits * 1e-3, labels)
    assert plain.gain < 1 and plain.share < 0.02
    assert (softer.share, softer.gain) == pytest.approx((plain.share, plain.gain), abs=0.02)
    logits, labels, _ = drawn_labels(200, 3, 0.15)
    plain, harder = noise_of(logits, labels), noise_of(logits * 1e3, labels)
    assert (plain.share, plain.gain) == pytest.approx((harder.share, harder.gain), rel=0.05)
    assert plain.gain > 1


def test_wrong_labels_come_first_where_the_model_is_confident():
    logits, labels, changed = drawn_labels(600, 3, 0.1, strength=4.0)
    noise = noise_of(logits, labels)
    assert noise.count == 200 and 0.05 < noise.share < 0.15 and noise.gain > 6
    assert changed[noise.confident[:20]].all()
    assert set(np.flatnonzero(changed)) <= set(noise.confident)
    ordered = np.sort(logits, 1)
    margin = ordered[:, -1] - ordered[:, -2]
    assert np.all(np.diff(margin[noise.confident]) <= 0)
    top, bottom = np.argsort(-margin)[:200], np.argsort(-margin)[-200:]
    wrong = logits.argmax(1) != labels
    assert noise.wrong == wrong[top].sum()
    assert noise.ratio == pytest.approx(wrong[top].mean() / wrong[bottom].mean())
    assert noise.near == pytest.approx(np.mean(margin < 0.25 * np.median(margin)))
    logits, labels, _ = drawn_labels(300, 3, 0, strength=1.0)
    own = noise_of(logits, labels)
    assert own.ratio < 0.3 and own.gain < 2  # its own mistakes have small margins


def test_wrong_labels_differ_from_a_weak_model():
    generator = np.random.default_rng(0)
    labels = np.arange(600) % 2
    logits = two_classes(4.0 * labels - 2 + generator.normal(size=600))
    wrong = generator.random(600) < 0.15
    noisy = noise_of(logits, np.where(wrong, 1 - labels, labels))
    assert noisy.low > 0.05 and noisy.near < 0.06 and wrong[noisy.confident[:10]].all()
    weak = noise_of(logits + generator.normal(0, 3, (600, 2)), labels)
    assert weak.near > 0.1 and weak.ratio < 0.5
    assert noise_of(logits, labels).wrong == 0


@pytest.mark.parametrize(
    ("classes", "wrong", "strength", "said"),
    [(2, 0.15, 3.0, "fault"), (2, 0.0, 3.0, "fine"), (3, 0.1, 4.0, "fault")],
)
def test_label_noise_is_a_fault_of_the_labels(classes, wrong, strength, said):

    logits, labels, changed = drawn_labels(600, classes, wrong, strength=strength)
    images = np.random.default_rng(0).uniform(0, 255, (600, SIDE, SIDE, 3))
    case = case_of(softmax_of(classes), images, labels, logits)
    (finding,) = examined(case, "label_noise").findings
    assert finding.verdict == said
    if said == "fault":
        assert changed[finding.evidence.details.confident[:10]].mean() > 0.8
        assert "of the 200 most confident predictions contradict their label" in finding.message


@pytest.mark.parametrize("confident", [True, False])
def test_less_noise_is_enough_where_the_model_is_overconfident_anyway(confident):
    """Overconfidence or wrong labels: a log-likelihood ratio of 3.5 instead of 6 decides."""
    images = np.random.default_rng(0).uniform(0, 255, (200, SIDE, SIDE, 3))
    logits, labels, _ = drawn_labels(200, 2, 0.12, seed=6, strength=1.5)
    noise = noise_of(logits, labels)
    assert 3.5 < noise.gain < 6 and noise.share > 0.03 and noise.near > 0.08
    case = case_of(mean_colour_reader(), images, labels, logits)
    if confident:
        case.faults.add(("overconfident", "overconfident"))
    assert verdict(case, "label_noise") == ("fault" if confident else "fine")


@pytest.mark.parametrize(
    ("mistakes", "known", "noise", "memorised"),
    [
        ("any margin", True, "fault", "suspicious"),
        ("small margins", True, "fine", "fault"),
        ("any margin", False, "fault", "fine"),
    ],
)
def test_wrong_labels_or_memorized_images(mistakes, known, noise, memorised):
    """A model that knows its training images is wrong about others where it hesitates; where
    labels are wrong, it is wrong whatever its confidence.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 2
    margin = generator.uniform(1, 8, 300)
    margin[generator.random(300) < 0.3] *= 0.1
    chance = 0.2 if mistakes == "any margin" else np.where(margin < 1.5, 0.5, 0.04)
    wrong = generator.random(300) < chance
    logits = two_classes(margin * np.where(wrong, -1, 1) * (2 * labels - 1))
    images, trained = textured(300, SIDE), textured(300, SIDE, seed=1)
    predicted = debugcnn.logits(mean_colour_reader(), trained / 255).argmax(1)
    flipped = generator.random(300) < (0 if known else 0.2)
    trained_labels = np.where(flipped, 1 - predicted, predicted)
    case = case_of(mean_colour_reader(), images, labels, logits, train=(trained, trained_labels))
    report = examined(case, "label_noise", "memorised")
    assert finding_of(report, "label_noise").verdict == noise
    assert finding_of(report, "memorised").verdict == memorised


@pytest.mark.parametrize(
    "root",
    [
        ("not_finite", "not_finite"),
        ("untrained_layer", "last_layer"),
        ("batch_statistics", "depends_on_batch"),
        ("channel_order", "unlike_training"),
        ("class_order", "class_order"),
        ("constant_answer", "constant_answer"),
        ("at_chance", "at_chance"),
        ("shortcut", "global_property"),
    ],
)
def test_labels_are_not_judged_by_a_model_that_is_wrong_itself(root):
    logits, labels, _ = drawn_labels(300, 2, 0.15, strength=4.0)
    images = np.zeros((300, SIDE, SIDE, 3))
    case = case_of(mean_colour_reader(), images + np.arange(SIDE)[:, None], labels, logits)
    case.faults.add(root)
    (finding,) = examined(case, "label_noise").findings
    assert finding.verdict == "not examined" and root[0] in finding.message


def test_labels_are_judged_where_the_input_was_corrected():
    logits, labels, _ = drawn_labels(300, 2, 0.15, strength=4.0)
    case = case_of(mean_colour_reader(), textured(300, SIDE), labels, logits)
    case.faults.add(("channel_order", "channel_order"))
    assert verdict(case, "label_noise") == "fault"


def test_labels_are_not_judged_by_a_model_that_knows_little():
    images, labels = colours(200)
    logits = two_classes(np.random.default_rng(0).normal(size=200))
    case = case_of(mean_colour_reader(), images, labels, logits)
    (finding,) = examined(case, "label_noise").findings
    assert finding.message == "The model knows too little to judge labels."
