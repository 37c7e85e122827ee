"""View 1: what each layer makes of a photo."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from .kinds import ACTIVATIONS, CONVOLUTIONS, JOINS, NORMALISATIONS, POOLINGS
from .receptive_fields import as_map, map_of, trace_axes
from .tracing import check_images, find, has_map, in_batches, layer_key, record, survey


class Channels(NamedTuple):
    """What the channels of a layer do over many images."""

    constant: int  # that have one and the same value everywhere
    count: int
    not_finite: int  # values that are NaN or infinite


def convolution_layers(model):
    """Names of the convolution layers that return a map, in order of execution.

    Raises ValueError if there is none.
    """
    names = _names(model, CONVOLUTIONS)
    if not names:
        raise ValueError(f"Model {model.name!r} has no convolution layer that returns a map.")
    return names


def _names(model, kinds):
    entries = survey(model)
    return list(
        dict.fromkeys(e.name for e in entries if isinstance(e.layer(), kinds) and has_map(e))
    )


def activations(model, images, layers=None):
    """What layers return for `images`: {layer name: (n, height, width, channels) float32}.

    `layers` is a list of layers or their names, also from inside a nested model; None takes every
    convolution and pooling layer that returns a map, in order of execution. A layer that runs more
    than once in the model counts with its last run. Raises ValueError for a layer without a map.
    """
    images = check_images(model, images)
    if layers is None:
        layers = _names(model, CONVOLUTIONS + POOLINGS)
        if not layers:
            raise ValueError(f"Model {model.name!r} has no convolution layer that returns a map.")
    layers = tuple(layers)
    chosen = {find(model, layer): None for layer in layers}
    last = max(chosen)

    def maps(batch):
        _, runs = record(model, batch, last)
        axes = trace_axes(batch.graph, batch, runs)
        shown = {}
        for index in chosen:
            run = runs[index]
            place = map_of(axes.get(run.output.name, ()))
            shown[run.name] = tf.cast(as_map(run.output, place), tf.float32)
        return shown

    return in_batches(maps, images, keep=(model, (activations, tuple(map(layer_key, layers)))))


def convolution_ends(model):
    """Names of the layers with a map at which a convolution, with the normalisation and activation
    right behind it, ends, in order of execution. Raises ValueError if there is none.
    """
    ends, shape = [], None
    for entry in survey(model):
        layer = entry.layer()
        follows = isinstance(layer, NORMALISATIONS) or type(layer).__name__.lower() in ACTIVATIONS
        if isinstance(layer, CONVOLUTIONS) and has_map(entry):
            ends.append(entry.name)
            shape = entry.shape
        elif follows and entry.shape == shape:
            ends[-1] = entry.name
        else:
            shape = None
    convolution_layers(model)
    return list(dict.fromkeys(ends))


def constant_channels(model, images):
    """{layer name: Channels} over all images, for each layer that ends a convolution, activates or
    joins branches, and has a map. Raises ValueError if there is none.
    """
    images = check_images(model, images)
    ends = convolution_ends(model)
    layers = [
        entry.name
        for entry in survey(model)
        if has_map(entry)
        and (
            entry.name in ends
            or type(entry.layer()).__name__.lower() in ACTIVATIONS
            or isinstance(entry.layer(), JOINS)
        )
    ]
    layers = tuple(dict.fromkeys(layers))

    def ranges(batch):
        _, runs = record(model, batch)
        axes = trace_axes(batch.graph, batch, runs)
        found = {}
        for run in runs:
            place = map_of(axes.get(run.output.name, ()))
            if place and run.name in layers:
                maps = tf.cast(as_map(run.output, place), tf.float32)
                wrong = tf.reduce_sum(tf.cast(~tf.math.is_finite(maps), tf.int32), (1, 2, 3))
                found[run.name] = tf.reduce_min(maps, (1, 2)), tf.reduce_max(maps, (1, 2)), wrong
        return found

    found = in_batches(ranges, images, keep=(model, (constant_channels,)))
    return {
        name: Channels(int(np.sum(low.min(0) == high.max(0))), low.shape[1], int(wrong.sum()))
        for name, (low, high, wrong) in found.items()
    }
