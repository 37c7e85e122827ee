"""What a classifier answers, and which pixel values it takes."""

import inspect
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import binomtest

from .recording import (
    BATCH,
    CONVOLUTIONS,
    check_images,
    check_model,
    image_shape,
    in_batches,
    kept_for,
    record,
    trace,
)

# TensorFlow's names of what turns logits into probabilities, of what may follow it without
# changing the order of the classes, and of what takes, puts together or averages classes.
SIGMOIDS = {"Sigmoid"}
HEADS = {"Softmax", "LogSoftmax"} | SIGMOIDS
PASSING = {"Cast", "CheckNumerics", "ClipByValue", "Identity", "IdentityN", "Snapshot"}
CLIPPING = {"Maximum", "Minimum"}  # with a constant
SHAPING = {"ExpandDims", "Reshape", "Squeeze"}
LINEAR = {
    *("Add", "AddN", "AddV2", "ConcatV2", "ExpandDims", "GatherV2", "Mean", "Mul", "Neg", "Pack"),
    *("RealDiv", "Reshape", "Slice", "Split", "SplitV", "Squeeze", "StridedSlice", "Sub", "Sum"),
    *("Transpose", "Unpack"),
}


class Answer(NamedTuple):
    """What a model answers: "softmax": one of the classes; "sigmoid": a single unit, so class 0 or
    1; "labels": each class for itself, several sigmoids. `applied` tells whether the model itself
    ends in it; if not, it returns logits.
    """

    kind: str
    classes: int
    applied: bool


def choose_output(model, outputs, output=None):
    """The model's answer, (n, units): the one of its outputs that is named or numbered `output`."""
    if not tf.is_tensor(outputs):
        named = outputs if isinstance(outputs, dict) else dict(enumerate(tf.nest.flatten(outputs)))
        names = getattr(model, "output_names", None) or []
        if not isinstance(outputs, dict) and len(names) == len(named):
            named |= dict(zip(names, list(named.values())))
        if isinstance(outputs, dict):
            named = named | dict(enumerate(outputs.values()))
        if len(tf.nest.flatten(outputs)) == 1 and output is None:
            output = 0
        if output not in named:
            raise ValueError(
                f"Model {model.name!r} has several outputs: choose one with output= "
                f"{' or '.join(repr(name) for name in named)}, not {output!r}."
            )
        outputs = named[output]
    elif output not in (None, 0, *getattr(model, "output_names", [])):
        raise ValueError(f"Model {model.name!r} has one output only: leave output={output!r} out.")
    shape = outputs.shape
    if shape.rank == 1:
        return outputs[:, None]
    if not shape.rank or None in shape[1:] or np.prod(shape[1:]) != max(shape[1:]):
        raise ValueError(f"The model returns {tuple(shape)}, a classifier (n, classes).")
    return outputs if shape.rank == 2 else tf.reshape(outputs, (-1, max(shape[1:])))


def logits_of(answer):
    """What enters the sigmoids or softmax that `answer` (n, units) is made of, that head's kind,
    and all `heads`; (answer, None, ()) if none is found.

    Whatever takes, puts together or averages classes behind the head is done to its logits
    instead, and what only clips is left out: so a sure answer has a gradient, too.
    """
    found = []

    def without_head(tensor, above=0):
        op = tensor.op
        if op.type in HEADS:
            pair = op.type in SIGMOIDS and op.inputs[0].shape[-1] == 1 < answer.shape[1]
            found.append(("Softmax" if pair else op.type, above))  # 1 - p and p: of two classes
            inner = without_head(op.inputs[0], above + 1)
            return op.inputs[0] if inner is None else inner
        if op.type == "Log":
            inner = without_head(op.inputs[0], above)
            if inner is not None:
                found.insert(0, ("LogSoftmax", above))
            return inner
        if op.type in PASSING:
            given = op.inputs[tensor.value_index if op.type == "IdentityN" else 0]
            return without_head(given, above)
        if op.type not in LINEAR | CLIPPING:
            return None
        inner = [without_head(given, above) for given in op.inputs]
        if all(one is None for one in inner):
            return None
        if op.type in CLIPPING:
            return next(one for one in inner if one is not None)
        if op.type in {"Mul", "RealDiv", "Sub"} and all(one is not None for one in inner):
            return None  # a product of answers is not linear in them
        given = [g if one is None else tf.cast(one, g.dtype) for g, one in zip(op.inputs, inner)]
        return _again(op, given)[tensor.value_index]

    logits = without_head(answer)
    if logits is None:
        return tf.cast(answer, tf.float32), None, ()
    logits = tf.cast(tf.reshape(logits, tf.shape(answer)), tf.float32)
    return logits, found[0][0], tuple(found)


