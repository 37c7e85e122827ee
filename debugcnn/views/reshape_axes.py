"""Axes behind the operations that reshape, reorder, gather, reduce or multiply whole axes.

Each rule takes a TensorFlow operation, the axes of its inputs and the number of an output, and
returns the axes of that output, or None where they are not known.
"""

from collections.abc import Sequence

import tensorflow as tf

from .axes import Axes, Line, broadcast, has_line, sizes_only


def same(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """Each output is an input."""
    return inputs[number]


def elementwise(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """Inputs that are broadcast; of several outputs only the first has their axes."""
    return broadcast(inputs) if number == 0 else None


def transposed(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """Axes in another order."""
    order = tf.get_static_value(operation.inputs[1])
    return None if order is None else tuple(inputs[0][i] for i in order)


def reduced(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """A sum, mean or the like over some axes."""
    axes, over = inputs[0], tf.get_static_value(operation.inputs[1])
    if over is None:
        return None
    over = {int(i) % len(axes) for i in over.reshape(-1)}
    if operation.get_attr("keep_dims"):
        return tuple(() if i in over else axis for i, axis in enumerate(axes))
    return tuple(axis for i, axis in enumerate(axes) if i not in over)


def reshaped(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """A reshape: parts are put together and taken apart in their order."""
    parts, axes = [part for axis in inputs[0] for part in axis], []
    for i, size in reversed(list(enumerate(operation.outputs[number].shape))):
        if size is None:
            if i:
                return None
            axes.append(tuple(parts))
            break
        axis = _taken_from_the_end(parts, size)
        if axis is None:
            return None
        axes.append(axis)
    return tuple(reversed(axes))


def _taken_from_the_end(parts, size):
    """An axis of that size made of the last parts, which are removed, or None."""
    axis = ()
    while size > 1:
        if not parts:
            return None
        part = parts.pop()
        length = part.size if isinstance(part, Line) else part
        if length is None:
            return None
        if size % length == 0:
            axis, size = (part, *axis), size // length
        elif length % size == 0:  # the part's outer and inner half
            parts.append(_outer(part, length // size, size))
            axis, size = (size, *axis), 1
        else:
            return None
    return axis


def _outer(part, count, width):
    """A part as `count` blocks of `width` units each."""
    if not isinstance(part, Line):
        return count
    field = part.field + (width - 1) * part.stride
    return part._replace(size=count, stride=part.stride * width, field=field)


def tiled(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """A tensor repeated; the batch is often repeated by a number that only the run shows."""
    times = tf.get_static_value(operation.inputs[1])
    if times is None:
        return None
    sizes = sizes_only(operation.outputs[number])
    return tuple(
        axis if repeats == 1 else sizes[i]
        for i, (axis, repeats) in enumerate(zip(inputs[0], times))
    )


def packed(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """Tensors stacked along a new axis."""
    axes = list(broadcast(inputs))
    axes.insert(operation.get_attr("axis") % (len(axes) + 1), (len(inputs),))
    return tuple(axes)


def unpacked(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """A tensor taken apart along an axis, which goes."""
    removed = operation.get_attr("axis") % len(inputs[0])
    return tuple(axis for i, axis in enumerate(inputs[0]) if i != removed)


def gathered(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """Tensors side by side along an axis, or a tensor of which parts are taken along it."""
    output = operation.outputs[number]
    values, index = {
        "ConcatV2": (inputs[:-1], operation.inputs[-1]),
        "Split": (inputs[1:], operation.inputs[0]),
        "SplitV": (inputs[:1], operation.inputs[-1]),
        "GatherV2": (inputs[:1], operation.inputs[-1]),
    }[operation.type]
    index = tf.get_static_value(index)
    if index is None or len(values[0]) != output.shape.rank:
        return None
    index = int(index) % len(values[0])
    axes = list(values[0])
    for other in values[1:]:
        axes = [
            axis if i == index else broadcast([(axis,), (other_axis,)])[0]
            for i, (axis, other_axis) in enumerate(zip(axes, other))
        ]
    axes[index] = (output.shape[index],)
    return tuple(axes)


def multiplied(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """A product of matrices."""
    left, right = inputs[:2]
    names = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    left_transposed, right_transposed = (operation.get_attr(name) for name in names)
    leading = broadcast([left[:-2], right[:-2]])
    return (*leading, left[-1 if left_transposed else -2], right[-2 if right_transposed else -1])


def summed(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """Einstein's summation."""
    left, right = operation.get_attr("equation").decode().split("->")
    axes = {}
    for labels, axes_of_input in zip(left.split(","), inputs):
        if len(labels) != len(axes_of_input):
            return None
        for label, axis in zip(labels, axes_of_input):
            if not has_line([axes.get(label, ())]):
                axes[label] = axis
    return tuple(axes[label] for label in right)
