"""Predictions that change when the model is run again."""

import numpy as np

from ...views.predictions import logits
from .. import pictures
from ..registry import Evidence, Limit, cause


@cause(
    "random_answer",
    stage="model",
    title="the same image is predicted differently each time",
    symptom="other predictions when the model is run again",
    check="predict the same image twice",
    fix="Call the layers without training=True, so that dropout is off in predict.",
    needs=("finite logits", "trained weights"),
    after=("untrained_layer:untrained_layer",),
    limit=Limit(
        0.01,
        "standard deviations of the logits",
        "set by hand, far above rounding errors of float32 (about 0.000001)",
    ),
)
def random_answer(case) -> Evidence:
    again = case.repeated.again
    message = f"Predicted twice, logits differ by up to {again:.2g} of their standard deviation."
    return Evidence(again, message)


@random_answer.picture
def twice(case, evidence):
    chosen = np.arange(min(pictures.SHOWN, len(case.labels)))
    images = case.given.images[chosen]
    first, second = (logits(case.model, images, case.output).max(1) for _ in range(2))
    titles = [f"highest logit {a:.2f},\nthen {b:.2f}" for a, b in zip(first, second)]
    return pictures.image_grid(case.given.pixels[chosen], titles), "The same images, run twice."