def _again(op, given):
    """The outputs of an operation like `op`, on other inputs."""
    function = getattr(tf.raw_ops, op.type)
    known = inspect.signature(function).parameters
    values = {attr.name: op.get_attr(attr.name) for attr in op.op_def.attr if attr.name in known}
    given = list(given)
    for argument in op.op_def.input_arg:
        if argument.number_attr:
            many = op.get_attr(argument.number_attr)
            values[argument.name], given = given[:many], given[many:]
        else:
            values[argument.name] = given.pop(0)
    values = {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}
    outputs = function(**values)
    return outputs if isinstance(outputs, (list, tuple)) else [outputs]


def class_logits(logits):
    """(n, classes) of (n, units): a single unit x has the classes 0 and 1, -x and x."""
    return tf.concat([-logits, logits], 1) if logits.shape[1] == 1 else logits


def answers(model, output=None):
    """An Answer: what kind of answer the model gives. `output` chooses one of several outputs.

    Raises ValueError for a model that is no classifier of images.
    """
    return _looked_at(model, output)[0]


def heads(model, output=None):
    """The softmaxes and sigmoids that make the answer, by TensorFlow's names, and how many others
    each enters: (("Softmax", 0),) as a rule, () where none is found.
    """
    return _looked_at(model, output)[1]


def last_operation(model, output=None):
    """TensorFlow's name of the operation that gives the answer, as "Softmax", "BiasAdd" or "Relu",
    whatever layer it is part of; what only clips, or gives another shape, does not count.
    """
    return _looked_at(model, output)[2]


def _looked_at(model, output):
    check_model(model)
    kept, key = kept_for(model), (answers, output)

    def look(images):
        answer = choose_output(model, record(model, images)[0], output)
        units, (_, head, found) = answer.shape[1], logits_of(answer)
        kind = "sigmoid" if units == 1 else "labels" if head in SIGMOIDS else "softmax"
        last = answer
        while last.op.type in PASSING | CLIPPING | SHAPING:
            last = last.op.inputs[last.value_index if last.op.type == "IdentityN" else 0]
        kept[key] = Answer(kind, max(units, 2), head is not None), found, last.op.type

    if key not in kept:
        trace(look, image_shape(model))
    return kept[key]


def probabilities(model, images, output=None):
    """(n, classes) float32: the model's probabilities; one unit p gives [1 - p, p].

    Logits get the sigmoid or softmax that is missing (`answers` tells). A model that ends in a
    log-softmax gets its exponential.
    """
    return logits_and_probabilities(model, images, output)[1]


def logits(model, images, output=None):
    """(n, classes) float32: what enters the softmax or sigmoids; one unit x gives [-x, x].

    So answers that are equally sure, 1 and 1, are still told apart. Where the head is hidden, it is
    the answer itself.
    """
    return logits_and_probabilities(model, images, output)[0]


def logits_and_probabilities(model, images, output=None):
    """What `logits` and `probabilities` return, asked together."""
    images = check_images(model, images)

    def ask(batch):
        answer = choose_output(model, record(model, batch)[0], output)
        units, head, _ = logits_of(answer)
        answer = tf.cast(answer, tf.float32)
        if head == "LogSoftmax":
            answer = tf.exp(answer)
        elif not head and units.shape[1] == 1:
            answer = tf.sigmoid(units)
        elif not head:
            answer = tf.where(adds_up(answer), answer, tf.nn.softmax(units))
        if answer.shape[1] == 1:
            answer = tf.concat([1 - answer, answer], 1)
        return class_logits(units), answer

    return in_batches(ask, images, keep=(model, (logits_and_probabilities, output)))


def logits_in(model, batch, output=None):
    """`logits` of a tensor, inside a tf.function."""
    answer = choose_output(model, record(model, batch)[0], output)
    return class_logits(logits_of(answer)[0])


def adds_up(answer):
    """(n, 1): whether an answer is one of probabilities already, however it was made."""
    positive = tf.reduce_all(answer >= 0, 1, keepdims=True)
    return positive & (tf.abs(tf.reduce_sum(answer, 1, keepdims=True) - 1) < 1e-3)


