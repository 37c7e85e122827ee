"""View 3: which places of a photo speak for the answer, by the maps and gradients of a layer."""

import numpy as np
import tensorflow as tf

from .predictions import adds_up, choose_output, class_logits, classifier_head, logits_of
from .receptive_fields import WINDOWED, as_map, has_line, map_of, sliding_window, trace_axes
from .tracing import (
    check_images,
    find,
    image_shape,
    in_batches,
    layer_key,
    record,
    source,
    trace,
)

GLOBAL = 3  # units; a larger window that leaves a single one is a global pooling
PRODUCTS = {"BatchMatMulV2", "BatchMatMulV3", "Einsum"}  # of two tensors: attention, for one


def evidence(model, images, target=None, layer=None, output=None):
    """What Grad-CAM combines: a layer's maps and the gradients of the class's logit by them.

    Both are (n, h, w, channels) float32, of the layer's own size. Parameters and errors are those
    of `grad_cam`.
    """
    return _by_layer(_both, model, images, target, layer, output)


def _both(maps, gradients):
    return maps, gradients


def grad_cam(model, images, target=None, layer=None, output=None):
    """Where a layer sees evidence for a class: (n, height, width) float32, as large as `images`.

    Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391, section 3): the layer's maps, each
    weighted by the mean gradient of the class's logit by it, summed, ReLU, upsampled bilinearly.
    The values are shares of the logit and are not scaled, so that classes and photos can be
    compared; where a photo holds no evidence for the class, its heatmap is zero.

    `target` is a class, one class per photo, or None for the predicted class of each. A model with
    one unit has the classes 0 and 1, whose logits are minus and plus the unit's. A sigmoid or
    softmax is left out, also where something follows it, so a sure answer has evidence too. `layer`
    is a layer or its name, also from inside a nested model; None is `default_layer`. `output`
    chooses one of several outputs, by name or number.

    Raises ValueError for a class that the model does not have, a layer without a map or without
    effect on the answer, and images of a wrong shape.
    """
    return _enlarged(_grad_cam, model, images, target, layer, output)


def _grad_cam(maps, gradients):
    weights = tf.reduce_mean(gradients, (1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * maps, -1))


def hires_cam(model, images, target=None, layer=None, output=None):
    """Grad-CAM with a gradient for each place: (n, height, width) float32.

    HiResCAM (Draelos and Carin 2020, arXiv:2011.08891, section 3.3): maps times gradients, unit by
    unit, summed over the channels, ReLU, upsampled bilinearly. Before the ReLU, the sum over the
    places is the logit wherever the rest of the model is linear without a bias. Parameters, units
    and errors are those of `grad_cam`; the two are the same where only a mean and a dense layer
    follow.
    """
    return _enlarged(_hires_cam, model, images, target, layer, output)


def _hires_cam(maps, gradients):
    return tf.nn.relu(tf.reduce_sum(gradients * maps, -1))


def grad_cam_plus_plus(model, images, target=None, layer=None, output=None):
    """Grad-CAM whose weights count rising places more: (n, height, width) float32.

    Grad-CAM++ (Chattopadhay et al., WACV 2018, arXiv:1710.11063, section 3.2): of each map, the
    gradients above zero, each times a = g^2 / (2 g^2 + g^3 sum(map)), are summed as its weight;
    that a follows from the derivatives of the exponential of the logit. The exponential itself, one
    factor for a whole photo, is left out. Parameters and errors are those of `grad_cam`; the values
    have no unit.
    """
    return _enlarged(_grad_cam_plus_plus, model, images, target, layer, output)


def _grad_cam_plus_plus(maps, gradients):
    total = tf.reduce_sum(maps, (1, 2), keepdims=True)
    # The fraction without g^2 above and below, of which a small gradient leaves nothing.
    alpha = tf.math.divide_no_nan(1.0, 2 + gradients * total)
    weights = tf.reduce_sum(alpha * tf.nn.relu(gradients), (1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * maps, -1))


def layer_cam(model, images, target=None, layer=None, output=None):
    """HiResCAM with the gradients above zero only: (n, height, width) float32.

    LayerCAM (Jiang et al., IEEE Transactions on Image Processing 2021,
    doi:10.1109/TIP.2021.3089943, section III-B). Parameters, units and errors are those of
    `grad_cam`.
    """
    return _enlarged(_layer_cam, model, images, target, layer, output)


def _layer_cam(maps, gradients):
    return tf.nn.relu(tf.reduce_sum(tf.nn.relu(gradients) * maps, -1))


def _enlarged(combine, model, images, target, layer, output):
    heat = _by_layer(combine, model, images, target, layer, output)
    return tf.image.resize(heat[..., None], np.shape(images)[1:3])[..., 0].numpy()


def default_layer(model, output=None):
    """Name of the layer that `grad_cam` explains by default: the last map that feeds the answer.

    Where an operation outside any layer makes that map, it is named after the layer before it.
    Raises ValueError if there is none, or if its places in the photo cannot be followed.
    """
    names = []

    def look(images):
        outputs, runs = record(model, images)
        names.append(_last_map(model, images, runs, choose_output(model, outputs, output))[2])

    trace(look, image_shape(model))
    return names[0]


