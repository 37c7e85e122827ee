"""Confidence that exceeds accuracy."""

import matplotlib.pyplot as plt
import numpy as np

from ...statistics import Z_ONE_IN_2000
from ..registry import Evidence, Limit, cause

BINS = 10


@cause(
    "overconfident",
    stage="confidence",
    title="the model is more confident than it is correct",
    symptom="confident and wrong",
    check="compare confidence with accuracy",
    fix="Divide the logits by a temperature that is chosen on validation images.",
    needs=("finite predictions",),
    after=("saturated_answer",),
    explained_by=(
        *("model", "activations", ":unlike_training"),
        *("class_order", "threshold", "at_chance"),
    ),
    limit=Limit(
        0.05,
        "lower bound of confidence minus accuracy",
        "set by hand on logits multiplied by 6 and healthy models of the development half",
        hint=0.02,
    ),
)
def overconfident(case) -> Evidence:
    confidence = case.probabilities.max(1)
    correct = case.probabilities.argmax(1) == case.labels
    gap = confidence - correct
    low = gap.mean() - Z_ONE_IN_2000 * gap.std() / np.sqrt(len(gap))
    message = (
        f"Its mean confidence is {confidence.mean():.1%}, and its accuracy {correct.mean():.1%}."
    )
    return Evidence(float(low), message)


@overconfident.picture
def reliability(case, evidence):
    """Accuracy by confidence (Guo et al., 2017, section 2)."""
    confidence = case.probabilities.max(1)
    correct = case.probabilities.argmax(1) == case.labels
    lowest = 1 / case.head.classes
    bins = np.minimum((confidence - lowest) / (1 - lowest) * BINS, BINS - 1).astype(int)
    bins = np.maximum(bins, 0)
    used = np.unique(bins)
    mean = [[values[bins == b].mean() for b in used] for values in (confidence, correct)]
    figure, axis = plt.subplots(figsize=(4.2, 4), layout="constrained")
    axis.plot([lowest, 1], [lowest, 1], color="0.6", linestyle="--", label="confidence = accuracy")
    axis.plot(*mean, marker="o", color="tab:blue", label="this model")
    axis.set(xlabel="mean confidence", ylabel="accuracy", ylim=(0, 1.02))
    axis.legend(frameon=False)
    return figure, "Below the dashed line the model is more confident than it is correct."
