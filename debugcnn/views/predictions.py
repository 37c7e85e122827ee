"""What a classifier predicts: logits, probabilities, and what its head is."""

import inspect
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from .tracing import (
    check_images,
    check_model,
    compiled_for,
    image_shape,
    in_batches,
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


class ClassifierHead(NamedTuple):
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


def classifier_head(model, output=None):
    """An ClassifierHead: what kind of answer the model gives. `output` chooses one of several outputs.

    Raises ValueError for a model that is no classifier of images.
    """
    return _looked_at(model, output)[0]


def output_activations(model, output=None):
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
    kept, key = compiled_for(model), (classifier_head, output)

    def look(images):
        answer = choose_output(model, record(model, images)[0], output)
        units, (_, head, found) = answer.shape[1], logits_of(answer)
        kind = "sigmoid" if units == 1 else "labels" if head in SIGMOIDS else "softmax"
        last = answer
        while last.op.type in PASSING | CLIPPING | SHAPING:
            last = last.op.inputs[last.value_index if last.op.type == "IdentityN" else 0]
        kept[key] = ClassifierHead(kind, max(units, 2), head is not None), found, last.op.type

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


def logits_in_graph(model, batch, output=None):
    """`logits` of a tensor, inside a tf.function."""
    answer = choose_output(model, record(model, batch)[0], output)
    return class_logits(logits_of(answer)[0])


def adds_up(answer):
    """(n, 1): whether an answer is one of probabilities already, however it was made."""
    positive = tf.reduce_all(answer >= 0, 1, keepdims=True)
    return positive & (tf.abs(tf.reduce_sum(answer, 1, keepdims=True) - 1) < 1e-3)
