"""Which class of each image is explained."""

import keras
import numpy as np
import tensorflow as tf

from .methods import Output, Target
from .predictions import choose_output, class_logits, classifier_head, logits_of
from .tracing import in_batches, record


def predicted_class(prediction: tf.Tensor, logits: tf.Tensor, head: str | None) -> tf.Tensor:
    """(n,): the class with the highest prediction (n, units), and of several such the one with the
    highest logit, since a saturated softmax or sigmoid may give 1 to more than one.
    """
    if prediction.shape[1] == 1:
        return tf.cast(prediction[:, 0] > 0.5 if head else logits[:, 0] > 0, tf.int32)
    highest = prediction >= tf.reduce_max(prediction, 1, keepdims=True)
    return tf.argmax(tf.where(highest, logits, -np.inf), 1, tf.int32)


def target_logits(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """(n,): of each row of `logits` (n, classes) that of its class in `targets` (n,)."""
    rows = tf.range(tf.shape(logits)[0])
    return tf.gather_nd(logits, tf.stack([rows, targets], 1))  # quicker to trace than tf.gather


def logits_and_targets(
    model: keras.Model, images: np.ndarray, target: Target, output: Output
) -> tuple[np.ndarray, np.ndarray]:
    """The logits (n, classes) and the classes to explain (n,): `target`, or the predicted ones."""

    def predict(batch):
        prediction = choose_output(model, record(model, batch)[0], output)
        logits, head, _ = logits_of(prediction)
        return class_logits(logits), predicted_class(prediction, logits, head)

    logits, predicted = in_batches(predict, images, keep=(model, (logits_and_targets, output)))
    target = predicted if target is None else target
    return logits, checked_targets(target, len(images), logits.shape[1])


def targets_of(
    model: keras.Model, images: np.ndarray, target: Target, output: Output
) -> np.ndarray:
    """The classes to explain (n,): `target`, or the predicted ones."""
    if target is None:
        return logits_and_targets(model, images, None, output)[1]
    return checked_targets(target, len(images), classifier_head(model, output).classes)


def checked_targets(target: Target, count: int, classes: int) -> np.ndarray:
    """`target` as (count,) int32. Raises ValueError for what is no class of the model."""
    targets = np.asarray(target)
    if targets.dtype.kind not in "iu" or targets.shape not in {(), (count,)}:
        raise ValueError(
            f"target is a class, one class for each of the {count} images, or None, not {target!r}."
        )
    if not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(f"target {target!r} is no class: the model has 0 to {classes - 1}.")
    return np.broadcast_to(targets, count).astype(np.int32)
