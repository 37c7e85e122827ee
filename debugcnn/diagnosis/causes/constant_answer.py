"""One prediction for everything."""

import numpy as np

from .. import pictures
from ..registry import Evidence, Limit, cause
from ..thresholds import better_threshold

DIFFER = 0.3  # spread of log-probabilities, above which predictions are not all the same
ONE_CLASS = 0.9  # of the labels, from which on one prediction for all may be right
LIMIT = Limit(0.995, "share of images with one prediction", "set by hand: one image in 200 differs")


@cause(
    "constant_answer",
    stage="predictions",
    title="the model predicts one class for everything",
    symptom="one prediction for all images",
    check="draw the histogram of logits",
    fix="Look at the loss from the first step on: the learning rate is too high or too low, or no "
    "gradient reaches the head.",
    needs=("finite predictions",),
    explained_by=("model", "activations", ":unlike_training", "threshold:balance_of_training"),
    limit=LIMIT,
)
def constant_answer(case) -> Evidence:
    predicted = case.probabilities.argmax(1)
    same = float(np.bincount(predicted).max() / len(predicted))
    balanced = np.bincount(case.labels).max() < ONE_CLASS * len(case.labels)
    spread = np.log(np.maximum(case.probabilities, 1e-12)).std(0).max()
    # It separates the classes, and only its threshold is off.
    biased = better_threshold(case).helps and spread > DIFFER
    message = f"{same:.1%} of the images get the same prediction."
    constant = balanced and LIMIT.exceeded(same)
    return Evidence(same, message, clear=balanced and not biased, suspicious=constant and biased)


@constant_answer.picture
def histogram(case, evidence):
    return pictures.margins_by_class(case)
