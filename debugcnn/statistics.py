"""How well scores separate classes, how sure that is, and counts of correct predictions."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest, rankdata

BOOTSTRAP_DRAWS = 400
MIN_MINORITY_IMAGES = 10  # outside the most frequent class; with fewer, nothing is compared
Z_ONE_IN_2000 = 3.3  # standard errors that chance exceeds once in 2,000 one-sided comparisons


class Comparison(NamedTuple):
    """The AUC of a model on the same images before and after a change."""

    before: float
    after: float
    error: float  # standard error of the difference
    error_after: float  # standard error of `after`

    @property
    def gain(self) -> float:
        return self.after - self.before

    def is_clear(self, margin: float) -> bool:
        """Whether `after` is better by more than `margin`, and beyond chance."""
        return self.gain > margin and self.gain - Z_ONE_IN_2000 * self.error > 0


def binary_auc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the probability that class 1 scores higher than class 0.

    `scores` (..., n) and `labels` (..., n) of 0 and 1; ties count half (Mann and Whitney, 1947, On
    a test of whether one of two random variables is stochastically larger than the other).
    """
    ranks = rankdata(scores, axis=-1)
    ones = np.sum(labels == 1, -1)
    zeros = np.sum(labels == 0, -1)
    above = np.sum(ranks * (labels == 1), -1) - ones * (ones + 1) / 2
    return above / np.maximum(ones * zeros, 1)


def auc(logits: ArrayLike, labels: np.ndarray) -> np.ndarray:
    """How well `logits` (..., n, classes) separate the `labels` (..., n), whatever the threshold.

    For two classes this is the area under the ROC curve; for more, the mean of the one-against-rest
    areas over the classes that occur (compare Hand and Till, 2001, section 2). 0.5 is chance.
    """
    logits = np.nan_to_num(np.asarray(logits, np.float64), posinf=1e30, neginf=-1e30)
    if logits.shape[-1] == 2:
        return binary_auc(logits[..., 1] - logits[..., 0], labels)
    highest = logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp(logits - highest).sum(-1, keepdims=True))
    scores = logits - highest - log_sum  # logarithms of the probabilities
    return np.mean([binary_auc(scores[..., k], labels == k) for k in np.unique(labels)], 0)


def resampled(labels: np.ndarray, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> np.ndarray:
    """Indices (draws, n) of images drawn with replacement, stratified by class."""
    generator = np.random.default_rng(seed)
    strata = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    return np.concatenate([generator.choice(s, (draws, len(s))) for s in strata], 1)


def auc_interval(
    logits: np.ndarray, labels: np.ndarray, z: float = 1.96
) -> tuple[float, float, float]:
    """(AUC, low, high): an interval of `z` bootstrap standard errors to each side."""
    drawn = resampled(labels)
    value = float(auc(logits, labels))
    error = auc(logits[drawn], labels[drawn]).std()
    return value, float(value - z * error), float(value + z * error)


def compare(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> Comparison:
    """A Comparison of two sets of logits (n, classes) for the same images: a paired bootstrap."""
    drawn = resampled(labels)
    first, second = (auc(logits[drawn], labels[drawn]) for logits in (before, after))
    return Comparison(
        float(auc(before, labels)),
        float(auc(after, labels)),
        float(np.std(second - first)),
        float(np.std(second)),
    )


def enough_to_compare(labels: np.ndarray) -> bool:
    """Whether MIN_MINORITY_IMAGES lie outside the most frequent class, and twice as many exist."""
    largest = max(np.bincount(labels), default=0)
    minority = len(labels) - largest
    return len(labels) >= 2 * MIN_MINORITY_IMAGES and minority >= MIN_MINORITY_IMAGES


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval (low, high), from 0 to 1, of the share `correct` of `count`.

    Wilson, 1927, Journal of the American Statistical Association 22.

    >>> [round(bound, 3) for bound in wilson_interval(90, 100)]
    [0.826, 0.945]
    """
    low, high = binomtest(int(correct), int(count)).proportion_ci(method="wilson")
    return float(low), float(high)


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: int) -> np.ndarray:
    """Counts of images (classes, classes): a row for each label, a column for each prediction.

    `labels` and `predicted` are class numbers (n,).

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def best_pairing(counts: ArrayLike) -> int:
    """How many images of a confusion matrix would be correct if classes were renamed one to one.

    This exceeds the sum of the diagonal where the class names are in the wrong order.

    >>> best_pairing([[1, 9], [8, 2]])
    17
    """
    counts = np.asarray(counts)
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum())
