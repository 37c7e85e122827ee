"""Weights that are as their initializer drew them."""

import matplotlib.pyplot as plt
import numpy as np

from ...views import kinds
from ..layers import last_layer_with_kernel, leaf_layers
from ..registry import Evidence, Limit, cause

BINS = 40


@cause(
    "untrained_layer",
    stage="model",
    title="weights are as they were initialized",
    symptom="at chance after loading",
    check="draw the histogram of a kernel's weights",
    fix="Save the model after fit, and check that each layer is trainable or loaded.",
    limit=Limit(
        0.02,
        "share of the weights in kernels",
        "set by hand, above what healthy models of the development half show",
    ),
)
def untrained_layer(case) -> Evidence:
    drawn = case.drawn
    if not drawn:
        return Evidence(0.0, "No layer has weights as they are initialized.")
    names = ", ".join(layer.layer for layer in drawn[:4]) + (", ..." if len(drawn) > 4 else "")
    message = f"{case.drawn_share:.1%} of the weights are as they were initialized: {names}."
    return Evidence(case.drawn_share, message, suspicious=True, details=drawn)


@untrained_layer.measurement(
    limit=Limit(0, "untrained last layers", "by definition: this layer makes the prediction")
)
def last_layer(case) -> Evidence:
    drawn = case.drawn[-1:]
    last = [d for d in drawn if d.certain and d.layer == last_layer_with_kernel(case.model)]
    message = "The last layer, which makes the prediction, has its initial weights."
    return Evidence(len(last), message, details=case.drawn)


@untrained_layer.measurement(
    needs=("finite predictions",),
    unless=("output_head:output_head", "missing_activation", "dead_filters", "batch_statistics"),
    after=("at_chance", "class_order"),
    limit=Limit(0, "untrained layers", "by definition, where nothing is predicted correctly"),
)
def while_nothing_is_correct(case) -> Evidence:
    """Few untrained weights explain it where the model is no better than chance."""
    names = ", ".join(layer.layer for layer in case.drawn[:4])
    message = f"The model is no better than chance, and layers have their initial weights: {names}."
    certain = any(layer.certain for layer in case.drawn) and case.has_fault("class_order")
    clear = case.has_fault("at_chance") or certain
    return Evidence(len(case.drawn), message, clear=clear, details=case.drawn)


@untrained_layer.picture
def histogram_of_weights(case, evidence):
    names = {layer.layer for layer in evidence.details}
    layers = [(name, layer) for name, layer in leaf_layers(case.model) if kinds.kernels_of(layer)]
    untrained = next(pair for pair in layers if pair[0] in names)
    trained = next((pair for pair in layers if pair[0] not in names), None)
    shown = [pair for pair in (untrained, trained) if pair]
    figure, axes = plt.subplots(
        1, len(shown), figsize=(4 * len(shown), 3), layout="constrained", squeeze=False
    )
    for axis, (name, layer) in zip(axes[0], shown):
        weights = np.concatenate([kernel.ravel() for kernel, _ in kinds.kernels_of(layer)])
        axis.hist(weights, BINS, color="tab:blue")
        state = "as initialized" if name in names else "trained"
        axis.set(title=f"{name}: {state}", xlabel="weight", ylabel="count")
    caption = "Initial weights keep the sharp shape of the distribution that they were drawn from."
    return figure, caption
