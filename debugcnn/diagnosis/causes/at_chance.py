"""Predictions no better than guessing."""

from ...statistics import Z_ONE_IN_2000
from .. import pictures
from ..registry import Evidence, Limit, cause

Z_95 = 1.96


@cause(
    "at_chance",
    stage="predictions",
    title="the model is no better than guessing",
    symptom="no better than guessing, whatever it is fed",
    check="draw the histogram of logits by class",
    fix="Check that it can overfit 20 images. If it cannot, the training code has a bug.",
    needs=("finite predictions",),
    after=("class_order", "constant_answer", "threshold:threshold"),
    explained_by=(
        *("model", "activations", ":unlike_training", "threshold:balance_of_training"),
        "memorised",
    ),
    limit=Limit(
        0.65,
        "upper 95 % bound of the AUC",
        "set by hand, below what any model that learned shows",
        above=False,
    ),
)
def at_chance(case) -> Evidence:
    auc = case.auc
    high = auc.value + Z_95 / Z_ONE_IN_2000 * (auc.high - auc.value)
    message = f"The AUC is {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f}), where 0.5 is chance."
    not_above = auc.low <= 0.5
    suspicious = not_above and not case.has_fault("class_order")
    return Evidence(high, message, clear=not_above and auc.high >= 0.5, suspicious=suspicious)


@at_chance.picture
def histogram(case, evidence):
    return pictures.margins_by_class(case)
