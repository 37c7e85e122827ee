"""Axes behind the operations that read several positions, or move, repeat or resize them.

Each rule takes a TensorFlow operation, the axes of its inputs and the number of an output, and
returns the axes of that output, or None where they are not known.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import tensorflow as tf

from .axes import Axes, Line, has_line, line_at, size_of, sizes_only
from .kinds import operations_of

TRANSPOSED = "Conv2DBackpropInput"
PATCHES = "ExtractImagePatches"
POOLINGS = operations_of("pooling")
SLIDING = operations_of("convolution") - {TRANSPOSED} | POOLINGS | {PATCHES}
COMPILED = {"PartitionedCall", "StatefulPartitionedCall"}  # functions that were compiled apart
WINDOWED = SLIDING | {TRANSPOSED} | COMPILED  # what reads more than one position, or may
RESIZINGS = {"ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor"}


class Window(NamedTuple):
    """What a convolution or pooling slides over a map; each of a pair is for rows and columns."""

    indices: Sequence[int]  # of the axes
    size: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    padding: Any  # "SAME", "VALID", or the padding before and behind each axis, in one list


def sliding_window(operation: tf.Operation) -> Window | None:
    """The Window of a convolution or pooling; None for any other operation."""
    if operation.type not in SLIDING:
        return None
    patches = operation.type == PATCHES
    first = 1 if patches or operation.get_attr("data_format") == b"NHWC" else 2
    indices = first, first + 1
    if patches:
        names = ("ksizes", "strides", "rates")
    elif operation.type in POOLINGS:
        names = ("ksize", "strides", None)
    else:
        names = (None, "strides", "dilations")
    size, strides, dilations = (
        [operation.get_attr(name)[i] for i in indices] if name else [1, 1] for name in names
    )
    if not names[0]:
        size = list(operation.inputs[1].shape[:2])
    padding = operation.get_attr("padding").decode()
    if padding == "EXPLICIT":
        padding = operation.get_attr("explicit_paddings")
    return Window(indices, size, strides, dilations, padding)


def slid(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """A convolution or pooling."""
    return windowed(inputs[0], operation.outputs[number], sliding_window(operation))


def windowed(axes: Axes, output: tf.Tensor, window: Window) -> Axes | None:
    """Axes of the output of what slides a window over a map with these axes."""
    lines = [line_at(axes, index) for index in window.indices]
    if None in lines:
        return None
    result = list(sizes_only(output))
    result[0] = axes[0]
    for index, line, width, stride, dilation in zip(
        window.indices, lines, window.size, window.strides, window.dilations
    ):
        size, width = output.shape[index], (width - 1) * dilation + 1
        if window.padding == "SAME":
            before = max((size - 1) * stride + width - line.size, 0) // 2
        else:
            before = 0 if window.padding == "VALID" else window.padding[2 * index]
        result[index] = (
            line._replace(
                size=size,
                stride=line.stride * stride,
                start=line.start - before * line.stride,
                field=line.field + (width - 1) * line.stride,
            ),
        )
    return tuple(result)


def transposed_convolution(
    operation: tf.Operation, inputs: Sequence[Axes], number: int
) -> Axes | None:
    """A transposed convolution, which is the gradient of one with respect to its input."""
    axes, output = inputs[2], operation.outputs[number]
    result = list(sizes_only(output))
    result[0] = axes[0]
    for i, index in enumerate((1, 2)):
        line, width = line_at(axes, index), operation.inputs[1].shape[i]
        if line is None:
            return None
        stride, size = operation.get_attr("strides")[index], output.shape[index]
        before = 0
        if operation.get_attr("padding") == b"SAME":
            before = max((line.size - 1) * stride + width - size, 0) // 2
        start = line.start + line.stride * Fraction(before - width + 1, stride)
        field = line.field + line.stride * Fraction(width - 1, stride)
        result[index] = (Line(line.axis, size, line.stride / stride, start, field),)
    return tuple(result)


def padded(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """Padding, which is cropping from a negative unit on."""
    widths = tf.get_static_value(operation.inputs[1])
    if widths is None:
        return None
    return _cropped(inputs[0], operation.outputs[number], [-before for before, _ in widths])


def cut(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """A slice that starts at a unit of each axis."""
    begin = tf.get_static_value(operation.inputs[1])
    return None if begin is None else _cropped(inputs[0], operation.outputs[number], begin)


def sliced(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """A slice with steps, as of Python's brackets; without new axes."""
    axes, output = inputs[0], operation.outputs[number]
    begin, _, steps = (tf.get_static_value(tensor) for tensor in operation.inputs[1:4])
    if begin is None or steps is None or operation.get_attr("new_axis_mask"):
        return None
    from_start, dropped = (operation.get_attr(f"{name}_mask") for name in ("begin", "shrink_axis"))
    starts, strides, removed = [0] * len(axes), [1] * len(axes), set()
    for i, index in _indices_of_slices(operation, len(begin), len(axes)):
        strides[index] = int(steps[i])
        if not from_start >> i & 1:
            starts[index] = int(begin[i]) + (size_of(axes[index]) if begin[i] < 0 else 0)
        if dropped >> i & 1:
            removed.add(index)
    kept = [i for i in range(len(axes)) if i not in removed]
    axes, starts, strides = (tuple(values[i] for i in kept) for values in (axes, starts, strides))
    return _cropped(axes, output, starts, strides) if len(axes) == output.shape.rank else None


