"""The layers of a model that hold weights, and copies of its computation with something changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from ..views import kinds, tracing
from ..views.predictions import logits_in_graph


def leaf_layers(model: keras.Model) -> list[tuple[str, keras.layers.Layer]]:
    """(name, layer) of the layers that hold their own weights, in order of execution.

    Those inside nested models count; the nested models themselves do not.
    """
    names = {}
    for entry in tracing.survey(model):
        layer = entry.layer()
        if isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.Model):
            names.setdefault(id(layer), (entry.name, layer))
    return list(names.values())


def last_layer_with_kernel(model: keras.Model) -> str | None:
    """The name of the last layer that has a kernel, which makes the prediction."""
    layers = reversed(leaf_layers(model))
    return next((name for name, layer in layers if kinds.kernels_of(layer)), None)


def weights_in_kernels(model: keras.Model) -> int:
    """How many weights the kernels of all layers have."""
    layers = (layer for _, layer in leaf_layers(model))
    return sum(kernel.size for layer in layers for kernel, _ in kinds.kernels_of(layer))


def batch_normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The batch normalization layers of a model, also those inside nested models."""
    layers = (layer for _, layer in leaf_layers(model))
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


@contextmanager
def calls_replaced(layers: list, make: Callable[[keras.layers.Layer], Callable]) -> Iterator[None]:
    """Replace the `call` of some layers by what `make` returns for each; undone at the end."""
    try:
        for layer in layers:
            vars(layer)["call"] = make(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("call", None)


def logits_with_batch_statistics(
    model: keras.Model, images: np.ndarray, output: str | int | None = None, batch: int = 128
) -> np.ndarray:
    """Logits (n, classes) with each batch normalized by its own mean and variance, as in training.

    Images are taken in a random order, since a batch of one class would lose what distinguishes it
    from the others. The model is not changed.
    """

    def from_batch(layer):
        def call(inputs, training=None, mask=None):
            values = tf.cast(inputs, tf.float32)
            axes = [i for i in range(values.shape.rank) if i != layer.axis % values.shape.rank]
            mean, variance = tf.nn.moments(values, axes, keepdims=True)
            shape = [1] * values.shape.rank
            shape[layer.axis] = -1
            gamma, beta = (
                None if w is None else tf.reshape(tf.cast(w, tf.float32), shape)
                for w in (layer.gamma, layer.beta)
            )
            result = tf.nn.batch_normalization(values, mean, variance, beta, gamma, layer.epsilon)
            return tf.cast(result, inputs.dtype)

        return call

    order = np.random.default_rng(0).permutation(len(images))
    images = tracing.check_images(model, images)[order]
    with calls_replaced(batch_normalizations(model), from_batch):
        shuffled = tracing.in_batches(
            lambda part: logits_in_graph(model, part, output), images, batch=batch
        )
    return shuffled[np.argsort(order)]


def logits_with_activations(
    model: keras.Model,
    activations: dict[str, Callable],
    images: np.ndarray,
    output: str | int | None = None,
) -> np.ndarray:
    """Logits (n, classes) with an activation behind each named layer. The model is not changed."""

    def activated(layer):
        call, activation = layer.call, activations[names[id(layer)]]
        return lambda *args, **kwargs: activation(call(*args, **kwargs))

    entries = [entry for entry in tracing.survey(model) if entry.name in activations]
    names = {id(entry.layer()): entry.name for entry in entries}
    layers = list({id(entry.layer()): entry.layer() for entry in entries}.values())
    images = tracing.check_images(model, images)
    with calls_replaced(layers, activated):
        return tracing.in_batches(lambda part: logits_in_graph(model, part, output), images)
