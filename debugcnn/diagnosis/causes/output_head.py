"""A head that does not fit the classes or the loss."""

import numpy as np

from ...views import kinds
from ...views.predictions import classifier_head, last_operation, output_activations
from .. import pictures
from ..forms import KNOWS_SOMETHING
from ..registry import Evidence, Limit, cause
from ..thresholds import better_threshold

# TensorFlow's names of activations between layers, which make no prediction.
HIDDEN_ACTIVATIONS = kinds.operations_of("activation") - {"Sigmoid"}


@cause(
    "output_head",
    stage="model",
    title="the head does not fit the classes or the loss",
    symptom="the loss falls, but the accuracy stays at chance",
    check="compare what enters the head with what leaves it",
    fix="Use Dense(1, 'sigmoid') or Dense(classes, 'softmax') with one activation only, and train "
    "again.",
    limit=Limit(0, "mistakes in the head", "by definition: a head like this cannot work"),
)
def output_head(case) -> Evidence:
    mistake = mistake_in_head(case.model, case.output)
    if mistake:
        return Evidence(1, f"The model's head is wrong: {mistake}.")
    if case.head.kind == "labels":
        message = "It has a sigmoid for each class; the highest one counts as its prediction."
        return Evidence(0, message, suspicious=True)
    if case.head.kind == "sigmoid" and not case.head.applied:
        message = "It returns a logit, not a probability: the threshold is 0, not one half."
        return Evidence(0, message, suspicious=True)
    return Evidence(0, "The head fits the number of classes.")


def mistake_in_head(model, output: str | int | None = None) -> str | None:
    """What is wrong with the head, as a clause, or None: a softmax on a single unit is always 1, a
    softmax or sigmoid on top of another is never confident, and a ReLU or tanh is no head at all.
    """
    head, activations = classifier_head(model, output), output_activations(model, output)
    if head.kind == "sigmoid" and any(kind == "Softmax" for kind, _ in activations):
        return "it ends in a softmax on a single unit, which is 1 whatever enters it"
    if any(above for _, above in activations):
        names = " on top of a ".join(kind.lower() for kind, _ in activations[:2])
        return f"it ends in a {names}, so that no prediction can be confident"
    last = last_operation(model, output)
    if not activations and last in HIDDEN_ACTIVATIONS:
        return f"it ends in {last.lower()}, which returns neither a probability nor a logit"
    return None


@output_head.measurement(
    needs=("finite logits", "trained weights"),
    limit=Limit(
        0.05,
        "distance of the sum from 1",
        "float16 rounds each probability by a factor of 2^-11 at most, so the sum by 0.0005",
    ),
)
def sum_of_probabilities(case) -> Evidence:
    """A softmax over another axis than the classes does not add up to 1."""
    if not (case.head.applied and case.head.kind == "softmax"):
        return Evidence(0.0, "There is no softmax whose sum could be wrong.")
    total = float(np.median(case.given_probabilities.sum(1)))
    message = (
        f"The probabilities add up to {total:.2g} (median), not 1: the softmax runs over an axis "
        "other than the classes."
    )
    return Evidence(abs(total - 1), message)


@output_head.measurement(
    needs=("finite predictions",),
    unless=("untrained_layer", "at_chance"),
    limit=Limit(0, "logits that are probabilities", "by definition"),
)
def trained_as_probability(case) -> Evidence:
    """A linear unit that a loss on probabilities has trained: its threshold is one half."""
    linear = case.head.kind == "sigmoid" and not case.head.applied
    threshold = better_threshold(case)
    cut = threshold.shifts[1] / -2 if threshold.helps else None
    if not (linear and _are_probabilities(case.logits[:, 1], cut)):
        return Evidence(0, "The head is no linear unit trained as a probability.")
    message = "Its single unit is linear, and its outputs lie between 0 and 1: it was trained as a "
    return Evidence(1, message + "probability, so its threshold is one half, not 0.")


def _are_probabilities(outputs, cut):
    """Whether outputs (n,) of a linear unit are meant as probabilities: nearly all lie within 0 to
    1, and not all at one place, or at least half, and `cut`, the best threshold, is near one half.
    """
    if np.ptp(np.quantile(outputs, [0.05, 0.95])) < 0.3:
        return False
    inside = np.mean((outputs > -0.1) & (outputs < 1.1))
    return bool(inside > 0.8 or (inside > 0.5 and cut and abs(cut - 0.5) < 0.25))


@output_head.measurement(
    needs=("finite predictions",),
    limit=Limit(1.5, "sum of the sigmoids", "halfway between one and two classes at once"),
)
def sum_of_sigmoids(case) -> Evidence:
    """Sigmoids of exclusive classes that a loss with a softmax has trained."""
    total = float(case.probabilities.sum(1).mean()) if case.head.kind == "labels" else 0.0
    message = (
        f"Its sigmoids add up to {total:.2f} on average, though exactly one class is correct: the "
        "loss applied a softmax of its own, or expects several labels."
    )
    return Evidence(total, message, clear=case.auc.low > KNOWS_SOMETHING)


@output_head.picture
def outputs(case, evidence):
    return pictures.margins_by_class(case)
