"""View 1: what each layer makes of a photo."""

import tensorflow as tf

from .geometry import as_map, map_of, trace_axes
from .recording import (
    CONVOLUTIONS,
    POOLINGS,
    check_images,
    find,
    has_map,
    in_batches,
    layer_key,
    record,
    survey,
)


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
