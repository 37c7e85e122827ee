"""Channels that never change, whatever the image."""

from typing import NamedTuple

import keras
import numpy as np

from ...views import kinds
from .. import pictures
from ..layers import last_layer_with_kernel, leaf_layers
from ..registry import Evidence, Limit, cause

KNOWS_WELL = 0.9  # accuracy of a model that its dead channels do not cost much
LIMITS = {
    True: Limit(2 / 3, "share of a layer's channels", "set by hand on injected faults"),
    False: Limit(
        0.8, "share of a layer's units", "above 63 %, the most in published models that work"
    ),
}
HINT = 0.3


class Zeroed(NamedTuple):
    """A layer with filters whose weights are all 0, which no training leaves behind."""

    layer: str
    zero: int
    count: int


@cause(
    "dead_filters",
    stage="activations",
    title="channels never change, whatever the image",
    symptom="nearly the same prediction for everything",
    check="count the channels that never change",
    fix="Lower the learning rate, or use another activation.",
    explained_by=(
        *("not_finite", "output_head:output_head", "output_head:sum_of_probabilities"),
        *("untrained_layer", "threshold:balance_of_training"),
    ),
    limit=LIMITS[True],
)
def dead_filters(case) -> Evidence:
    *hidden, _ = names = list(case.channels)
    layers = {name: case.channels[name] for name in hidden or names}

    def excess(name):
        layer = layers[name]
        return layer.constant / layer.count / LIMITS[layer.is_map].value

    worst = max(layers, key=excess)
    layer = layers[worst]
    share = layer.constant / layer.count
    message = f"{layer.constant} of {layer.count} channels of {worst} never change."
    clear = not _knows_well(case)
    return Evidence(share, message, clear, share > HINT, limit=LIMITS[layer.is_map])


@dead_filters.measurement(
    limit=Limit(0.1, "share of a layer's channels", "training leaves no filter at exactly 0")
)
def zeroed(case) -> Evidence:
    """Filters whose weights are all exactly 0."""
    first = next(iter(zeroed_layers(case.model)), None)
    if first is None:
        return Evidence(0.0, "No filter has only zeros.")
    message = f"All weights of {first.zero} of {first.count} channels of {first.layer} are 0."
    return Evidence(first.zero / first.count, message, not _knows_well(case), suspicious=True)


def _knows_well(case):
    return np.mean(case.correct) > KNOWS_WELL


def zeroed_layers(model: keras.Model) -> list[Zeroed]:
    """Layers with kernels, except the last, and normalizations, all of whose factors and offsets
    count; the one with the largest share of zeros first.
    """
    zeroed, last = [], last_layer_with_kernel(model)
    for name, layer in leaf_layers(model):
        gamma, beta = (getattr(layer, weight, None) for weight in ("gamma", "beta"))
        filters = kinds.filters_of(layer)
        if gamma is not None and beta is not None:
            filters = [np.stack([np.ravel(gamma), np.ravel(beta)])]
        for weights in filters if name != last else ():
            zero = int(np.sum(~weights.any(0)))
            zeroed += [Zeroed(name, zero, weights.shape[-1])] if zero else []
    return sorted(zeroed, key=lambda layer: -layer.zero / layer.count)


@dead_filters.picture
def by_layer(case, evidence):
    values = {name: layer.constant / layer.count for name, layer in case.channels.items()}
    limit = case.limit_of("dead_filters").value
    figure = pictures.bars(values, "share of channels that never change", limit)
    return (
        figure,
        "Channels of each layer that have one value on all images, in order of execution.",
    )
