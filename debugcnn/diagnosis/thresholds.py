"""What another threshold, or another bias for each class, would bring."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from ..statistics import Z_ONE_IN_2000
from .forms import KNOWS_SOMETHING

# Origin of these: set by hand on biased heads and healthy models of the development half.
LIMIT_GAIN = 0.03  # accuracy
MIN_EXCESS = 0.1  # by which one of many classes is predicted more often than it occurs
SURE_ANYWAY = 5  # standard errors of a gain, which counts without that
LARGE_EXCESS, Z_LARGE_EXCESS = 0.25, 1.96  # beyond such an excess a less certain gain is enough


class Threshold(NamedTuple):
    """What another threshold between two classes brings, or another bias for each of more classes,
    chosen on other images. Each class counts the same, however many images it has.
    """

    accuracy: float  # mean over the classes
    possible: float  # the same, with the better threshold
    error: float  # standard error of the difference
    plain: float  # gain in accuracy, each image counting the same
    shifts: tuple  # of the logit of each class, relative to the first
    shares: tuple  # of each class among the predictions
    excess: tuple  # of these over the shares among the labels
    helps: bool  # clearly, of a model that knows something

    @property
    def gain(self) -> float:
        return self.possible - self.accuracy


def better_threshold(case) -> Threshold:
    """The Threshold of a case, measured once."""
    if case.threshold is None:
        found = threshold(case.logits, case.labels)
        case.threshold = found._replace(helps=found.helps and case.auc.low > KNOWS_SOMETHING)
    return case.threshold


def threshold(logits: np.ndarray, labels: np.ndarray) -> Threshold:
    """A Threshold: for each half of the images it is chosen on the other half."""
    classes = logits.shape[1]
    predicted = logits.argmax(1)
    half = np.zeros(len(labels), int)
    for k in range(classes):  # every second image of each class
        half[np.flatnonzero(labels == k)[::2]] = 1
    shifts, better = [], np.zeros(len(labels), bool)
    choose = _best_cut if classes == 2 else _best_biases
    for part in (0, 1):
        shift = choose(logits[half != part], labels[half != part])
        shifts.append(shift)
        better[half == part] = (logits[half == part] + shift).argmax(1) == labels[half == part]
    correct = predicted == labels
    members = [labels == k for k in np.unique(labels)]
    won = better.astype(float) - correct
    error = float(np.sqrt(sum(won[m].var() / m.sum() for m in members)) / len(members))
    accuracy, possible = (float(np.mean([c[m].mean() for m in members])) for c in (correct, better))
    shares = np.bincount(predicted, minlength=classes) / len(labels)
    excess = shares - np.bincount(labels, minlength=classes) / len(labels)
    gain, plain = possible - accuracy, float(won.mean())
    errors = Z_LARGE_EXCESS if excess.max() > LARGE_EXCESS else Z_ONE_IN_2000
    uneven = classes == 2 or excess.max() > MIN_EXCESS or gain > SURE_ANYWAY * error
    helps = bool(gain > LIMIT_GAIN and plain >= 0 and gain > errors * error and uneven)
    shifts = tuple(map(float, np.mean(shifts, 0)))
    shares, excess = (tuple(map(float, values)) for values in (shares, excess))
    return Threshold(accuracy, possible, error, plain, shifts, shares, excess, helps)


def _equal_weights(labels):
    """(n,) weights that sum to 1, and to the same for each class."""
    counts = np.bincount(labels)
    return 1 / counts[labels] / np.sum(counts > 0)


def _best_cut(logits, labels):
    """What to add to the logits of two classes so that most are correct, each class counting the
    same; the middle of several such values.
    """
    x = logits[:, 1] - logits[:, 0]
    order = np.argsort(x)
    weights = _equal_weights(labels)[order] * np.where(labels[order] == 1, -1, 1)
    correct = np.round(np.r_[0, np.cumsum(weights)], 9)  # k lowest called 0, less what none gives
    best = np.flatnonzero(correct == correct.max())
    edges = np.r_[x.min() - 1, (x[order][1:] + x[order][:-1]) / 2, x.max() + 1]
    return np.array([0, -edges[best[len(best) // 2]]])


def _best_biases(logits, labels):
    """What to add to the logits of many classes for the least cross-entropy at the best scale, each
    class counting the same (Guo et al., 2017, On calibration of modern neural networks, section
    4.2, with one scale for all classes).
    """
    logits = logits - logits.mean(1, keepdims=True)
    spread = logits.std() or 1
    logits, truth = logits / spread, np.eye(logits.shape[1])[labels]
    weights = _equal_weights(labels)[:, None]

    def loss(parameters):
        scale, biases = np.exp(parameters[0]), parameters[1:]
        scores = scale * logits + biases
        shares = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
        slope = (shares - truth) * weights
        unlikely = -np.sum(weights * truth * np.log(np.maximum(shares, 1e-30)))
        gradient = np.r_[scale * np.sum(slope * logits), slope.sum(0)] + 2e-3 * parameters
        return unlikely + 1e-3 * np.sum(parameters**2), gradient

    start = np.zeros(1 + logits.shape[1])
    best = minimize(loss, start, jac=True, method="L-BFGS-B").x
    biases = best[1:] / np.exp(best[0]) * spread
    return biases - biases[0]
