"""Wrong labels."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logsumexp
from scipy.stats import binomtest

from .. import pictures
from ..forms import KNOWS_SOMETHING
from ..registry import Evidence, Limit, NotExamined, cause

# Origin of these: set by hand on injected label noise and weak, healthy models.
KNOWS_ENOUGH = KNOWS_SOMETHING + 0.05  # AUC of a model that can judge labels
HESITATES = 0.08  # of the images have a small margin: a model too weak to judge labels
EVEN = 0.75  # as often wrong when confident: wrong labels, and no memorized training images
EXPLAINS = 6  # log-likelihood ratio; twice that exceeds chance at 0.05 % (one degree of freedom)
LIKELIER = 3.5  # the same where overconfidence was found: which of the two is it?
ONE_IN_1000 = 0.999  # confidence of the interval, both sides


class Noise(NamedTuple):
    """Mistakes among the most and least confident images, and the most probable label noise."""

    count: int  # images in the most confident third
    wrong: int  # mistakes among them
    low: float  # of that share, at one in 2,000
    ratio: float  # of the two shares of mistakes
    near: float  # images whose margin is less than a quarter of the median one
    share: float  # of wrong labels, the most probable one
    gain: float  # in log-likelihood, by that share
    confident: np.ndarray  # the mistakes, the most confident first


@cause(
    "label_noise",
    stage="data",
    title="labels are wrong",
    symptom="confident and wrong",
    check="look at the most confident mistakes",
    fix="Look at these images and correct their labels.",
    needs=("finite predictions",),
    unless=(
        *("not_finite", "untrained_layer", "batch_statistics", ":unlike_training"),
        *("class_order", "constant_answer", "at_chance", "shortcut:global_property"),
    ),
    after=("leak", "memorised", "shortcut", "saturated_answer", "overconfident"),
    limit=Limit(
        0.03,
        "share of wrong labels, or its lower bound",
        "set by hand on injected label noise of 5 to 20 % and healthy models",
    ),
)
def label_noise(case) -> Evidence:
    if case.auc.value < KNOWS_ENOUGH:
        raise NotExamined("The model knows too little to judge labels.")
    noise = noise_of(case.logits, case.labels)
    limit = case.limit_of("label_noise").value
    clear = noise.low > limit and noise.near < HESITATES
    overconfident = case.has_fault("saturated_answer") or case.has_fault("overconfident")
    likely = noise.share > limit and noise.gain > (LIKELIER if overconfident else EXPLAINS)
    is_noise = clear or likely
    if case.has_fault("memorised"):  # each looks like the other
        is_noise = is_noise and (noise.ratio > EVEN or noise.gain > 2 * EXPLAINS)
    message = (
        f"{noise.wrong} of the {noise.count} most confident predictions contradict their label, "
        f"{noise.ratio:.2f} times the share of the least confident ones. Most probably "
        f"{noise.share:.1%} of the labels are wrong."
    )
    value = noise.low if clear else noise.share
    return Evidence(value, message, is_noise, details=noise)


def noise_of(logits: np.ndarray, labels: np.ndarray) -> Noise:
    """A Noise, from logits (n, classes) and labels (n,).

    A good model's own mistakes have small margins; wrong labels have any. Only of a model that
    seldom hesitates (`near`) can that be said: many mistakes with large margins are also what a
    weak model makes. The scale of the logits does not matter (compare Northcutt, Jiang and Chuang,
    2021, Confident learning, section 3, which uses probabilities).

    For any model: however its predictions are softened (Guo et al., 2017, temperature), the most
    confident ones are nearly always correct; where a share of the labels is wrong, they are not.
    """
    ordered = np.sort(logits, 1)
    margin = ordered[:, -1] - ordered[:, -2]
    order = np.argsort(-margin)
    wrong = logits.argmax(1) != labels
    third = max(1, len(labels) // 3)
    top, bottom = order[:third], order[-third:]
    count = int(wrong[top].sum())
    low = binomtest(count, third).proportion_ci(ONE_IN_1000, "wilson").low
    ratio = wrong[top].mean() / max(wrong[bottom].mean(), 1 / third)
    near = np.mean(margin < 0.25 * np.median(margin))
    share, gain = _most_probable_share(np.float64(logits), labels)
    values = third, count, float(low), float(ratio), float(near), share, gain
    return Noise(*values, order[wrong[order]])


def _most_probable_share(logits, labels):
    """(share, gain): the most probable share of wrong labels, all other classes being equally
    likely, and by how much it and a temperature explain the labels better than a temperature alone.
    """
    classes = logits.shape[1]
    logits = logits / (logits.std() or 1)

    def unlikely(parameters):
        scores = logits * np.exp(parameters[0])
        likely = scores[np.arange(len(labels)), labels] - logsumexp(scores, axis=1)
        drawn = expit(parameters[1]) if len(parameters) > 1 else 0  # at random, some correct
        mixed = (1 - drawn) * np.exp(likely) + drawn / classes
        return -np.sum(np.log(np.maximum(mixed, 1e-12)))

    starts = [(scale, drawn) for scale in (0, 1.5, 3) for drawn in (-4, -1.5)]
    alone = min(minimize(unlikely, [s], method="Nelder-Mead").fun for s, _ in starts[::2])
    fits = (minimize(unlikely, start, method="Nelder-Mead") for start in starts)
    best = min(fits, key=lambda fit: fit.fun)
    share = expit(best.x[1]) * (classes - 1) / classes
    return float(share), float(max(0.0, alone - best.fun))


@label_noise.picture
def confident_mistakes(case, evidence):
    chosen = evidence.details.confident[: pictures.SHOWN]
    titles = [
        f"predicted {name},\nlabel: {case.class_names[case.labels[i]]}"
        for i, name in zip(chosen, pictures.predicted_names(case, case.logits, chosen))
    ]
    caption = "The most confident predictions that contradict their label."
    return pictures.image_grid(case.feed.pixels[chosen], titles), caption
