"""What the weights and the activations tell, layer by layer."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import kstest

import debugcnn.quiet
from debugcnn.views.predictions import logits_in_graph

WATCHED = (*recording.CONVOLUTIONS, *recording.JOINS, keras.layers.Dense)
DRAWN = 50_000  # values to compare with
UNIFORM, TRUNCATED = 1.8, 2.5  # the largest value of such, in standard deviations, at most
RARE = 1e-4  # chance that what was drawn is told from it; the bound, too, is passed by training
KERNELS = ("kernel", "depthwise", "pointwise")  # names of initialisers


class Drawn(NamedTuple):
    """A layer that has weights as they are drawn before training."""

    layer: str
    weights: int  # parameters
    initialiser: str
    certain: bool  # its biases are all 0, or its filters the same: more than a spread tells


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
    cannot be told from one that its initialiser, or Keras' usual one, draws: by the distribution of
    its values (Kolmogorov and Smirnov), and by their bound or, where there is none, by its largest
    singular value. So are layers all of whose filters are the same: they were drawn so, and
    no training tells them apart.
    """
    found = []
    for name, layer in leaf_layers(model):
        pairs = kernels_of(layer)
        bias = getattr(layer, "bias", None)
        moved = bias is not None and np.any(np.asarray(bias))
        told = set() if moved else {_is_drawn_by_any(*pair) for pair in pairs}
        drawn = told in ({True}, {True, None})
        constant = any(_is_constant(*pair) for pair in pairs)
        if drawn or constant:
            size = sum(kernel.size for kernel, _ in pairs)
            certain = constant or bias is not None
            found.append(Drawn(name, size, type(pairs[-1][1]).__name__, certain))
    return found


def kernels_of(layer):
    """The kernels of a layer, each with its initialiser."""
    found = []
    for kind in KERNELS:
        kernel = getattr(layer, kind if kind == "kernel" else f"{kind}_kernel", None)
        if kernel is not None:
            depthwise = getattr(layer, "depthwise_initializer", None)  # of DepthwiseConv2D
            initialiser = getattr(layer, f"{kind}_initializer", None) or depthwise
            found.append((np.asarray(kernel, np.float32), initialiser))
    return found


def last_with_a_kernel(model):
    """The name of the last layer that has one, which makes the answer; None if none has."""
    return next((name for name, la in leaf_layers(model)[::-1] if kernels_of(la)), None)


def kernel_weights(model):
    """How many weights the kernels of all layers have."""
    return sum(kernel.size for _, layer in leaf_layers(model) for kernel, _ in kernels_of(layer))


def _is_constant(kernel, initialiser):
    """Whether several filters are all the same; where all are 0, only if they were made so."""
    same = kernel.shape[-1] > 1 and not np.ptp(kernel, -1).any()
    return bool(same and (kernel.any() or isinstance(initialiser, keras.initializers.Zeros)))


def _is_drawn_by_any(kernel, initialiser):
    """`_is_drawn`, by its own initialiser or by that which Keras takes where none is named."""
    drawn, usual = _is_drawn(kernel, initialiser), keras.initializers.GlorotUniform
    return drawn if drawn or isinstance(initialiser, usual) else _is_drawn(kernel, usual())


