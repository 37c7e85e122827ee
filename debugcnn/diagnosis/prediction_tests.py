"""What the answers alone tell, from logits or probabilities (n, classes) and labels (n,)."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import binomtest

import debugcnn.quiet

from .statistics import SURE, skill_interval

SATURATED = 0.999  # probability


def interval(logits, labels):
    """(skill, low, high), at SURE standard errors."""
    return skill_interval(logits, labels, SURE)


def same_answer(probabilities):
    """The share of the photos that get the most frequent answer."""
    return float(np.bincount(probabilities.argmax(1)).max() / len(probabilities))


def spread(probabilities):
    """The standard deviation of the logarithm of the share of that class which varies most."""
    return float(np.log(np.maximum(probabilities, 1e-12)).std(0).max())


class Threshold(NamedTuple):
    """What another threshold between two classes would bring, or another bias for each of more
    classes, chosen on other photos. Each class counts the same, however many photos it has.
    """

    accuracy: float  # mean over the classes
    possible: float  # the same, with the better threshold
    error: float  # standard error of the difference
    plain: float  # gain in accuracy, each photo counting the same
    shifts: tuple  # of the logit of each class, less that of the first
    shares: tuple  # of each class among the answers


def threshold(logits, labels):
    """A Threshold: for each half of the photos it is chosen on the other half."""
    answered = logits.argmax(1)
    right = answered == labels
    fold = np.zeros(len(labels), int)
    for k in range(logits.shape[1]):  # every second photo of each class
        fold[np.flatnonzero(labels == k)[::2]] = 1
    shifts, better = [], np.zeros(len(labels), bool)
    choose = _best_cut if logits.shape[1] == 2 else _best_biases
    for part in (0, 1):
        shift = choose(logits[fold != part], labels[fold != part])
        shifts.append(shift)
        better[fold == part] = (logits[fold == part] + shift).argmax(1) == labels[fold == part]
    present = [labels == k for k in np.unique(labels)]
    won = better.astype(float) - right
    shares = np.bincount(answered, minlength=logits.shape[1]) / len(labels)
    return Threshold(
        float(np.mean([right[some].mean() for some in present])),
        float(np.mean([better[some].mean() for some in present])),
        float(np.sqrt(sum(won[some].var() / some.sum() for some in present)) / len(present)),
        float(won.mean()),
        tuple(map(float, np.mean(shifts, 0))),
        tuple(map(float, shares)),
    )


def is_probability(answers, cut):
    """Whether the answers (n,) of a linear unit are meant as probabilities: nearly all of them lie
    around 0 to 1, and not all at one place, or at least half of them and `cut`, the best threshold,
    is near one half.
    """
    if np.ptp(np.quantile(answers, [0.05, 0.95])) < 0.3:
        return False
    inside = np.mean((answers > -0.1) & (answers < 1.1))
    return bool(inside > 0.8 or (inside > 0.5 and cut and abs(cut - 0.5) < 0.25))


def _of_equal_weight(labels):
    """(n,) weights that sum to 1, and to the same for each class."""
    counts = np.bincount(labels)
    return 1 / counts[labels] / np.sum(counts > 0)


def _best_cut(logits, labels):
    """What to add to the logits of two classes so that most are right, each class counting the
    same; the middle of several such.
    """
    x = logits[:, 1] - logits[:, 0]
    order = np.argsort(x)
    weights = _of_equal_weight(labels)[order] * np.where(labels[order] == 1, -1, 1)
    right = np.round(np.r_[0, np.cumsum(weights)], 9)  # k lowest called 0, less what none gives
    best = np.flatnonzero(right == right.max())
    edges = np.r_[x.min() - 1, (x[order][1:] + x[order][:-1]) / 2, x.max() + 1]
    return np.array([0, -edges[best[len(best) // 2]]])


def _best_biases(logits, labels):
    """What to add to the logits of many classes for the least cross-entropy at the best scale, each
    class counting the same (Guo et al. 2017, section 4.2, with one scale for all classes).
    """
    given = logits - logits.mean(1, keepdims=True)
    spread = given.std() or 1
    given, truth = given / spread, np.eye(logits.shape[1])[labels]
    counts = _of_equal_weight(labels)[:, None]

    def loss(weights):
        scale, biases = np.exp(weights[0]), weights[1:]
        scores = scale * given + biases
        shares = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
        slope = (shares - truth) * counts
        unlikely = -np.sum(counts * truth * np.log(np.maximum(shares, 1e-30)))
        towards = np.r_[scale * np.sum(slope * given), slope.sum(0)] + 2e-3 * weights
        return unlikely + 1e-3 * np.sum(weights**2), towards

    weights = minimize(loss, np.zeros(1 + logits.shape[1]), jac=True, method="L-BFGS-B").x
    biases = weights[1:] / np.exp(weights[0]) * spread
    return biases - biases[0]


def order_of_classes(logits, labels):
    """(accuracy, accuracy with each label paired with the answer that suits it best)."""
    counts = debugcnn.confusion_matrix(labels, logits.argmax(1), logits.shape[1])
    return counts.trace() / len(labels), debugcnn.best_pairing(counts) / len(labels)


class Saturated(NamedTuple):
    """Answers of at least 99.9 %."""

    count: int
    wrong: int
    low: float  # of the share that is wrong, at SURE standard errors


def saturated_answer(probabilities, labels):
    """A Saturated: how many answers are saturated, and how many of those are wrong."""
    sure = probabilities.max(1) >= SATURATED
    count, wrong = int(sure.sum()), int(np.sum(sure & (probabilities.argmax(1) != labels)))
    low = binomtest(wrong, count).proportion_ci(0.999, "wilson").low if count else 0.0
    return Saturated(count, wrong, float(low))


class Confidence(NamedTuple):
    """How sure the net is, beside how often it is right."""

    mean: float
    accuracy: float
    low: float  # of the difference, at SURE standard errors


def overconfident(probabilities, labels):
    """A Confidence."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    gap = sure - right
    return Confidence(
        float(sure.mean()),
        float(right.mean()),
        float(gap.mean() - SURE * gap.std() / np.sqrt(len(gap))),
    )
