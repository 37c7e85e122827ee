"""View 1: what each layer returns for an image."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from .axes import as_map, map_of
from .receptive_fields import trace_axes
from .tracing import (
    LayerOrName,
    check_images,
    find,
    has_map,
    in_batches,
    layer_key,
    record,
    survey,
)


class ChannelSummary(NamedTuple):
    """What the channels of a layer, or the units of a dense one, return over many images."""

    constant: int  # that have one and the same value everywhere
    count: int
    not_finite: int  # values that are NaN or infinite
    highest: float  # absolute value, of those that are finite
    is_map: bool  # of many positions, not one number for each channel


def convolution_layers(model: keras.Model) -> list[str]:
    """Names of the convolution layers that return a map, in order of execution.

    Raises ValueError if there is none.

    >>> import debugcnn, keras
    >>> body = [keras.layers.Conv2D(4, 3, name="a"), keras.layers.Conv2D(2, 3, name="b")]
    >>> model = keras.Sequential([keras.Input((12, 12, 3)), *body])
    >>> debugcnn.convolution_layers(model)
    ['a', 'b']
    """
    return _names(model, "convolution")


def _names(model, *roles):
    entries = survey(model)
    names = list(dict.fromkeys(e.name for e in entries if e.role in roles and has_map(e)))
    if not names:
        raise ValueError(f"Model {model.name!r} has no convolution layer that returns a map.")
    return names


def activations(
    model: keras.Model, images: Any, layers: Iterable[LayerOrName] | None = None
) -> dict[str, np.ndarray]:
    """Activation maps of layers: {layer name: (n, height, width, channels) float32}.

    `images` are (n, height, width, channels) with the values that the model takes. `layers` are
    layers or their names, also from inside a nested model; None takes every convolution and pooling
    layer that returns a map, in order of execution. A layer that runs more than once in the model
    counts with its last run. Raises ValueError for a layer without a map, and for images that the
    model does not take.

    >>> import debugcnn, keras, numpy as np
    >>> body = [keras.layers.Conv2D(4, 3, name="conv"), keras.layers.MaxPooling2D(name="pool")]
    >>> model = keras.Sequential([keras.Input((12, 12, 3)), *body])
    >>> maps = debugcnn.activations(model, np.zeros((2, 12, 12, 3)))
    >>> {name: values.shape for name, values in maps.items()}
    {'conv': (2, 10, 10, 4), 'pool': (2, 5, 5, 4)}
    """
    images = check_images(model, images)
    layers = tuple(_names(model, "convolution", "pooling") if layers is None else layers)
    indices = list(dict.fromkeys(find(model, layer) for layer in layers))

    def maps(batch):
        _, runs = record(model, batch, max(indices))
        axes = trace_axes(batch.graph, batch, runs)
        by_name = {}
        for index in indices:
            run = runs[index]
            layout = map_of(axes.get(run.output.name, ()))
            by_name[run.name] = tf.cast(as_map(run.output, layout), tf.float32)
        return by_name

    return in_batches(maps, images, keep=(model, (activations, tuple(map(layer_key, layers)))))


def convolution_ends(model: keras.Model) -> list[str]:
    """Names of the layers with a map at which a convolution, with the normalization and activation
    right behind it, ends, in order of execution. Raises ValueError if there is none.
    """
    ends, shape = [], None
    for entry in survey(model):
        if entry.role == "convolution" and has_map(entry):
            ends.append(entry.name)
            shape = entry.shape
        elif entry.role in {"normalization", "activation"} and entry.shape == shape:
            ends[-1] = entry.name
        else:
            shape = None
    convolution_layers(model)
    return list(dict.fromkeys(ends))


def summarize_channels(model: keras.Model, images: Any) -> dict[str, ChannelSummary]:
    """{layer name: ChannelSummary} over all images, in order of execution, for each convolution,
    dense layer, activation, and layer that joins branches, the prediction's own included.

    `images` are (n, height, width, channels) with the values that the model takes. Dead channels
    are constant ones: they have one value for all images and positions. Raises ValueError for
    images that the model does not take.

    >>> import debugcnn, keras, numpy as np
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")])
    >>> debugcnn.summarize_channels(model, np.zeros((2, 8, 8, 3)))["conv"].constant
    4
    """
    images = check_images(model, images)
    roles = {"convolution", "dense", "activation", "join"}
    watched = {entry.name for entry in survey(model) if entry.role in roles}
    is_map = {}

    def summaries(batch):
        by_name = {}
        for run in record(model, batch)[1]:
            output = run.output
            if run.name in watched and output.dtype.is_floating and output.shape.rank > 1:
                is_map[run.name] = output.shape.rank > 2
                values = tf.cast(output, tf.float32)
                values = tf.reshape(values, (tf.shape(values)[0], -1, values.shape[-1]))
                wrong = tf.reduce_sum(tf.cast(~tf.math.is_finite(values), tf.int32), (1, 2))
                by_name[run.name] = tf.reduce_min(values, 1), tf.reduce_max(values, 1), wrong
        return by_name

    return {
        name: ChannelSummary(
            int(np.sum(low.min(0) == high.max(0))),
            low.shape[1],
            int(wrong.sum()),
            float(np.abs(np.nan_to_num([low, high])).max()),
            is_map[name],
        )
        for name, (low, high, wrong) in in_batches(summaries, images).items()
    }
