"""Activations that are huge."""

from .. import pictures
from ..registry import Evidence, Limit, cause


@cause(
    "exploding",
    stage="confidence",
    title="activations are huge",
    symptom="the loss jumps or becomes NaN",
    check="compare the highest activation of each layer",
    fix="Add normalization, and lower the learning rate.",
    after=("overconfident",),
    limit=Limit(
        1e6,
        "highest absolute activation",
        "set by hand, far above what healthy models show",
        hint=1e4,
    ),
)
def exploding(case) -> Evidence:
    name = max(case.channels, key=lambda layer: case.channels[layer].highest)
    highest = case.channels[name].highest
    return Evidence(highest, f"The activations of {name} reach {highest:.2g}.")


@exploding.picture
def highest_by_layer(case, evidence):
    values = {name: layer.highest for name, layer in case.channels.items()}
    limit = case.limit_of("exploding").value
    figure = pictures.bars(values, "highest absolute activation (log scale)", limit)
    figure.axes[0].set_xscale("symlog")
    return figure, "The highest activation of each layer, in order of execution."
