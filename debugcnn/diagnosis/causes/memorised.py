"""Training images that the model knows one by one."""

from typing import NamedTuple

import numpy as np

from ...statistics import Z_ONE_IN_2000
from .. import pictures
from ..forms import Feed
from ..registry import Evidence, Limit, cause


class Memory(NamedTuple):
    """Accuracy on training images, classes weighted as among the others, and on the others."""

    trained: float
    others: float
    low: float  # of the difference, at one in 2,000


@cause(
    "memorised",
    stage="data",
    title="the model has memorized its training images",
    symptom="good in training only",
    check="compare the accuracy on both",
    fix="Use more images, data augmentation, weight decay, or a smaller model.",
    needs=("train", "finite predictions"),
    after=("leak",),
    explained_by=("label_noise",),
    limit=Limit(
        0.1,
        "lower bound of the gap in accuracy",
        "set by hand on memorized and healthy models of the development half",
        hint=0.03,
    ),
)
def memorised(case) -> Evidence:
    pixels, labels = case.train
    if case.search.shift:  # compare images that look alike
        pixels = case.search.shift.imitate(np.float32(pixels))
    logits = Feed(pixels, case.feed.value_range).logits(case.model, case.output)
    found = memory(logits.argmax(1) == labels, labels, case.correct, case.labels)
    message = (
        f"Accuracy is {found.trained:.1%} on training images and {found.others:.1%} on the others."
    )
    return Evidence(found.low, message, details=found)


def memory(correct_trained, labels_trained, correct_others, labels_others) -> Memory:
    """A Memory, from whether images are classified correctly, (n,) bool, and their labels (n,). A
    class that one side lacks does not count.
    """
    sets = (correct_trained, labels_trained), (correct_others, labels_others)
    classes = np.intersect1d(labels_trained, labels_others)
    counts = np.array([np.sum(labels_others == k) for k in classes])
    weights, means, variance = counts / counts.sum(), [], 0
    for correct, labels in sets:
        parts = [np.asarray(correct, float)[labels == k] for k in classes]
        means.append(float(sum(w * part.mean() for w, part in zip(weights, parts))))
        variance += sum(w**2 * part.var() / len(part) for w, part in zip(weights, parts))
    low = means[0] - means[1] - Z_ONE_IN_2000 * np.sqrt(variance + 1e-6)
    return Memory(*means, float(low))


@memorised.picture
def both(case, evidence):
    values = {"training images": evidence.details.trained, "other images": evidence.details.others}
    return pictures.bars(values, "accuracy"), "The accuracy that training images alone have."
