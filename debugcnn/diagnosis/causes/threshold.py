"""A threshold that favours one class."""

import numpy as np

from .. import pictures
from ..registry import Evidence, Limit, NotExamined, cause
from ..thresholds import LIMIT_GAIN, MIN_EXCESS, better_threshold
from .constant_answer import LIMIT as CONSTANT

MOST = 0.75  # of the training images belong to one class


@cause(
    "threshold",
    stage="predictions",
    title="the threshold favours one class",
    symptom="mostly one class, though images are ranked well",
    check="draw the histogram of logits by class",
    fix="Move the threshold, chosen on validation images, or balance the classes.",
    needs=("finite predictions",),
    explained_by=(
        *("missing_activation", "dead_filters", "batch_statistics", ":unlike_training"),
        "output_head:trained_as_probability",
    ),
    limit=Limit(
        LIMIT_GAIN,
        "mean accuracy of the classes",
        "set by hand on biased heads and healthy models of the development half",
    ),
)
def threshold(case) -> Evidence:
    found = better_threshold(case)
    k = int(np.argmax(found.excess))
    message = (
        f"Another threshold raises the mean accuracy of the classes from {found.accuracy:.1%} to "
        f"{found.possible:.1%}; {case.class_names[k]} is predicted for {found.shares[k]:.0%} of "
        f"the images and labelled on {found.shares[k] - found.excess[k]:.0%}."
    )
    return Evidence(found.gain, message, clear=found.helps)


@threshold.measurement(
    needs=("train", "finite predictions"),
    limit=Limit(
        MIN_EXCESS, "share of a class among training images, beyond that here", "set by hand"
    ),
)
def balance_of_training(case) -> Evidence:
    """A model that predicts one class only may have learned how frequent it is."""
    predicted, trained = case.logits.argmax(1), case.train[1]
    k = int(np.bincount(predicted).argmax())
    if not CONSTANT.exceeded(np.mean(predicted == k)):
        raise NotExamined("The model predicts more than one class.")
    share, here = float(np.mean(trained == k)), float(np.mean(case.labels == k))
    message = (
        f"{case.class_names[k]} is predicted for nearly all images; it is {share:.0%} of the "
        f"training images and {here:.0%} of these."
    )
    return Evidence(share - here, message, clear=share > MOST)


@threshold.picture
def histogram(case, evidence):
    return pictures.margins_by_class(case)