def _by_layer(combine, model, images, target, layer, output):
    """`combine` of a layer's maps and gradients, both (n, h, w, channels) float32 tensors."""
    images = check_images(model, images)
    predicted = target is None
    classes = classifier_head(model, output).classes
    targets = checked_targets(0 if predicted else target, len(images), classes)
    index = None if layer is None else find(model, layer)

    def combined(batch, targets_of_batch):
        outputs, runs = record(model, batch)
        answer = choose_output(model, outputs, output)
        if index is None:
            tensor, place, name = _last_map(model, batch, runs, answer)
        else:
            tensor, name = runs[index].output, runs[index].name
            place = map_of(trace_axes(batch.graph, batch, runs)[tensor.name])
        logits, head, _ = logits_of(answer)
        if predicted:
            targets_of_batch = predicted_class(answer, logits, head)
        logits = class_logits(logits)
        # The gradient by a single unit can be too small for float16, so all units are counted.
        units = place.rows.size * place.columns.size
        logit = units * tf.gather(logits, targets_of_batch, batch_dims=1)
        gradients = tf.gradients(logit, tensor)[0]
        if gradients is None:
            raise ValueError(f"Layer {name!r} has no effect on the model's answer.")
        maps, gradients = (tf.cast(as_map(t, place), tf.float32) for t in (tensor, gradients))
        doubtful = adds_up(tf.cast(answer, tf.float32)) & (head is None and answer.shape[1] > 1)
        return combine(maps, gradients / units), doubtful

    key = combine, layer_key(layer), predicted, output
    combined_maps, doubtful = in_batches(combined, images, targets, keep=(model, key))
    if doubtful.all():
        raise ValueError(
            f"Model {model.name!r} answers with probabilities, but the softmax behind them is "
            "hidden, so that sure answers have no gradient: end the model in a softmax layer."
        )
    return combined_maps


def predicted_class(answer, logits, head):
    """(n,): the class with the highest answer, and of several such the one with the highest logit,
    since a softmax or sigmoid that is sure may give 1 to more than one.
    """
    if answer.shape[1] == 1:
        return tf.cast(answer[:, 0] > 0.5 if head else logits[:, 0] > 0, tf.int32)
    highest = answer >= tf.reduce_max(answer, 1, keepdims=True)
    return tf.argmax(tf.where(highest, logits, -np.inf), 1, tf.int32)


def _last_map(model, images, runs, answer):
    """The last tensor with a map on the way from the images to the answer, its Map, and a name."""
    axes = trace_axes(images.graph, images, runs)
    operations = images.graph.get_operations()
    moved, feeding = {images.op.name}, {answer.op.name}  # by the images; the answer
    for op in operations:
        if any(given.op.name in moved for given in op.inputs):
            moved.add(op.name)
    for op in reversed(operations):
        if op.name in feeding:
            feeding |= {given.op.name for given in op.inputs}
    way = [op for op in operations if op.name in moved & feeding]
    looked = [op.type in WINDOWED for op in way]  # at more than one place
    lost = single = whole = False
    too_small = (
        f"The last map that feeds the answer of model {model.name!r} has a single unit and tells "
        "no place: use larger images, or choose an earlier layer."
    )
    for i, op in reversed(list(enumerate(way))):
        given = [tensor for tensor in op.inputs if tensor.op.name in moved]
        if op.type in PRODUCTS and len(given) == 2:
            lost |= not any(has_line(axes.get(tensor.name, ())) for tensor in given)
        for tensor in op.outputs:
            place = map_of(axes.get(tensor.name, ()))
            if not place or not (any(looked[: i + 1]) or place.rows.field > 1):
                continue
            if lost:
                raise ValueError(
                    f"Model {model.name!r} answers from tokens whose places in the photo cannot be "
                    "followed: choose a layer that returns a map."
                )
            if place.shape == (1, 1):
                slides, before = sliding_window(op), map_of(axes.get(op.inputs[0].name, ()))
                if slides and max(slides[1]) > GLOBAL and before and before.shape != (1, 1):
                    whole = True
                single = True
                continue
            if single and not whole:
                raise ValueError(too_small)
            return tensor, place, _name(runs, tensor, operations)
    if single:
        raise ValueError(too_small)
    raise ValueError(
        f"No layer of model {model.name!r} returns a map that can be followed to its answer: give "
        "a convolutional network."
    )


def _name(runs, tensor, operations):
    """Name of the layer that returns a tensor, or of the operation and the layer before it."""
    fits = [run.name for run in runs if source(run.output) is source(tensor)]
    if fits:
        return fits[0]
    order = {op.name: i for i, op in enumerate(operations)}
    earlier = [run.name for run in runs if order[run.output.op.name] < order[tensor.op.name]]
    return f"{tensor.op.type} behind {earlier[-1]}" if earlier else tensor.op.type


def logits_and_targets(model, images, target, output):
    """The class logits (n, classes) and the classes to explain (n,): `target`, or the predicted."""

    def ask(batch):
        answer = choose_output(model, record(model, batch)[0], output)
        logits, head, _ = logits_of(answer)
        return class_logits(logits), predicted_class(answer, logits, head)

    logits, predicted = in_batches(ask, images, keep=(model, (logits_and_targets, output)))
    target = predicted if target is None else target
    return logits, checked_targets(target, len(images), logits.shape[1])


def targets_of(model, images, target, output):
    """The classes to explain (n,): `target`, or the predicted."""
    if target is None:
        return logits_and_targets(model, images, None, output)[1]
    return checked_targets(target, len(images), classifier_head(model, output).classes)


def checked_targets(target, count, classes):
    targets = np.asarray(target)
    if targets.dtype.kind not in "iu" or targets.shape not in {(), (count,)}:
        raise ValueError(
            f"target is a class, one class for each of the {count} images, or None, not {target!r}."
        )
    if not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(f"target {target!r} is no class: the model has 0 to {classes - 1}.")
    return np.broadcast_to(targets, count).astype(np.int32)
