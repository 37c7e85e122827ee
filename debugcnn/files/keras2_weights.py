"""Weights as files of Keras 2 hold them, set in a model of Keras 3."""

import math
import re
from collections import Counter
from typing import NamedTuple

import h5py
import keras
import numpy as np
import tensorflow as tf


class Part(NamedTuple):
    """A layer of a model, and how its file describes it."""

    kind: str  # class in the file
    name: str  # name in the file
    layer: keras.layers.Layer


Parts = dict[int, list[Part]]  # by the id of a model


def fill_from_hdf5(model: keras.Model, group: h5py.Group, parts: Parts) -> None:
    """Set the weights of a model from an .h5 file, which holds them by layer.

    Raises ValueError if they do not fit the layers.
    """
    for _, name, layer in parts[id(model)]:
        names = _texts(group[name], "weight_names") if name in group else []
        _set_weights(layer, [group[name][n] for n in names], parts)


def fill_from_zip(model: keras.Model, group: h5py.Group, parts: Parts) -> None:
    """The same from the weights in a .keras file, whose groups are named and counted by class."""
    counts: Counter[str] = Counter()
    for kind, _, layer in parts[id(model)]:
        name = _snake_case(kind) + (f"_{counts[kind]}" if counts[kind] else "")
        counts[kind] += 1
        if id(layer) in parts:
            fill_from_zip(layer, group["layers"][name], parts)
        else:
            _fill_layer(layer, group["layers"][name], parts)


def _fill_layer(layer, group, parts):
    """Set the weights of a layer, and of the layers that it holds in attributes."""
    inner = [key for key in group if group[key].get("vars") and hasattr(layer, key)]
    for key, part in [(None, layer), *((key, getattr(layer, key)) for key in inner)]:
        stored = (group[key] if key else group)["vars"]
        values = [stored[str(number)] for number in range(len(stored))]
        if values or not inner:
            _set_weights(part, values, parts)


def _set_weights(layer, values, parts):
    """Set a layer's weights from data sets, none of which is read before all are known to fit."""
    trainable, others = _weights(layer, parts)
    # Whole numbers are seeds, and the count of images that a normalization was adapted to.
    variables = [v for v in [*trainable, *others] if tf.as_dtype(v.dtype).is_floating]
    values = [value for value in values if value.dtype.kind not in "iu"]
    if [math.prod(v.shape) for v in values] != [math.prod(v.shape) for v in variables]:
        raise ValueError(f"The weights of its layer {layer.name!r} do not fit its description.")
    for variable, value in zip(variables, values):
        variable.assign(np.reshape(value[()], variable.shape))
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()


def _weights(layer, parts):
    """Variables in the order of Keras 2: a model's trainable ones come before the others."""
    if id(layer) not in parts:
        return layer.trainable_weights, layer.non_trainable_weights
    pairs = [_weights(part.layer, parts) for part in parts[id(layer)]]
    return [sum((list(pair[i]) for pair in pairs), []) for i in (0, 1)]


def _snake_case(name):
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _texts(group, name):
    """A list of names; HDF5 keeps a long one in several parts."""
    parts = [group.attrs[name]] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{name}{len(parts)}"])
    return [n.decode() if isinstance(n, bytes) else n for part in parts for n in part]
