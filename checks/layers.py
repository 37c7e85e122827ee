"""What the weights and the activations tell, layer by layer."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import kstest

import visualize
from visualize import recording
from visualize.answers import logits_in

WATCHED = (*recording.CONVOLUTIONS, *recording.JOINS, keras.layers.Dense)
DRAWN = 50_000  # values to compare with
KERNELS = ("kernel", "depthwise", "pointwise")  # names of initialisers


class Drawn(NamedTuple):
    """A layer that has weights as they are drawn before training."""

    layer: str
    weights: int  # parameters
    initialiser: str


def leaf_layers(model):
    """The layers that hold their own weights, also those inside nested models, as they run."""
    names = {}
    for entry in recording.survey(model):
        layer = entry.layer()
        if isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.Model):
            names.setdefault(id(layer), (entry.name, layer))
    return list(names.values())


def untrained_layer(model):
    """A list of Drawn: layers whose biases are still exactly 0, or that have none, and whose kernel
    cannot be told from one that its initialiser draws (Kolmogorov and Smirnov, at 1 %).
    """
    found = []
    for name, layer in leaf_layers(model):
        pairs = kernels_of(layer)
        bias = getattr(layer, "bias", None)
        if not pairs or (bias is not None and np.any(np.asarray(bias))):
            continue
        if {_is_drawn(*pair) for pair in pairs} in ({True}, {True, None}):
            size = sum(kernel.size for kernel, _ in pairs)
            found.append(Drawn(name, size, type(pairs[-1][1]).__name__))
    return found


def kernels_of(layer):
    """The kernels of a layer, each with its initialiser."""
    found = []
    for kind in KERNELS:
        kernel = getattr(layer, kind if kind == "kernel" else f"{kind}_kernel", None)
        if kernel is not None:
            initialiser = getattr(layer, f"{kind}_initializer", None)
            found.append((np.asarray(kernel, np.float32), initialiser))
    return found


def kernel_weights(model):
    """How many weights the kernels of all layers have."""
    return sum(kernel.size for _, layer in leaf_layers(model) for kernel, _ in kernels_of(layer))


def _is_drawn(kernel, initialiser):
    """None where a kernel is too small to tell."""
    if kernel.size < 50:
        return None
    if initialiser is None or not np.ptp(kernel):
        return False
    draws = range(max(1, DRAWN // kernel.size))
    configs = (initialiser.get_config() | {"seed": seed} for seed in draws)
    draw = [np.asarray(type(initialiser).from_config(c)(kernel.shape)).ravel() for c in configs]
    draw = np.float32(np.concatenate(draw))
    spread = draw.std() or 1.0
    if abs(kernel.std() / spread - 1) > 4 / np.sqrt(2 * kernel.size):  # standard errors
        return False
    bounded = np.abs(draw).max() < 1.75 * spread  # uniform: at most the root of 3
    if bounded:
        limit = np.sqrt(3) * _spread(initialiser, kernel.shape, draw)
        inside = np.abs(kernel).max() <= limit * 1.0001
        fits = kstest(kernel.ravel(), "uniform", (-limit, 2 * limit)).pvalue > 0.01
        return bool(inside and fits)
    return bool(kstest(kernel.ravel(), draw.ravel()).pvalue > 0.01)


def _spread(initialiser, shape, draw):
    """Standard deviation of a uniform initialiser, exactly for those scaled by their fans."""
    scale = getattr(initialiser, "scale", None)
    if scale is None:
        high = getattr(initialiser, "maxval", None)
        return high / np.sqrt(3) if high else draw.std()
    receptive = int(np.prod(shape[:-2])) if len(shape) > 2 else 1
    inputs, outputs = receptive * shape[-2], receptive * shape[-1]
    fan = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}
    return float(np.sqrt(scale / max(1.0, fan[initialiser.mode])))


class NotFinite(NamedTuple):
    """NaN or infinity in a layer."""

    layer: str
    count: int
    where: str  # "weights" or "activations"


def not_finite(model, images):
    """A list of NotFinite, the weights' before the activations', each in the order in which the
    layers run. Activations are counted as they enter an activation function, which may hide them.
    """
    found = []
    for name, layer in leaf_layers(model):
        wrong = sum(int(np.sum(~np.isfinite(np.asarray(w)))) for w in layer.weights)
        if wrong:
            found.append(NotFinite(name, wrong, "weights"))

    def count(batch):
        counts = {}
        for run in recording.record(model, batch)[1]:
            if run.before.dtype.is_floating and run.before.shape.rank:
                wrong = tf.cast(~tf.math.is_finite(run.before), tf.int32)
                counts[run.name] = tf.reduce_sum(wrong, tf.range(1, tf.rank(wrong)))
        return counts

    for name, counts in recording.in_batches(count, visualize.check_images(model, images)).items():
        if counts.any():
            found.append(NotFinite(name, int(counts.sum()), "activations"))
    return found


def output_head(model, output=None):
    """What is wrong with the head, as a sentence, or None: a softmax on a single unit always gives
    1, and a softmax or sigmoid on top of another is never sure.
    """
    answer, heads = visualize.answers(model, output), visualize.heads(model, output)
    if answer.kind == "sigmoid" and any(kind == "Softmax" for kind, _ in heads):
        return "it ends in a softmax on a single unit, which is 1 whatever enters it"
    if any(above for _, above in heads):
        kinds = " on top of a ".join(kind.lower() for kind, _ in heads[:2])
        return f"it ends in a {kinds}, so that no answer can be sure"
    return None


# Layers through which weights act on weights without anything between them that is not linear, but
# for the maximum of a pooling.
PLAIN = (
    *(keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D),
    *(keras.layers.Dense, keras.layers.BatchNormalization, keras.layers.InputLayer),
    *(keras.layers.Flatten, keras.layers.Reshape, keras.layers.Dropout, keras.layers.Rescaling),
    *(keras.layers.AveragePooling2D, keras.layers.GlobalAveragePooling2D),
    *(keras.layers.MaxPooling2D, keras.layers.GlobalMaxPooling2D, keras.layers.ZeroPadding2D),
)


def no_activation(model):
    """How many layers with kernels there are if none of them but the last has an activation, so
    that they could be one; else 0. A net with a layer of another kind than PLAIN gets 0.
    """
    if type(model).__module__.partition(".")[0] != "keras":
        return 0  # what a model of its own class does between its layers is not known
    found = [entry.layer() for entry in recording.survey(model)]
    kernels = [layer for layer in found if kernels_of(layer)]
    before = found[: found.index(kernels[-1])] if kernels else []
    if not all(isinstance(layer, (*PLAIN, keras.Model)) for layer in before):
        return 0
    linear = (None, keras.activations.linear)
    acts = any(getattr(layer, "activation", None) not in linear for layer in kernels[:-1])
    return 0 if acts or len(kernels) < 2 else len(kernels)


class Units(NamedTuple):
    """What the channels or units of a layer return over many images."""

    layer: str
    constant: int  # that have one and the same value everywhere
    count: int
    highest: float  # absolute value


def units(model, images):
    """A list of Units, one for each layer that ends a convolution, activates, joins branches, or is
    dense, in the order in which they run, but for the answer's own.
    """
    watched = [
        entry.name
        for entry in recording.survey(model)
        if isinstance(entry.layer(), WATCHED)
        or type(entry.layer()).__name__.lower() in recording.ACTIVATIONS
    ]

    def ranges(batch):
        _, runs = recording.record(model, batch)
        found = {}
        for run in runs:
            if run.name in watched and run.output.dtype.is_floating and run.output.shape.rank > 1:
                values = tf.cast(run.output, tf.float32)
                values = tf.reshape(values, (tf.shape(values)[0], -1, values.shape[-1]))
                found[run.name] = tf.reduce_min(values, 1), tf.reduce_max(values, 1)
        return found

    found = recording.in_batches(ranges, visualize.check_images(model, images))
    names = list(found)
    return [
        Units(
            name,
            int(np.sum(found[name][0].min(0) == found[name][1].max(0))),
            found[name][0].shape[1],
            float(np.abs(np.nan_to_num([found[name][0], found[name][1]])).max()),
        )
        for name in names
    ]


class Repeated(NamedTuple):
    """How far answers to the same images lie apart, in standard deviations of all logits."""

    again: float  # when they are asked twice
    alone: float  # when each is asked alone


def repeated(model, images, output=None, count=16):
    """A Repeated of the first images: a net in inference mode gives (nearly) 0 and 0.

    Dropout that stays on answers at random; batch normalisation that stays in training mode makes
    an answer depend on the other images of the batch.
    """
    images = images[:count]
    first, again = (visualize.logits(model, images, output) for _ in range(2))
    alone = np.concatenate(
        [visualize.logits(model, images[i : i + 1], output) for i in range(len(images))]
    )
    spread = float(np.std(first)) or 1.0
    return Repeated(*(float(np.abs(other - first).max() / spread) for other in (again, alone)))


def batch_normalisations(model):
    """The batch normalisation layers of a model, also those inside nested models."""
    found = (layer for _, layer in leaf_layers(model))
    return [layer for layer in found if isinstance(layer, keras.layers.BatchNormalization)]


def with_batch_statistics(model, images, output=None, batch=128):
    """Logits (n, classes) when each batch normalisation takes the mean and the variance of the
    images that are asked together, as in training, instead of those that it stored. They are asked
    in a random order, since a batch of a single class would lose what tells it from the others. The
    model stays as it is.
    """
    norms = batch_normalisations(model)

    def from_batch(layer):
        def call(inputs, training=None, mask=None):
            given = tf.cast(inputs, tf.float32)
            axes = [i for i in range(given.shape.rank) if i != layer.axis % given.shape.rank]
            mean, variance = tf.nn.moments(given, axes, keepdims=True)
            shape = [1] * given.shape.rank
            shape[layer.axis] = -1
            gamma, beta = (
                None if w is None else tf.reshape(tf.cast(w, tf.float32), shape)
                for w in (layer.gamma, layer.beta)
            )
            result = tf.nn.batch_normalization(given, mean, variance, beta, gamma, layer.epsilon)
            return tf.cast(result, inputs.dtype)

        return call

    try:
        for layer in norms:
            vars(layer)["call"] = from_batch(layer)
        order = np.random.default_rng(0).permutation(len(images))
        images = visualize.check_images(model, images)[order]
        found = recording.in_batches(
            lambda some: logits_in(model, some, output), images, batch=batch
        )
        return found[np.argsort(order)]
    finally:
        for layer in norms:
            vars(layer).pop("call", None)