def _indices_of_slices(operation, count, rank):
    """(number of a slice, index of its axis) of all slices but the ellipsis."""
    ellipsis = operation.get_attr("ellipsis_mask").bit_length() - 1  # -1: there is none
    for i in range(count):
        if i != ellipsis:
            yield i, i if ellipsis < 0 or i < ellipsis else i - count + rank


def _cropped(axes, output, begin, steps=None):
    """Axes from unit `begin` on, each `steps`."""
    result = []
    for i, (axis, size) in enumerate(zip(axes, output.shape)):
        line, step = line_at(axes, i), 1 if steps is None else int(steps[i])
        if line is None or step < 1:
            unchanged = size is None or (size == size_of(axis) and not has_line([axis]))
            result.append(axis if unchanged else (size,))
            continue
        start = line.start + int(begin[i]) * line.stride
        result.append((line._replace(size=size, start=start, stride=line.stride * step),))
    return tuple(result)


def scaled(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """Units that are put together or taken apart, over the same field."""
    return rescaled(inputs[0], operation.outputs[number])


def rescaled(axes: Axes, output: tf.Tensor) -> Axes | None:
    """Axes with more or fewer units over the same field: each unit repeated or put together."""
    result = list(sizes_only(output))
    result[0] = axes[0]
    for index in (1, 2):
        line, size = line_at(axes, index), output.shape[index]
        if line is None or size is None:
            return None
        stride = line.stride * Fraction(line.size, size)
        start = line.start + min(stride - line.stride, 0)
        field = line.field + abs(stride - line.stride)
        result[index] = (Line(line.axis, size, stride, start, field),)
    return tuple(result)


def resized(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """A resize, which reads neighbouring units, too, unless it takes the nearest one."""
    axes = inputs[0]
    result = rescaled(axes, operation.outputs[number])
    if not result or operation.type == "ResizeNearestNeighbor":
        return result
    result = list(result)
    for index in (1, 2):
        old, line = line_at(axes, index), result[index][0]
        margin = 2 * max(old.stride, line.stride)
        if operation.type == "ResizeBilinear":
            margin = old.stride
        start = old.start + (line.stride - old.stride) / 2 - margin
        result[index] = (line._replace(start=start, field=old.field + 2 * margin),)
    return tuple(result)


def dilated(operation: tf.Operation, inputs: Sequence[Axes], number: int) -> Axes | None:
    """Before and behind a dilated convolution, which TensorFlow computes as a plain one."""
    axes, output = inputs[0], operation.outputs[number]
    blocks, edges = (tf.get_static_value(tensor) for tensor in operation.inputs[1:3])
    if blocks is None or edges is None:
        return None
    result = list(sizes_only(output))
    result[0] = axes[0]
    for index, block, (before, _) in zip(range(1, len(axes)), blocks, edges):
        line, block = line_at(axes, index), int(block)
        if line is None:
            return None
        if operation.type == "SpaceToBatchND":
            start, stride = line.start - int(before) * line.stride, line.stride * block
        else:
            stride = line.stride / block
            start = line.start + int(before) * stride
        result[index] = (line._replace(size=output.shape[index], stride=stride, start=start),)
    return tuple(result)
