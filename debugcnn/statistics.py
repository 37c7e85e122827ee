"""How well scores tell classes apart, and whether one set of scores does so better than another."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest, rankdata

DRAWS = 400  # bootstrap samples
FEW = 10  # photos that are not of the most frequent class, below which nothing is compared
SURE = 3.3  # standard errors: one false alarm in two thousand comparisons


class Comparison(NamedTuple):
    """Two ways to feed the same net with the same photos."""

    before: float  # skill, see `skill`
    after: float
    error: float  # standard error of the difference
    error_after: float  # standard error of `after`

    @property
    def gain(self):
        return self.after - self.before

    def is_clear(self, margin):
        """Whether `after` is better by more than `margin`, beyond chance."""
        return self.gain > margin and self.gain - SURE * self.error > 0


def auc(scores, labels):
    """Area under the ROC curve: how often a photo of class 1 scores higher than one of class 0.

    `scores` (..., n) and `labels` (..., n) of 0 and 1; ties count half (Mann and Whitney 1947).
    """
    ranks = rankdata(scores, axis=-1)
    ones = np.sum(labels == 1, -1)
    zeros = np.sum(labels == 0, -1)
    above = np.sum(ranks * (labels == 1), -1) - ones * (ones + 1) / 2
    return above / np.maximum(ones * zeros, 1)


def skill(logits, labels):
    """How well `logits` (..., n, classes) tell the `labels` (..., n) apart, whatever the threshold.

    Of two classes the area under the curve; of more, the mean of those of each class against the
    rest (Hand and Till 2001), over the classes that have photos. One half is chance.
    """
    logits = np.nan_to_num(np.asarray(logits, np.float64), posinf=1e30, neginf=-1e30)
    if logits.shape[-1] == 2:
        return auc(logits[..., 1] - logits[..., 0], labels)
    present = np.unique(labels)
    highest = logits.max(-1, keepdims=True)
    shares = logits - highest - np.log(np.exp(logits - highest).sum(-1, keepdims=True))
    return np.mean([auc(shares[..., k], np.int32(labels == k)) for k in present], 0)


def resampled(labels, draws=DRAWS, seed=0):
    """Indices (draws, n) of photos drawn with replacement, as many of each class as there are."""
    generator = np.random.default_rng(seed)
    parts = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    return np.concatenate([generator.choice(p, (draws, len(p))) for p in parts], 1)


def skill_interval(logits, labels, z=1.96):
    """(skill, low, high), by the bootstrap's standard error."""
    drawn = resampled(labels)
    value = float(skill(logits, labels))
    error = skill(logits[drawn], labels[drawn]).std()
    return value, float(value - z * error), float(value + z * error)


def compare(before, after, labels):
    """A Comparison of two sets of logits (n, classes) of the same photos, by a paired bootstrap."""
    drawn = resampled(labels)
    first, second = (skill(logits[drawn], labels[drawn]) for logits in (before, after))
    return Comparison(
        float(skill(before, labels)),
        float(skill(after, labels)),
        float(np.std(second - first)),
        float(np.std(second)),
    )


def enough(labels):
    """Whether there are enough photos to compare anything: FEW that are not of the most frequent
    class, and as many others.
    """
    most = max(np.bincount(labels), default=0)
    return len(labels) >= 2 * FEW and len(labels) - most >= FEW


def wilson_interval(right, count):
    """The 95 % interval of a share, `right` of `count`: (low, high) from 0 to 1.

    Wilson's interval (Journal of the American Statistical Association 22, 1927).
    """
    return tuple(binomtest(int(right), int(count)).proportion_ci(method="wilson"))


def confusion_matrix(labels, answers, classes):
    """Counts of photos, (classes, classes): a row for each label, a column for each answer.

    `labels` and `answers` are classes, (n,) whole numbers.
    """
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, answers), 1)
    return counts


def best_pairing(counts):
    """How many photos of a confusion are right if each label is paired with the answer that suits
    it best, one to one: more than its diagonal where the classes were mixed up.
    """
    counts = np.asarray(counts)
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum())
