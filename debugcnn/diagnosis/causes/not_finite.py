"""NaN or infinity in weights or activations."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ...views import tracing
from .. import pictures
from ..layers import leaf_layers
from ..registry import Evidence, Limit, cause

IMAGES = 32  # whose activations are looked at


class NotFinite(NamedTuple):
    """NaN or infinity in a layer."""

    layer: str
    count: int
    where: str  # "weights" or "activations"


@cause(
    "not_finite",
    stage="model",
    title="weights or activations are NaN or infinite",
    symptom="the prediction is NaN",
    check="find the first layer with a NaN",
    fix="Load an earlier checkpoint, and train with a lower learning rate.",
    limit=Limit(0, "layers", "by definition: no number of them is right"),
)
def not_finite(case) -> Evidence:
    layers = layers_not_finite(case.model, case.given.images[:IMAGES])
    if not layers:
        return Evidence(0, "All weights and activations are finite.")
    first = layers[0]
    message = f"{first.count:,} {first.where} of {first.layer} are NaN or infinite"
    message += ", and more in later layers." if len(layers) > 1 else "."
    return Evidence(len(layers), message, details=layers)


def layers_not_finite(model, images: np.ndarray) -> list[NotFinite]:
    """Layers with NaN or infinity, weights first, in order of execution.

    Activations are counted before an activation function, which may hide them.
    """
    weights = []
    for name, layer in leaf_layers(model):
        count = sum(int(np.sum(~np.isfinite(np.asarray(w)))) for w in layer.weights)
        if count:
            weights.append(NotFinite(name, count, "weights"))

    def count_in(batch):
        counts = {}
        for run in tracing.record(model, batch)[1]:
            if run.before.dtype.is_floating and run.before.shape.rank:
                wrong = tf.cast(~tf.math.is_finite(run.before), tf.int32)
                counts[run.name] = tf.reduce_sum(wrong, tf.range(1, tf.rank(wrong)))
        return counts

    counts = tracing.in_batches(count_in, tracing.check_images(model, images))
    activations = [
        NotFinite(name, int(of_layer.sum()), "activations")
        for name, of_layer in counts.items()
        if of_layer.any()
    ]
    return weights + activations


@not_finite.picture
def by_layer(case, evidence):
    values = {f"{e.layer} ({e.where})": e.count for e in evidence.details[:20]}
    figure = pictures.bars(values, "values that are NaN or infinite")
    return figure, "The first layer in the list is where to look."
