"""What the answers alone tell, from logits or probabilities (n, classes) and labels (n,)."""

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

import visualize

from .statistics import SURE, skill_interval

SATURATED = 0.999  # probability


class Threshold(NamedTuple):
    """What another threshold between two classes would bring, chosen on other photos."""

    accuracy: float
    possible: float  # accuracy with the better threshold
    p: float  # of a sign test on the photos that change
    shift: float  # of the logit difference
    shares: tuple  # of each class among the answers


def interval(logits, labels):
    """(skill, low, high), at SURE standard errors."""
    return skill_interval(logits, labels, SURE)


def same_answer(probabilities):
    """The share of the photos that get the most frequent answer."""
    return float(np.bincount(probabilities.argmax(1)).max() / len(probabilities))


def threshold(logits, labels):
    """A Threshold: for each half of the photos it is chosen on the other half."""
    x = logits[:, 1] - logits[:, 0]
    right = (x > 0) == labels
    fold = np.zeros(len(x), int)
    for k in (0, 1):  # every second photo of each class
        fold[np.flatnonzero(labels == k)[::2]] = 1
    shifts, better = [], np.zeros(len(x), bool)
    for part in (0, 1):
        shift = _best_cut(x[fold != part], labels[fold != part])
        shifts.append(shift)
        better[fold == part] = (x[fold == part] > shift) == labels[fold == part]
    won, lost = int(np.sum(better & ~right)), int(np.sum(right & ~better))
    p = binomtest(won, won + lost).pvalue if won > lost else 1.0
    shares = tuple(np.bincount((x > 0).astype(int), minlength=2) / len(x))
    return Threshold(
        float(right.mean()), float(better.mean()), float(p), float(np.mean(shifts)), shares
    )


def _best_cut(x, labels):
    """The cut of x with the most right answers; in the middle of several such."""
    order = np.argsort(x)
    ones = labels[order]
    right = np.r_[ones.sum(), ones.sum() + np.cumsum(1 - 2 * ones)]  # k lowest called 0
    best = np.flatnonzero(right == right.max())
    edges = np.r_[x.min() - 1, (x[order][1:] + x[order][:-1]) / 2, x.max() + 1]
    return edges[best[len(best) // 2]]


def order_of_classes(logits, labels):
    """(accuracy, accuracy with each label paired with the answer that suits it best)."""
    counts = visualize.confusion(labels, logits.argmax(1), logits.shape[1])
    return counts.trace() / len(labels), visualize.best_pairing(counts) / len(labels)


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
