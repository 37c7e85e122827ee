"""View 1: what each layer makes of a photo."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from .kinds import CONVOLUTIONS, DENSE, JOINS, NORMALISATIONS, POOLINGS, is_activation
from .receptive_fields import as_map, map_of, trace_axes
from .tracing import check_images, find, has_map, in_batches, layer_key, record, survey


class ChannelSummary(NamedTuple):
    """What the channels of a layer, or the units of a dense one, return over many images."""

    constant: int  # that have one and the same value everywhere
    count: int
    not_finite: int  # values that are NaN or infinite
    highest: float  # absolute value, of those that are finite
    is_map: bool  # of many positions, not one number for each channel


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
        follows = isinstance(layer, NORMALISATIONS) or is_activation(layer)
        if isinstance(layer, CONVOLUTIONS) and has_map(entry):
            ends.append(entry.name)
            shape = entry.shape
        elif follows and entry.shape == shape:
            ends[-1] = entry.name
        else:
            shape = None
    convolution_layers(model)
    return list(dict.fromkeys(ends))


def summarize_channels(model, images) -> dict[str, ChannelSummary]:
    """{layer name: ChannelSummary} over all images, in order of execution, for each convolution,
    dense layer, activation, and layer that joins branches, the prediction's own included.

    `images` are (n, height, width, channels) with the values that the model takes. Dead channels
    are constant ones: they have one value for all images and positions.

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")])
    >>> summarize_channels(model, np.zeros((2, 8, 8, 3)))["conv"].constant
    4
    """
    images = check_images(model, images)
    watched = tuple(
        entry.name
        for entry in survey(model)
        if isinstance(entry.layer(), (*CONVOLUTIONS, *JOINS, *DENSE))
        or is_activation(entry.layer())
    )
    is_map = {}

    def ranges(batch):
        found = {}
        for run in record(model, batch)[1]:
            output = run.output
            if run.name in watched and output.dtype.is_floating and output.shape.rank > 1:
                is_map[run.name] = output.shape.rank > 2
                values = tf.cast(output, tf.float32)
                values = tf.reshape(values, (tf.shape(values)[0], -1, values.shape[-1]))
                wrong = tf.reduce_sum(tf.cast(~tf.math.is_finite(values), tf.int32), (1, 2))
                found[run.name] = tf.reduce_min(values, 1), tf.reduce_max(values, 1), wrong
        return found

    return {
        name: ChannelSummary(
            int(np.sum(low.min(0) == high.max(0))),
            low.shape[1],
            int(wrong.sum()),
            float(np.abs(np.nan_to_num([low, high])).max()),
            is_map[name],
        )
        for name, (low, high, wrong) in in_batches(ranges, images).items()
    }