def _is_drawn(kernel, initialiser):
    """None where a kernel is too small to tell.

    Training of any length leaves traces that the spread of the weights does not show: some pass the
    bound of a bounded initialiser, columns are no longer orthogonal, and a few directions grow
    (large singular values).
    """
    if kernel.size < 50:
        return None
    if initialiser is None or not np.ptp(kernel):
        return False
    if isinstance(initialiser, keras.initializers.Orthogonal):
        return _is_orthogonal(kernel, initialiser.gain)
    draws = [_draw(initialiser, kernel.shape, seed) for seed in range(DRAWN // kernel.size + 1)]
    draw = np.concatenate([one.ravel() for one in draws])
    spread = draw.std() or 1.0
    if abs(kernel.std() / spread - 1) > 4 / np.sqrt(2 * kernel.size):  # standard errors
        return False
    largest = np.abs(draw).max() / spread
    if largest < UNIFORM:
        limit = np.sqrt(3) * _spread(initialiser, kernel.shape, draw)
        inside = np.abs(kernel).max() <= limit * 1.0001
        fits = kstest(kernel.ravel(), "uniform", (-limit, 2 * limit)).pvalue > RARE
        return bool(inside and fits)
    if kstest(kernel.ravel(), draw.ravel()).pvalue <= 0.01:
        return False
    if largest < TRUNCATED:  # at two standard deviations before it was truncated
        limit = 2 / 0.87962566 * _spread(initialiser, kernel.shape, draw)
        return bool(np.abs(kernel).max() <= limit * 1.0001)
    found = [_stretch(_draw(initialiser, kernel.shape, seed)) for seed in range(20)]
    return bool(_stretch(kernel) < np.mean(found) + 5 * np.std(found))


def _draw(initialiser, shape, seed):
    config = initialiser.get_config() | {"seed": seed}
    return np.asarray(type(initialiser).from_config(config)(shape), np.float32)


def _stretch(kernel):
    """The largest singular value of a kernel, each of its columns an output."""
    matrix = np.float64(kernel.reshape(-1, kernel.shape[-1]))
    matrix = matrix if matrix.shape[0] > matrix.shape[1] else matrix.T
    return float(np.sqrt(np.linalg.eigvalsh(matrix.T @ matrix)[-1]))


def _is_orthogonal(kernel, gain):
    matrix = np.float64(kernel.reshape(-1, kernel.shape[-1])) / gain
    matrix = matrix if matrix.shape[0] > matrix.shape[1] else matrix.T
    return bool(np.abs(matrix.T @ matrix - np.eye(matrix.shape[1])).max() < 1e-4)


def _spread(initialiser, shape, draw):
    """Standard deviation of an initialiser, exactly for those scaled by their fans."""
    scale = getattr(initialiser, "scale", None)
    if scale is None:
        high, wide = (getattr(initialiser, name, None) for name in ("maxval", "stddev"))
        return high / np.sqrt(3) if high else 0.87962566 * wide if wide else draw.std()
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

    for name, counts in recording.in_batches(count, debugcnn.check_images(model, images)).items():
        if counts.any():
            found.append(NotFinite(name, int(counts.sum()), "activations"))
    return found


def output_head(model, output=None):
    """What is wrong with the head, as a sentence, or None: a softmax on a single unit always gives
    1, a softmax or sigmoid on top of another is never sure, and a relu or tanh is no head at all.
    """
    answer, heads = (
        debugcnn.classifier_head(model, output),
        debugcnn.output_activations(model, output),
    )
    if answer.kind == "sigmoid" and any(kind == "Softmax" for kind, _ in heads):
        return "it ends in a softmax on a single unit, which is 1 whatever enters it"
    if any(above for _, above in heads):
        kinds = " on top of a ".join(kind.lower() for kind, _ in heads[:2])
        return f"it ends in a {kinds}, so that no answer can be sure"
    last = debugcnn.last_operation(model, output)
    if not heads and last in INNER:
        return f"it ends in {last.lower()}, which makes neither a probability nor a logit"
    return None


# TensorFlow's names of activations between layers, which are not to be behind the last.
INNER = {"Elu", "LeakyRelu", "Relu", "Relu6", "Selu", "Softplus", "Softsign", "Tanh"}

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
    """How many layers with kernels follow each other without an activation, so that they could be
    one: all of them, or all convolutions, two at least; else 0. The head of the last layer does not
    count as an activation. A net with a layer of another kind than PLAIN among them gets 0.
    """
    if type(model).__module__.partition(".")[0] != "keras":
        return 0  # what a model of its own class does between its layers is not known
    found = [entry.layer() for entry in recording.survey(model)]
    kernels = [i for i, layer in enumerate(found) if kernels_of(layer)]
    convolutions = [i for i in kernels if isinstance(found[i], recording.CONVOLUTIONS)]
    behind = [i for i in kernels if convolutions and i > convolutions[-1]]
    linear = (None, keras.activations.linear)
    for some, end in ((kernels[:-1], kernels[-1:]), (convolutions, behind[:1])):
        plain = all(isinstance(layer, (*PLAIN, keras.Model)) for layer in found[: sum(end)])
        acts = any(getattr(found[i], "activation", None) not in linear for i in some)
        count = len(some) + (some == kernels[:-1])
        if end and plain and not acts and count > 1:
            return count
    return 0


class Linear(NamedTuple):
    """A place where weights act on weights without an activation, in a net that has some."""

    layer: str  # behind which it would be
    activation: object  # the first of the others


def linear_layers(model):
    """A list of Linear: between two layers with kernels lies nothing but PLAIN ones, none of which
    activates, though another does.
    """
    if type(model).__module__.partition(".")[0] != "keras":
        return []
    entries = recording.survey(model)
    found = [entry.layer() for entry in entries]
    kernels = [i for i, layer in enumerate(found) if kernels_of(layer)]
    acts = [
        _activation(layer) or (entry.activated and layer) for entry, layer in zip(entries, found)
    ]
    usual = [
        act for act in acts[: max(kernels, default=0)] if act and not getattr(act, "weights", 0)
    ]
    missing = []
    for i, after in zip(kernels, kernels[1:]):
        between = range(i, after)
        plain = all(isinstance(found[k], (*PLAIN, keras.layers.Activation)) for k in between)
        if usual and plain and not any(acts[i:after]):
            behind = [k for k in between if isinstance(found[k], recording.NORMALISATIONS)]
            missing.append(Linear(entries[(behind or [i])[-1]].name, usual[0]))
    return missing


def branches(model):
    """Whether layers join branches, in which one without an activation may be meant so."""
    return any(isinstance(entry.layer(), recording.JOINS) for entry in recording.survey(model))


def _activation(layer):
    """The function that a layer applies to what it returns, None if that stays as it is."""
    function = getattr(layer, "activation", None)
    return None if function == keras.activations.linear else function


def with_activation(model, missing, images, output=None):
    """Logits (n, classes) with an activation at each of some `linear_layers`. The model stays as it
    is.
    """
    acts = {linear.layer: linear.activation for linear in missing}
    found = {e.name: e.layer() for e in recording.survey(model) if e.name in acts}

    def with_(act, given):
        return lambda *args, **named: act(given(*args, **named))

    try:
        for name, layer in found.items():
            vars(layer)["call"] = with_(acts[name], layer.call)
        images = debugcnn.check_images(model, images)
        return recording.in_batches(lambda some: logits_in_graph(model, some, output), images)
    finally:
        for layer in found.values():
            vars(layer).pop("call", None)


class Zeroed(NamedTuple):
    """A layer with filters whose weights are all 0, which no training leaves behind."""

    layer: str
    zero: int
    count: int


def zeroed(model):
    """A list of Zeroed, that with the largest share of them first: of layers with a kernel but for
    the answer's own, and of normalisations, all of whose factors and offsets count.
    """
    found, answer = [], last_with_a_kernel(model)
    for name, layer in leaf_layers(model):
        gamma, beta = (getattr(layer, weight, None) for weight in ("gamma", "beta"))
        filters = [_filters(layer, kernel) for kernel, _ in kernels_of(layer)]
        if gamma is not None and beta is not None:
            filters = [np.stack([np.ravel(gamma), np.ravel(beta)])]
        for weights in filters if name != answer else ():
            zero = int(np.sum(~weights.any(0)))
            found += [Zeroed(name, zero, weights.shape[-1])] if zero else []
    return sorted(found, key=lambda layer: -layer.zero / layer.count)


def _filters(layer, kernel):
    """(weights, filters) of a kernel."""
    if isinstance(layer, keras.layers.Conv2DTranspose):
        kernel = np.swapaxes(kernel, -2, -1)
    separable = isinstance(layer, keras.layers.SeparableConv2D) and kernel.shape[:2] != (1, 1)
    depthwise = separable or isinstance(layer, keras.layers.DepthwiseConv2D)
    return kernel.reshape(-1, np.prod(kernel.shape[-2:] if depthwise else kernel.shape[-1:]))


class Units(NamedTuple):
    """What the channels or units of a layer return over many images."""

    layer: str
    constant: int  # that have one and the same value everywhere
    count: int
    highest: float  # absolute value
    is_map: bool  # of many places, not one number for each channel


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

    is_map = {}

    def ranges(batch):
        _, runs = recording.record(model, batch)
        found = {}
        for run in runs:
            if run.name in watched and run.output.dtype.is_floating and run.output.shape.rank > 1:
                is_map[run.name] = run.output.shape.rank > 2
                values = tf.cast(run.output, tf.float32)
                values = tf.reshape(values, (tf.shape(values)[0], -1, values.shape[-1]))
                found[run.name] = tf.reduce_min(values, 1), tf.reduce_max(values, 1)
        return found

    found = recording.in_batches(ranges, debugcnn.check_images(model, images))
    names = list(found)
    return [
        Units(
            name,
            int(np.sum(found[name][0].min(0) == found[name][1].max(0))),
            found[name][0].shape[1],
            float(np.abs(np.nan_to_num([found[name][0], found[name][1]])).max()),
            is_map[name],
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
    first, again = (debugcnn.logits(model, images, output) for _ in range(2))
    alone = np.concatenate(
        [debugcnn.logits(model, images[i : i + 1], output) for i in range(len(images))]
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
        images = debugcnn.check_images(model, images)[order]
        found = recording.in_batches(
            lambda some: logits_in_graph(model, some, output), images, batch=batch
        )
        return found[np.argsort(order)]
    finally:
        for layer in norms:
            vars(layer).pop("call", None)
