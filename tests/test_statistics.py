"""Statistics of predictions, against closed forms, SciPy, and counting by hand."""

from itertools import permutations

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import mannwhitneyu, norm

from debugcnn.statistics import (
    MIN_MINORITY_IMAGES,
    auc,
    auc_interval,
    best_pairing,
    binary_auc,
    compare,
    confusion_matrix,
    enough_to_compare,
    resampled,
    wilson_interval,
)


def two_classes(scores):
    """Logits (n, 2) of one score for each image, above 0 for class 1."""
    return np.stack([-scores, scores], -1)


# --------------------------------------------------------------------------------------------- AUC


def test_the_area_under_the_roc_curve_counts_pairs():
    generator = np.random.default_rng(0)
    scores, labels = generator.integers(0, 6, (3, 30)), generator.integers(0, 2, 30)
    areas = binary_auc(scores, np.tile(labels, (3, 1)))
    for row, area in zip(scores, areas):
        ones, zeros = row[labels == 1], row[labels == 0]
        pairs = (ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)
        assert area == pytest.approx(pairs.mean())
        assert area == pytest.approx(mannwhitneyu(ones, zeros).statistic / pairs.size)


def test_without_a_pair_the_area_is_zero_rather_than_an_error():
    assert binary_auc(np.arange(4.0), np.ones(4, int)) == 0


def test_auc_of_two_classes_is_that_of_their_difference():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(50, 2)), np.arange(50) % 2
    assert auc(logits, labels) == binary_auc(logits[:, 1] - logits[:, 0], labels)
    assert auc(two_classes(labels - 0.5), labels) == 1
    assert auc(two_classes(0.5 - labels), labels) == 0


def test_auc_of_more_classes_is_the_mean_of_each_against_the_rest():
    labels = np.arange(60) % 3
    logits = np.eye(3)[labels] * 2 + np.random.default_rng(0).normal(size=(60, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    areas = [binary_auc(probabilities[:, k], np.int32(labels == k)) for k in range(3)]
    assert auc(logits, labels) == pytest.approx(np.mean(areas)) and auc(logits, labels) > 0.8
    assert auc(logits + 1000, labels) == pytest.approx(np.mean(areas))  # no overflow
    assert auc(logits[:, [1, 2, 0]], labels) < 0.5
    assert auc(np.zeros((60, 3)), labels) == 0.5
    present = labels < 2  # a class without images does not count
    areas = [binary_auc(probabilities[present, k], np.int32(labels[present] == k)) for k in (0, 1)]
    assert auc(logits[present], labels[present]) == pytest.approx(np.mean(areas))


def test_auc_of_several_draws_at_once():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(4, 30, 3)), generator.integers(0, 3, (4, 30))
    labels[:, :3] = [0, 1, 2]
    each = [auc(own, truth) for own, truth in zip(logits, labels)]
    np.testing.assert_allclose(auc(logits, labels), each)


def test_infinite_logits_are_the_highest_and_nan_counts_as_zero():
    logits = np.array([[-np.inf, np.inf], [np.inf, -np.inf], [0, 1], [np.nan, -1]])
    assert auc(logits, np.array([1, 0, 1, 0])) == 1
    assert auc(logits, np.array([0, 1, 1, 0])) == 0.25  # 1 pair of 4 is in order


# --------------------------------------------------------------------------------------- intervals


def test_the_interval_covers_the_true_auc_as_often_as_it_says():
    """Normal scores one standard deviation apart have an AUC of Phi(1 / sqrt 2) = 0.760."""
    generator, truth, labels = np.random.default_rng(0), ndtr(np.sqrt(0.5)), np.arange(200) % 2
    inside = 0
    for _ in range(60):
        value, low, high = auc_interval(
            two_classes(labels + generator.normal(size=200)), labels, z=1.645
        )
        assert low < value < high
        inside += low < truth < high
    assert 48 <= inside <= 59  # 54 of 60 expected at 90 %, with a standard deviation of 2.3


def test_the_interval_narrows_with_more_images_and_widens_with_z():
    widths = {}
    for count in (100, 900):
        labels = np.arange(count) % 2
        logits = two_classes(labels + np.random.default_rng(1).normal(size=count))
        for z in (1, 3.3):
            _, low, high = auc_interval(logits, labels, z)
            widths[count, z] = high - low
    assert widths[100, 1] / widths[900, 1] == pytest.approx(3, rel=0.25)  # the root of 9
    assert widths[100, 3.3] == pytest.approx(3.3 * widths[100, 1])


def test_resampling_keeps_the_classes_as_they_are():
    labels = np.repeat([0, 1, 4], [5, 30, 2])
    drawn = resampled(labels, draws=50)
    assert drawn.shape == (50, 37)
    counts = [np.bincount(labels[row], minlength=5).tolist() for row in drawn]
    assert counts == [[5, 30, 0, 0, 2]] * 50
    assert len({tuple(row) for row in drawn.tolist()}) == 50
    np.testing.assert_array_equal(drawn, resampled(labels, draws=50))
    assert (drawn != resampled(labels, draws=50, seed=1)).any()


@pytest.mark.parametrize(("correct", "count"), [(0, 10), (3, 10), (10, 10), (480, 500)])
def test_the_wilson_interval_in_closed_form(correct, count):
    z, share = norm.ppf(0.975), correct / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) * z / (1 + z**2 / count)
    expected = max(0, centre - half), min(1, centre + half)
    assert wilson_interval(correct, count) == pytest.approx(expected, abs=1e-9)


