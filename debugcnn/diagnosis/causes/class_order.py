"""Classes in another order than in training."""

import numpy as np

from ...statistics import confusion_matrix
from ...views.figures import confusion_figure
from ..registry import Evidence, Limit, cause
from ..search import RENAMED_GAIN, order_is_wrong, renamed_accuracy

MANY = Limit(
    RENAMED_GAIN,
    "accuracy gained by renaming classes",
    "set by hand, far above what renaming brings to a healthy model",
)


@cause(
    "class_order",
    stage="predictions",
    title="the classes are in another order than in training",
    symptom="accuracy below chance",
    check="draw the confusion matrix",
    fix="Use the order of the training: class_names, sorted by name.",
    needs=("finite predictions",),
    limit=Limit(
        0.4,
        "upper bound of the AUC",
        "below chance (0.5) by more than a healthy model's interval can reach",
        above=False,
    ),
)
def class_order(case) -> Evidence:
    if case.head.classes == 2:
        message = f"The AUC is {case.auc.value:.2f}, where 0.5 is chance: predictions are "
        message += "consistently the wrong way round."
        return Evidence(case.auc.high, message)
    correct, renamed = renamed_accuracy(case.logits, case.labels)
    message = (
        f"Renaming the classes one to one raises accuracy from {correct:.1%} to {renamed:.1%}."
    )
    return Evidence(
        renamed - correct, message, order_is_wrong(case.logits, case.labels), limit=MANY
    )


@class_order.picture
def confusion(case, evidence):
    counts = confusion_matrix(case.labels, case.logits.argmax(1), case.head.classes)
    shown = np.flatnonzero(counts.sum(0) + counts.sum(1))[:20]
    names = [case.class_names[k] for k in shown]
    figure = confusion_figure(counts[np.ix_(shown, shown)], names)
    return figure, "Large counts off the diagonal pair each label with the class predicted for it."
