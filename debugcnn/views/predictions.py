"""What a classifier predicts: logits, probabilities, and what its head is."""

import inspect
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from .kinds import operations_of
from .methods import Output
from .tracing import (
    check_images,
    check_model,
    compiled_for,
    image_shape,
    in_batches,
    record,
    trace,
)

# TensorFlow's names of operations that turn logits into probabilities, that may follow them without
# changing the order of the classes, and that select, combine or average classes.
SIGMOIDS = {"Sigmoid"}
HEADS = operations_of("softmax") | SIGMOIDS
PASSING = {"Cast", "CheckNumerics", "ClipByValue", "Identity", "IdentityN", "Snapshot"}
CLIPPING = {"Maximum", "Minimum"}  # with a constant
SHAPING = {"ExpandDims", "Reshape", "Squeeze"}
LINEAR = {
    *("Add", "AddN", "AddV2", "ConcatV2", "ExpandDims", "GatherV2", "Mean", "Mul", "Neg", "Pack"),
    *("RealDiv", "Reshape", "Slice", "Split", "SplitV", "Squeeze", "StridedSlice", "Sub", "Sum"),
    *("Transpose", "Unpack"),
}
PRODUCTS = {"Mul", "RealDiv", "Sub"}  # not linear in two predictions, or not in their logits


class ClassifierHead(NamedTuple):
    """What a model's output means."""

    kind: str  # "softmax": one of the classes; "sigmoid": one unit for classes 0 and 1; "labels":
    # several sigmoids, each class for itself
    classes: int
    applied: bool  # whether the model itself ends in it; if not, it returns logits


def choose_output(model: keras.Model, outputs: Any, output: Output = None) -> tf.Tensor:
    """The model's prediction (n, units): that of its outputs which is named or numbered `output`.

    Raises ValueError if there is no such output, if there are several and none is chosen, and for
    an output that is no prediction of a classifier.
    """
    if not tf.is_tensor(outputs):
        outputs = _named_output(model, outputs, output)
    elif output not in (None, 0, *getattr(model, "output_names", [])):
        raise ValueError(f"Model {model.name!r} has one output only: leave output={output!r} out.")
    shape = outputs.shape
    if shape.rank == 1:
        return outputs[:, None]
    if not shape.rank or None in shape[1:] or np.prod(shape[1:]) != max(shape[1:]):
        raise ValueError(f"The model returns {tuple(shape)}, a classifier (n, classes).")
    return outputs if shape.rank == 2 else tf.reshape(outputs, (-1, max(shape[1:])))


def _named_output(model, outputs, output):
    tensors = tf.nest.flatten(outputs)
    if isinstance(outputs, dict):
        named = outputs | dict(enumerate(outputs.values()))
    else:
        named = dict(enumerate(tensors))
        names = getattr(model, "output_names", None) or []
        if len(names) == len(tensors):
            named |= dict(zip(names, tensors))
    if len(tensors) == 1 and output is None:
        output = 0
    if output not in named:
        raise ValueError(
            f"Model {model.name!r} has several outputs: choose one with output= "
            f"{' or '.join(repr(name) for name in named)}, not {output!r}."
        )
    return named[output]


def logits_of(
    prediction: tf.Tensor,
) -> tuple[tf.Tensor, str | None, tuple[tuple[str, int], ...]]:
    """The logits (n, units) float32 of a prediction (n, units), the name of the operation that
    turns them into it, and all `output_activations`; (prediction, None, ()) where there is none.

    Operations behind the head that select, combine or average classes are applied to the logits
    instead, and clipping is left out, so that a confident prediction has a gradient, too.
    """
    heads = []

    def without_head(tensor, above=0):
        """The logits of a tensor, or None if there is no head before it."""
        operation = tensor.op
        if operation.type in HEADS:
            (inner,) = operation.inputs
            # A sigmoid p whose 1 - p and p are predicted is the softmax of two classes.
            of_two = operation.type in SIGMOIDS and inner.shape[-1] == 1 < prediction.shape[1]
            heads.append(("Softmax" if of_two else operation.type, above))
            deeper = without_head(inner, above + 1)
            return inner if deeper is None else deeper
        if operation.type == "Log":
            inner = without_head(operation.inputs[0], above)
            if inner is not None:
                heads.insert(0, ("LogSoftmax", above))
            return inner
        if operation.type in PASSING:
            index = tensor.value_index if operation.type == "IdentityN" else 0
            return without_head(operation.inputs[index], above)
        if operation.type in LINEAR | CLIPPING:
            inner = [without_head(part, above) for part in operation.inputs]
            return _applied_to_logits(tensor, inner)
        return None

    logits = without_head(prediction)
    if logits is None:
        return tf.cast(prediction, tf.float32), None, ()
    logits = tf.cast(tf.reshape(logits, tf.shape(prediction)), tf.float32)
    return logits, heads[0][0], tuple(heads)


def _applied_to_logits(tensor, logits):
    """The operation that returns `tensor`, on the logits of its inputs (None: it has none)."""
    operation = tensor.op
    with_logits = [part for part in logits if part is not None]
    if not with_logits:
        return None
    if operation.type in CLIPPING:
        return with_logits[0]
    if operation.type in PRODUCTS and len(with_logits) == len(logits):
        return None
    inputs = [
        original if part is None else tf.cast(part, original.dtype)
        for original, part in zip(operation.inputs, logits)
    ]
    return _repeated(operation, inputs)[tensor.value_index]


