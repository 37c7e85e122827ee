"""The axes of tensors, with the rows and columns of the image among them.

Every axis of a tensor is a tuple of parts: numbers, which are sizes without a position in the
image, and `Line`s, which are rows or columns of units with a known position.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import zip_longest
from typing import NamedTuple, TypeAlias

import tensorflow as tf


class Line(NamedTuple):
    """Rows or columns of units: unit i sees `field` pixels from start + i stride on."""

    axis: int  # 0: rows of the image, 1: its columns
    size: int  # units
    stride: Fraction  # pixels from one unit to the next
    start: Fraction  # negative where the first unit's field reaches into the padding
    field: Fraction  # pixels


Axis: TypeAlias = tuple[Line | int | None, ...]
Axes: TypeAlias = tuple[Axis, ...]


class Map(NamedTuple):
    """Where a tensor has its units: the lines, and the indices of the axes of rows, columns and
    channels.
    """

    rows: Line
    columns: Line
    order: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of units."""
        return self.rows.size, self.columns.size


def map_of(axes: Axes) -> Map | None:
    """The Map of a tensor whose axes are batch, rows, columns and channels in any order, or batch,
    tokens (the rows one behind another) and channels; None for any other tensor.
    """
    lines = [(part, i) for i, axis in enumerate(axes) for part in axis if isinstance(part, Line)]
    indices = {i for _, i in lines}
    others = set(range(1, len(axes))) - indices
    lines_only = all(isinstance(part, Line) for i in indices for part in axes[i])
    if len(lines) != 2 or 0 in indices or len(others) != 1 or not lines_only:
        return None
    (rows, index_of_rows), (columns, index_of_columns) = sorted(lines)
    in_order = len(indices) == 2 or lines[0][0] == rows
    if (rows.axis, columns.axis) != (0, 1) or not in_order:
        return None
    return Map(rows, columns, (index_of_rows, index_of_columns, *others))


def as_map(tensor: tf.Tensor, layout: Map) -> tf.Tensor:
    """A tensor that holds a Map, as (n, rows, columns, channels)."""
    rows, columns, channels = layout.order
    if rows == columns:
        tensor = tf.transpose(tensor, (0, rows, channels))
        return tf.reshape(tensor, (-1, *layout.shape, tensor.shape[-1]))
    in_order = layout.order == (1, 2, 3)
    return tensor if in_order else tf.transpose(tensor, (0, rows, columns, channels))


def has_line(axes: Iterable[Axis]) -> bool:
    """Whether any part of the axes has a position in the image."""
    return any(isinstance(part, Line) for axis in axes for part in axis)


def line_at(axes: Axes, index: int) -> Line | None:
    """The Line that the axis of that index is; None for any other axis."""
    axis = axes[index]
    return axis[0] if len(axis) == 1 and isinstance(axis[0], Line) else None


def sizes_only(tensor: tf.Tensor) -> Axes:
    """The axes of a tensor none of which has a position."""
    return tuple((size,) for size in tensor.shape) if tensor.shape.rank else ()


def size_of(axis: Axis) -> int | float:
    """How many units an axis has; infinity where that is not known."""
    size = 1
    for part in axis:
        part = part.size if isinstance(part, Line) else part
        if part is None:
            return float("inf")
        size *= part
    return size


def broadcast(inputs: Sequence[Axes]) -> Axes:
    """Axes of an elementwise operation: a line stays one where no other input contradicts it."""
    axes = []
    for aligned in zip_longest(
        *(reversed(axes_of_input) for axes_of_input in inputs), fillvalue=()
    ):
        with_lines = [axis for axis in aligned if has_line([axis])]
        if not with_lines:
            axes.append(max(aligned, key=size_of))
            continue
        axis = with_lines[0]
        for other in with_lines[1:]:
            axis = _united(axis, other)
        axes.append(axis)
    return tuple(reversed(axes))


def _united(left, right):
    """One axis that sees what either sees; without a position where they do not fit together."""
    sizes = (int(size_of(left)),)
    if len(left) != len(right):
        return sizes
    united = []
    for a, b in zip(left, right):
        if isinstance(a, Line) and isinstance(b, Line) and a[:3] == b[:3]:
            start = min(a.start, b.start)
            end = max(a.start + a.field, b.start + b.field)
            united.append(a._replace(start=start, field=end - start))
        elif a == b:
            united.append(a)
        else:
            return sizes
    return tuple(united)
