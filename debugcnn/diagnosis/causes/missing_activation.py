"""Layers with weights that follow each other without an activation."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import keras

from ...views import kinds, tracing
from .. import pictures
from ..forms import Feed, Form
from ..layers import logits_with_activations
from ..registry import Evidence, Limit, NotExamined, cause

MAX_FORGOTTEN = 3  # activations that may be missing by mistake; more are meant so


class Linear(NamedTuple):
    """A place where weights act on weights without an activation, in a model that has some."""

    layer: str  # behind which it would be
    activation: Callable  # the first of the others


@cause(
    "missing_activation",
    stage="model",
    title="layers follow each other without an activation",
    symptom="worse after the model was ported",
    check="list the layers; put in the activation that the others have and predict again",
    fix="Give each convolution and dense layer but the last an activation, such as relu.",
    limit=Limit(0, "layers", "by definition: layers in a row without an activation are one layer"),
    after=("output_head:output_head",),
)
def missing_activation(case) -> Evidence:
    count = count_without_any(case.model)
    few = 0 if _has_branches(case.model) else len(linear_layers(case.model))
    if not count and not few:
        return Evidence(0, "There are activations between the layers.")
    number = count or few
    message = f"{number} layers with weights are" if number > 1 else "One layer with weights is"
    message += " followed by another without an activation in between."
    return Evidence(count, message, suspicious=0 < few <= MAX_FORGOTTEN)


@missing_activation.measurement(after=("output_head:output_head",))
def activation_inserted(case) -> Evidence:
    """Whether predictions are better with an activation put in."""
    return case.search_evidence("missing_activation")


@missing_activation.variants
def with_activations(case, feed: Feed, logits) -> list[Form]:
    missing = linear_layers(case.model)
    if not missing:
        raise NotExamined("No place for an activation is empty.")
    places = [(one.layer, [one]) for one in missing if len(missing) <= MAX_FORGOTTEN]
    if len(missing) > 1:
        places.append((f"each of {len(missing)} layers", missing))
    return [_form(name, chosen) for name, chosen in places]


def _form(name, chosen):
    activations = {linear.layer: linear.activation for linear in chosen}

    def predict(model, images, output):
        return logits_with_activations(model, activations, images, output)

    def apply(feed):
        return replace(feed, predict=predict)

    return Form(f"an activation behind {name}", apply, runs_model_otherwise=True)


def count_without_any(model: keras.Model) -> int:
    """How many layers with kernels follow each other without an activation, so that they could be
    one: all of them, or all convolutions, two at least; else 0. The head does not count as an
    activation. With a layer among them of a kind that may act as one, it is 0.
    """
    if not _is_of_keras(model):
        return 0  # what a model of its own class does between its layers is not known
    layers = [entry.layer() for entry in tracing.survey(model)]
    with_kernel = [i for i, layer in enumerate(layers) if kinds.kernels_of(layer)]
    convolutions = [i for i in with_kernel if isinstance(layers[i], kinds.CONVOLUTIONS)]
    behind = [i for i in with_kernel if convolutions and i > convolutions[-1]]
    for chosen, end in ((with_kernel[:-1], with_kernel[-1:]), (convolutions, behind[:1])):
        linear = all(
            isinstance(layer, (*kinds.LINEAR, keras.Model)) for layer in layers[: sum(end)]
        )
        activated = any(_activation(layers[i]) for i in chosen)
        count = len(chosen) + (chosen == with_kernel[:-1])
        if end and linear and not activated and count > 1:
            return count
    return 0


def linear_layers(model: keras.Model) -> list[Linear]:
    """Places between two layers with kernels where nothing activates, though it does elsewhere."""
    if not _is_of_keras(model):
        return []
    entries = tracing.survey(model)
    layers = [entry.layer() for entry in entries]
    with_kernel = [i for i, layer in enumerate(layers) if kinds.kernels_of(layer)]
    activations = [
        _activation(layer) or (entry.activated and layer) for entry, layer in zip(entries, layers)
    ]
    before_head = activations[: max(with_kernel, default=0)]
    usual = [act for act in before_head if act and not getattr(act, "weights", 0)]
    missing = []
    for i, following in zip(with_kernel, with_kernel[1:]):
        between = range(i, following)
        linear = all(
            isinstance(layers[k], (*kinds.LINEAR, keras.layers.Activation)) for k in between
        )
        if usual and linear and not any(activations[i:following]):
            normalizations = [k for k in between if isinstance(layers[k], kinds.NORMALISATIONS)]
            missing.append(Linear(entries[(normalizations or [i])[-1]].name, usual[0]))
    return missing


def _is_of_keras(model):
    return type(model).__module__.partition(".")[0] == "keras"


def _has_branches(model):
    """Whether layers join branches, in which one without an activation may be meant so."""
    return any(isinstance(entry.layer(), kinds.JOINS) for entry in tracing.survey(model))


def _activation(layer):
    """The function that a layer applies to its output, or None if that stays as it is."""
    function = getattr(layer, "activation", None)
    return None if function == keras.activations.linear else function


@missing_activation.picture
def before_and_after(case, evidence):
    contest = evidence.details
    if contest is None:
        return pictures.margins_by_class(case)
    before, after = contest.accuracies
    values = {"as it is": before, f"with {contest.tried.name}": after}
    return pictures.bars(values, "accuracy"), "Accuracy without and with the activation."
