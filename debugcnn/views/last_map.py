"""The last activation map on the way from the images to a model's prediction."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from .axes import Map, has_line, map_of
from .methods import Output
from .predictions import choose_output
from .receptive_fields import trace_axes
from .tracing import Run, image_shape, record, source, trace
from .window_axes import WINDOWED, sliding_window

GLOBAL = 3  # units; a larger window that leaves a single one is a global pooling
PRODUCTS = {"BatchMatMulV2", "BatchMatMulV3", "Einsum"}  # of two tensors: attention, for one


def default_layer(model: keras.Model, output: Output = None) -> str:
    """Name of the layer that `grad_cam` explains by default: the one that returns the last map on
    the way to the prediction.

    Where an operation outside any layer returns that map, it is named after the layer before it.
    `output` chooses one of several outputs. Raises ValueError if there is no map, or if its
    positions cannot be followed back to the image.
    """
    names = []

    def look(images):
        outputs, runs = record(model, images)
        names.append(last_map(model, images, runs, choose_output(model, outputs, output))[2])

    trace(look, image_shape(model))
    return names[0]


def last_map(
    model: keras.Model, images: tf.Tensor, runs: Sequence[Run], prediction: tf.Tensor
) -> tuple[tf.Tensor, Map, str]:
    """The last tensor with a map on the way from the images to the prediction, its Map, and a name.

    Raises ValueError as `default_layer` does.
    """
    axes = trace_axes(images.graph, images, runs)
    tensor, place = _last_tensor_with_a_map(model, images, axes, prediction)
    return tensor, place, _name(runs, tensor, images.graph.get_operations())


def _last_tensor_with_a_map(model, images, axes, prediction):
    from_images, operations = _operations_between(images, prediction)
    spatial = [op.type in WINDOWED for op in operations]  # it reads more than one position
    followed, single, pooled_globally = True, False, False
    too_small = (
        f"The last map on the way to the prediction of model {model.name!r} is a single unit "
        "without positions: use larger images, or choose an earlier layer."
    )
    for i, op in reversed(list(enumerate(operations))):
        inputs = [tensor for tensor in op.inputs if tensor.op.name in from_images]
        if op.type in PRODUCTS and len(inputs) == 2:
            followed &= any(has_line(axes.get(tensor.name, ())) for tensor in inputs)
        for tensor in op.outputs:
            place = map_of(axes.get(tensor.name, ()))
            if not place or not (any(spatial[: i + 1]) or place.rows.field > 1):
                continue
            if not followed:
                raise ValueError(
                    f"Model {model.name!r} predicts from tokens whose positions in the image "
                    "cannot be followed: choose a layer that returns a map."
                )
            if place.shape == (1, 1):
                single = True
                pooled_globally |= _is_global_pooling(op, axes)
            elif single and not pooled_globally:
                raise ValueError(too_small)
            else:
                return tensor, place
    if single:
        raise ValueError(too_small)
    raise ValueError(
        f"No layer of model {model.name!r} returns a map that can be followed to its prediction: "
        "give a convolutional network."
    )


def _operations_between(images, prediction):
    """The names of all operations that depend on the images, and those of them that the prediction
    depends on, in order of execution.
    """
    operations = images.graph.get_operations()
    from_images, to_prediction = {images.op.name}, {prediction.op.name}
    for op in operations:
        if any(tensor.op.name in from_images for tensor in op.inputs):
            from_images.add(op.name)
    for op in reversed(operations):
        if op.name in to_prediction:
            to_prediction |= {tensor.op.name for tensor in op.inputs}
    return from_images, [op for op in operations if op.name in from_images & to_prediction]


def _is_global_pooling(op, axes):
    """Whether an operation that returns a single position slides a large window over a map."""
    window, before = sliding_window(op), map_of(axes.get(op.inputs[0].name, ()))
    return bool(window and max(window.size) > GLOBAL and before and before.shape != (1, 1))


def _name(runs, tensor, operations):
    """Name of the layer that returns a tensor, or of the operation and the layer before it."""
    names = [run.name for run in runs if source(run.output) is source(tensor)]
    if names:
        return names[0]
    order = {op.name: i for i, op in enumerate(operations)}
    earlier = [run.name for run in runs if order[run.output.op.name] < order[tensor.op.name]]
    return f"{tensor.op.type} behind {earlier[-1]}" if earlier else tensor.op.type