def _repeated(operation, inputs):
    """The outputs of an operation of the same kind and attributes on other inputs."""
    function = getattr(tf.raw_ops, operation.type)
    parameters = inspect.signature(function).parameters
    definition = operation.op_def
    arguments = {
        attribute.name: operation.get_attr(attribute.name)
        for attribute in definition.attr
        if attribute.name in parameters
    }
    inputs = list(inputs)
    for argument in definition.input_arg:
        if argument.number_attr:
            count = operation.get_attr(argument.number_attr)
            arguments[argument.name], inputs = inputs[:count], inputs[count:]
        else:
            arguments[argument.name] = inputs.pop(0)
    arguments = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in arguments.items()
    }
    outputs = function(**arguments)
    return outputs if isinstance(outputs, (list, tuple)) else [outputs]


def class_logits(logits: tf.Tensor) -> tf.Tensor:
    """(n, classes) of (n, units): a single unit x has the classes 0 and 1, -x and x."""
    return tf.concat([-logits, logits], 1) if logits.shape[1] == 1 else logits


def classifier_head(model: keras.Model, output: Output = None) -> ClassifierHead:
    """What the model's output means; `output` is the name or number of one of several outputs.

    Raises ValueError for a model that is no classifier of images.
    """
    return _end_of(model, output)[0]


def output_activations(model: keras.Model, output: Output = None) -> tuple[tuple[str, int], ...]:
    """The softmaxes and sigmoids at the end of the model, by TensorFlow's names, and how many
    others follow each: (("Softmax", 0),) as a rule, () where there is none.
    """
    return _end_of(model, output)[1]


def last_operation(model: keras.Model, output: Output = None) -> str:
    """TensorFlow's name of the operation that returns the prediction, as "Softmax", "BiasAdd" or
    "Relu", whatever layer it is part of; clipping and reshaping do not count.
    """
    return _end_of(model, output)[2]


def _end_of(model, output):
    check_model(model)
    compiled, key = compiled_for(model), (classifier_head, output)

    def look(images):
        prediction = choose_output(model, record(model, images)[0], output)
        units, (_, head, heads) = prediction.shape[1], logits_of(prediction)
        kind = "sigmoid" if units == 1 else "labels" if head in SIGMOIDS else "softmax"
        last = prediction
        while last.op.type in PASSING | CLIPPING | SHAPING:
            last = last.op.inputs[last.value_index if last.op.type == "IdentityN" else 0]
        compiled[key] = ClassifierHead(kind, max(units, 2), head is not None), heads, last.op.type

    if key not in compiled:
        trace(look, image_shape(model))
    return compiled[key]


def probabilities(model: keras.Model, images: Any, output: Output = None) -> np.ndarray:
    """The model's probabilities, (n, classes) float32; a single unit p gives [1 - p, p].

    `images` are (n, height, width, channels) with the values that the model takes; `output` is the
    name or number of one of several outputs. Logits get the sigmoid or softmax that is missing
    (`classifier_head`), and a model that ends in a log-softmax its exponential. Raises ValueError
    for images that the model does not take, and for a model that is no classifier.

    >>> import debugcnn, keras, numpy as np
    >>> logits = keras.layers.Dense(2, kernel_initializer="zeros")
    >>> model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), logits])
    >>> debugcnn.probabilities(model, np.ones((1, 4, 4, 1)))
    array([[0.5, 0.5]], dtype=float32)
    """
    return logits_and_probabilities(model, images, output)[1]


def logits(model: keras.Model, images: Any, output: Output = None) -> np.ndarray:
    """What enters the softmax or sigmoids, (n, classes) float32; a single unit x gives [-x, x].

    So confident predictions whose probabilities are both rounded to 1 still differ. Where the head
    is hidden, it is the prediction itself. Parameters and errors are those of `probabilities`.

    >>> import debugcnn, keras, numpy as np
    >>> head = keras.layers.Dense(1, "sigmoid", kernel_initializer="ones")
    >>> model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), head])
    >>> debugcnn.logits(model, np.full((1, 4, 4, 1), 10))
    array([[-160.,  160.]], dtype=float32)
    """
    return logits_and_probabilities(model, images, output)[0]


def logits_and_probabilities(
    model: keras.Model, images: Any, output: Output = None
) -> tuple[np.ndarray, np.ndarray]:
    """What `logits` and `probabilities` return, in one run of the model."""
    images = check_images(model, images)

    def predict(batch):
        prediction = choose_output(model, record(model, batch)[0], output)
        logits, head, _ = logits_of(prediction)
        shares = tf.cast(prediction, tf.float32)
        if head == "LogSoftmax":
            shares = tf.exp(shares)
        elif not head and logits.shape[1] == 1:
            shares = tf.sigmoid(logits)
        elif not head:
            shares = tf.where(adds_up(shares), shares, tf.nn.softmax(logits))
        if shares.shape[1] == 1:
            shares = tf.concat([1 - shares, shares], 1)
        return class_logits(logits), shares

    return in_batches(predict, images, keep=(model, (logits_and_probabilities, output)))


def logits_in_graph(model: keras.Model, batch: tf.Tensor, output: Output = None) -> tf.Tensor:
    """`logits` of a tensor (n, height, width, channels), inside a tf.function."""
    prediction = choose_output(model, record(model, batch)[0], output)
    return class_logits(logits_of(prediction)[0])


def adds_up(prediction: tf.Tensor) -> tf.Tensor:
    """(n, 1) bool: whether predictions (n, classes) are probabilities already, however made."""
    positive = tf.reduce_all(prediction >= 0, 1, keepdims=True)
    return positive & (tf.abs(tf.reduce_sum(prediction, 1, keepdims=True) - 1) < 1e-3)