# ------------------------------------------------------------------------------ values of pixels

# As Keras' preprocess_input for weights from Caffe (BGR, less the means) and from PyTorch.
CAFFE_MEANS = np.array([103.939, 116.779, 123.68], np.float32)
TORCH_MEANS = np.array([0.485, 0.456, 0.406], np.float32)
TORCH_SPREADS = np.array([0.229, 0.224, 0.225], np.float32)
VALUE_RANGES = ((0, 255), (0, 1), (-1, 1), "caffe", "torch")
USUAL = 2  # difference between black and white behind a model's own scaling, about
CLEARLY = 0.5  # times the mismatch of the next best
SPREAD, SURE = 0.05, 0.98  # bits, probability: what a fitting range exceeds, and stays below
FEW = 32  # photos, below which the two alone decide nothing
LIKELY = ((0, 1), (0, 255), (-1, 1), "caffe", "torch")  # most common first, where several fit


def limits(value_range):
    """The lowest and the highest value that each channel takes, as the model counts them."""
    if isinstance(value_range, str):
        if value_range == "caffe":
            return -CAFFE_MEANS, 255 - CAFFE_MEANS
        if value_range == "torch":
            return -TORCH_MEANS / TORCH_SPREADS, (1 - TORCH_MEANS) / TORCH_SPREADS
    elif np.shape(value_range) == (2,) and np.all(np.diff(value_range) > 0):
        return tuple(np.asarray(value_range, np.float32))
    raise ValueError(
        f"value_range is the lowest and the highest value of a pixel, such as (0, 255), or 'caffe' "
        f"or 'torch', not {value_range!r}."
    )


def from_pixels(photos, value_range):
    """Photos (n, h, w, c), RGB from 0 to 255, as a model takes them: float32 within `value_range`.

    'caffe' is BGR less the means of ImageNet, 'torch' RGB from 0 to 1, less the means and divided
    by the spreads of ImageNet, as in keras.applications' preprocess_input.
    """
    low, high = limits(value_range)
    photos = np.asarray(photos, np.float32)
    photos = photos[..., ::-1] if value_range == "caffe" else photos
    images = np.multiply(photos, (high - low) / np.float32(255), order="C")
    images += low
    return images


def to_pixels(images, value_range):
    """The reverse of `from_pixels`: float32, RGB, 0 to 255."""
    low, high = limits(value_range)
    photos = (np.asarray(images, np.float32) - low) / (high - low) * 255
    return photos[..., ::-1] if value_range == "caffe" else photos


class Trial(NamedTuple):
    """How a model answers photos within one value range."""

    value_range: tuple | str
    sure: float  # mean probability of the most probable class
    spread: float  # bits by which the answers to different photos differ
    mismatch: float | None  # of the statistics stored in the first batch normalisation
    accuracy: float | None  # where there are labels


class Found(NamedTuple):
    """The values that a model seems to take."""

    value_range: tuple | str
    reason: str  # "inside": the model scales pixels itself; "tried"; "undecided"
    trials: list


def find_value_range(model, photos, labels=None, output=None):
    """A `Found`: the values of pixels that the model takes, as far as it can be told.

    `photos` are (n, h, w, c), RGB from 0 to 255; `labels` their classes (n,), if they are known. A
    model that changes the scale of pixels before its first convolution tells by that. For any other
    one, each of VALUE_RANGES is tried on up to 128 photos. With the right one, a net's first batch
    normalisation meets the statistics that it stored in training; of photos with labels more are
    right; and the answers are neither all alike (values too small) nor nearly all sure (too large).

    The reason is "undecided" where several ranges do about as well, or where there are too few
    photos to tell; the range is then a guess, the one with the most right answers, or else the most
    common one.
    """
    photos = check_images(model, photos)
    some = np.linspace(0, len(photos) - 1, min(len(photos), 4 * BATCH)).astype(int)
    photos = photos[some]
    labels = None if labels is None else np.asarray(labels)[some]
    gain = _gain(model)
    if abs(gain - 1) > 1e-3:
        widths = {kind: limits(kind)[1] - limits(kind)[0] for kind in ((0, 255), (0, 1), (-1, 1))}
        fits = min(widths, key=lambda kind: abs(np.log(max(gain, 1e-9) * widths[kind] / USUAL)))
        return Found(fits, "inside", [])
    kinds = VALUE_RANGES if photos.shape[3] == 3 else VALUE_RANGES[:3]
    tried = [_try(model, photos, labels, kind, output) for kind in kinds]
    trials, right = [trial for trial, _ in tried], np.array([hits for _, hits in tried])
    mismatches = np.array([trial.mismatch for trial in trials], float)
    if np.isfinite(mismatches).all():
        best, second = np.argsort(mismatches)[:2]
        decided = mismatches[best] < CLEARLY * mismatches[second]
        return Found(trials[best].value_range, "tried" if decided else "undecided", trials)
    able = range(len(trials))
    if labels is not None:
        best = int(np.argmax(right.mean(1)))
        able = [i for i in able if not _clearly_better(right[best], right[i], len(trials) - 1)]
    by_labels = len(able)
    lively = [i for i in able if trials[i].spread > SPREAD and trials[i].sure < SURE]
    able = lively or able
    common = [LIKELY.index(trials[i].value_range) for i in range(len(trials))]
    guess = min(able, key=lambda i: (-right[i].mean(), common[i]))
    enough = len(photos) >= FEW or by_labels == 1
    decided = len(able) == 1 and bool(lively) and enough
    return Found(trials[guess].value_range, "tried" if decided else "undecided", trials)