# -------------------------------------------------------------------------------------- comparison


def test_a_comparison_is_clear_only_beyond_chance_and_beyond_the_margin():
    labels = np.arange(400) % 2
    noise = np.random.default_rng(0).normal(size=(3, 400))
    weak, same = two_classes(labels + noise[0]), two_classes(labels + noise[1])
    strong = two_classes(3 * labels + noise[2])
    for before, after, margin, clear in (
        (weak, same, 0, False),
        (same, weak, 0, False),
        (weak, strong, 0, True),
        (weak, strong, 0.5, False),
        (strong, weak, 0, False),
    ):
        comparison = compare(before, after, labels)
        assert comparison.is_clear(margin) is clear
        assert comparison.before == pytest.approx(auc(before, labels))
        assert comparison.after == pytest.approx(auc(after, labels))
        assert comparison.gain == comparison.after - comparison.before


def test_a_comparison_is_paired():
    """The same small change on every image is certain, though each AUC alone is not."""
    labels = np.arange(200) % 2
    scores = labels + np.random.default_rng(0).normal(size=200)
    better = compare(two_classes(scores), two_classes(scores + 0.3 * labels), labels)
    assert better.error < 0.5 * better.error_after and better.is_clear(0)
    unchanged = compare(two_classes(scores), two_classes(scores), labels)
    assert (unchanged.gain, unchanged.error) == (0, 0) and not unchanged.is_clear(0)


def test_the_error_of_a_comparison_is_as_it_varies():
    generator, labels = np.random.default_rng(0), np.arange(200) % 2
    gains, errors, errors_after, after = [], [], [], []
    for _ in range(40):
        first, second = labels + generator.normal(size=(2, 200))
        comparison = compare(two_classes(first), two_classes(second + labels), labels)
        gains.append(comparison.gain)
        errors.append(comparison.error)
        after.append(comparison.after)
        errors_after.append(comparison.error_after)
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.35)
    assert np.mean(errors_after) == pytest.approx(np.std(after), rel=0.35)


@pytest.mark.parametrize(
    ("counts", "enough"),
    [
        ([50, 9], False),
        ([10, 10], True),
        ([10, 9], False),
        ([5] * 12, True),
        ([5, 5, 5, 4], False),  # 14 outside the largest class, and 19 in all
        ([5, 5, 5, 5], True),
        ([30], False),
        ([0, 0, 10, 10], True),
    ],
)
def test_how_many_images_are_enough(counts, enough):
    assert MIN_MINORITY_IMAGES == 10
    assert enough_to_compare(np.repeat(np.arange(len(counts)), counts)) == enough


def test_no_image_is_not_enough():
    assert not enough_to_compare(np.zeros(0, int))


# ---------------------------------------------------------------------------------------- counting


def test_the_confusion_matrix_has_a_row_for_each_label():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 4, (2, 90))
    counts = confusion_matrix(labels, predicted, 5)
    expected = [[np.sum((labels == i) & (predicted == j)) for j in range(5)] for i in range(5)]
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype.kind == "i" and counts[4].sum() == 0


def test_the_best_pairing_by_trying_all():
    counts = np.random.default_rng(0).integers(0, 50, (4, 4))
    best = max(sum(counts[range(4), list(order)]) for order in permutations(range(4)))
    assert best_pairing(counts) == best > counts.trace()
    assert best_pairing([[1, 9], [8, 2]]) == 17
