"""Confident predictions that are wrong."""

import numpy as np
from scipy.stats import binomtest

from .. import pictures
from ..registry import Evidence, Limit, cause

SATURATED = 0.999  # probability
MIN_COUNT = 20  # saturated predictions
ONE_IN_1000 = 0.999  # confidence of the interval, both sides


@cause(
    "saturated_answer",
    stage="confidence",
    title="predictions are certain and wrong",
    symptom="confident and wrong",
    check="compare confidence with accuracy",
    fix="Train for fewer epochs, with label smoothing or weight decay.",
    needs=("finite predictions",),
    explained_by=(
        *("model", "activations", ":unlike_training"),
        *("class_order", "at_chance", "constant_answer"),
    ),
    limit=Limit(
        0.05,
        "lower bound of the share of saturated predictions that are wrong",
        "between published models: 28 of 117 in one with this fault, 5 or fewer in others",
    ),
)
def saturated_answer(case) -> Evidence:
    certain = case.probabilities.max(1) >= SATURATED
    wrong = certain & (case.probabilities.argmax(1) != case.labels)
    count, errors = int(certain.sum()), int(wrong.sum())
    low = binomtest(errors, count).proportion_ci(ONE_IN_1000, "wilson").low if count else 0.0
    message = f"{count} predictions are at least 99.9 % certain, and {errors} of them are wrong."
    return Evidence(float(low), message, count >= MIN_COUNT, details=np.flatnonzero(wrong))


@saturated_answer.picture
def mistakes(case, evidence):
    chosen = evidence.details[: pictures.SHOWN]
    titles = [
        f"predicted {name},\nlabel: {case.class_names[case.labels[i]]}"
        for i, name in zip(chosen, pictures.predicted_names(case, case.probabilities, chosen))
    ]
    return pictures.image_grid(
        case.feed.pixels[chosen], titles
    ), "Wrong, and at least 99.9 % certain."