def _first_convolution(runs):
    kinds = (*CONVOLUTIONS, keras.layers.Dense)
    return next((run for run in runs if isinstance(run.layer, kinds)), None)


def _gain(model):
    """By how much the first convolution's input changes with the pixels, at most."""
    shape = image_shape(model)

    def look(images):
        run = _first_convolution(record(model, images)[1])
        given = run.input if run else images
        middle = [size // 2 for size in given.shape[1:-1]]
        return tf.cast(given[(slice(None), *middle)], tf.float32)

    extremes = np.stack([np.zeros(shape, np.float32), np.full(shape, 255, np.float32)])
    black, white = in_batches(look, extremes)
    return float(np.abs(white - black).max() / 255)


def _try(model, photos, labels, value_range, output):
    images = from_pixels(photos, value_range)
    answer = probabilities(model, images, output)
    bounded = np.clip(answer, 1e-7, 1 - 1e-7)
    several = answers(model, output).kind == "labels"

    def bits(p):
        entropy = -p * np.log2(p)
        return (entropy - (1 - p) * np.log2(1 - p) if several else entropy).sum(-1)

    sure = np.maximum(answer, 1 - answer).mean() if several else answer.max(1).mean()
    spread = bits(bounded.mean(0)) - bits(bounded).mean()
    hits = np.zeros(len(photos)) if labels is None else answer.argmax(1) == labels
    accuracy = None if labels is None else float(hits.mean())
    mismatch = _mismatch(model, images)
    return Trial(value_range, float(sure), float(spread), mismatch, accuracy), hits


def _mismatch(model, images):
    """How far the first batch normalisation's stored statistics are from those of the images."""
    found = []

    def look(batch):
        for run in record(model, batch)[1]:
            if isinstance(run.layer, keras.layers.BatchNormalization):
                found.append(run.layer)
                axes = list(range(run.input.shape.rank - 1))
                given = tf.cast(run.input, tf.float32)
                mean, square = (tf.reduce_mean(x, axes) for x in (given, tf.square(given)))
                return mean[None], square[None]
        return tf.zeros((1, 0)), tf.zeros((1, 0))

    means, squares = in_batches(look, images, batch=len(images))
    if not found:
        return None
    stored_mean, stored_variance = (
        np.asarray(v, np.float32) for v in (found[0].moving_mean, found[0].moving_variance)
    )
    if not stored_mean.any() and (stored_variance == 1).all():
        return None  # never updated
    epsilon = found[0].epsilon
    variance = squares[0] - means[0] ** 2
    shift = np.abs(means[0] - stored_mean) / np.sqrt(stored_variance + epsilon)
    ratio = np.abs(np.log((variance + epsilon) / (stored_variance + epsilon)))
    return float(np.mean(shift + ratio))


def _clearly_better(right, other, times=1):
    """Whether more photos are right than under another range, by an exact sign test at 5 % of any
    error where it is asked that many `times` (Bonferroni).
    """
    won, lost = int(np.sum(right & ~other)), int(np.sum(other & ~right))
    return won > lost and bool(binomtest(won, won + lost).pvalue < 0.05 / times)
