"""Where the rows and columns of the photo go: receptive fields, counted along the graph.

Every axis of a tensor is a tuple of parts: numbers, which are sizes without a place in the photo,
and `Line`s, which are rows or columns of units with a known place. So it is proven, and not guessed
from shapes, which tensors are maps, how large a field of the photo a unit sees and how many pixels
lie between one unit and the next (the arithmetic of Araujo, Norris and Sim, Computing Receptive
Fields of Convolutional Neural Networks, Distill 2019, doi:10.23915/distill.00021). What an
operation that is not known here returns has sizes only.
"""

from fractions import Fraction
from itertools import zip_longest
from typing import NamedTuple

import keras
import tensorflow as tf


class Line(NamedTuple):
    """Rows or columns of units: unit i sees `field` pixels from start + i stride on."""

    axis: int  # 0: rows of the photo, 1: its columns
    size: int  # units
    stride: Fraction  # pixels from one unit to the next
    start: Fraction  # negative where the first unit's field reaches into the padding
    field: Fraction  # pixels


class Map(NamedTuple):
    """Where a tensor has its units: the lines, and the axes of rows, columns and channels."""

    rows: Line
    columns: Line
    order: tuple

    @property
    def shape(self):
        return self.rows.size, self.columns.size


ELEMENTWISE = frozenset(
    """
    Abs Add AddN AddV2 BiasAdd Cast CheckNumerics ClipByValue Div DivNoNan Elu Equal Erf Erfc Exp
    Expm1 FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Greater GreaterEqual Identity IsFinite
    LeakyRelu Less LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr Maximum Minimum
    Mul MulNoNan Neg NotEqual OnesLike Pow PreventGradient RealDiv Reciprocal Relu Relu6 Round
    Rsqrt Select SelectV2 Selu Sigmoid Sign Snapshot Softmax Softplus Softsign Sqrt Square
    SquaredDifference StopGradient Sub Tanh Xdivy ZerosLike
    """.split()  # noqa: SIM905
)
REDUCTIONS = {"All", "Any", "Max", "Mean", "Min", "Prod", "Sum"}
WINDOWED = {  # what looks at more than one place, and functions that were compiled apart
    *("AvgPool", "Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative", "ExtractImagePatches"),
    *("MaxPool", "PartitionedCall", "StatefulPartitionedCall"),
}
RESIZINGS = {"ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor"}


def map_of(axes):
    """The Map of a tensor whose axes are batch, rows, columns and channels in any order, or batch,
    tokens (the rows one behind another) and channels; None for any other.
    """
    lines = [(part, i) for i, axis in enumerate(axes) for part in axis if isinstance(part, Line)]
    held = {i for _, i in lines}
    rest = set(range(1, len(axes))) - held
    alone = all(isinstance(part, Line) for i in held for part in axes[i])
    if len(lines) != 2 or 0 in held or len(rest) != 1 or not alone:
        return None
    (rows, of_rows), (columns, of_columns) = sorted(lines)
    if (rows.axis, columns.axis) != (0, 1) or (len(held) == 1 and lines[0][0] != rows):
        return None
    return Map(rows, columns, (of_rows, of_columns, *rest))


def has_line(axes):
    return any(isinstance(part, Line) for axis in axes for part in axis)


def as_map(tensor, place):
    """A tensor that holds the Map `place`, as (n, rows, columns, channels)."""
    rows, columns, channels = place.order
    if rows == columns:
        tensor = tf.transpose(tensor, (0, rows, channels))
        return tf.reshape(tensor, (-1, *place.shape, tensor.shape[-1]))
    in_order = place.order == (1, 2, 3)
    return tensor if in_order else tf.transpose(tensor, (0, rows, columns, channels))


def trace_axes(graph, images, runs):
    """{name of a tensor: its axes} for all tensors of a graph that is fed with `images`.

    `runs` are what the layers were given and returned, for the few layers whose operations do not
    tell (`_of_layer`).
    """
    layers = {run.output.name: run for run in reversed(runs)}
    batch, height, width, channels = images.shape
    lines = [Line(i, side, *map(Fraction, (1, 0, 1))) for i, side in enumerate((height, width))]
    known = {images.name: ((batch,), *((line,) for line in lines), (channels,))}

    def axes_of(tensor):
        return known.get(tensor.name) or _plain(tensor)

    for op in graph.get_operations():
        given = [axes_of(tensor) for tensor in op.inputs]
        followed = any(map(has_line, given))
        for i, tensor in enumerate(op.outputs):
            if tensor.shape.rank is None:
                continue
            axes = _of_operation(op, given, i) if followed else None
            if tensor.name in layers:
                run = layers[tensor.name]
                axes = _of_layer(run.layer, axes_of(run.input), run.output, axes)
            if axes and len(axes) == tensor.shape.rank:
                known[tensor.name] = axes
    return known


def _plain(tensor):
    return tuple((size,) for size in tensor.shape) if tensor.shape.rank else ()


def _of_operation(op, given, number):
    """Axes of output `number` of a TensorFlow operation; None where nothing is known."""
    output, kind, axes = op.outputs[number], op.type, given[0]
    if kind == "IdentityN":
        return given[number]
    if kind in ELEMENTWISE:
        return _broadcast(given) if number == 0 else None
    if kind in {"Reshape", "Squeeze", "ExpandDims"}:
        return _regrouped(axes, output.shape)
    if slides := sliding_window(op):
        return _windowed(axes, output, *slides)
    if kind == "Conv2DBackpropInput":
        return _transposed_convolution(op, given[2], output)
    if kind == "Transpose":
        order = tf.get_static_value(op.inputs[1])
        return None if order is None else tuple(axes[i] for i in order)
    if kind in REDUCTIONS:
        return _reduced(op, axes, output)
    if kind in {"Pad", "PadV2", "MirrorPad"}:
        pads = tf.get_static_value(op.inputs[1])
        return pads is not None and _moved(axes, output, [-before for before, _ in pads])
    if kind == "Slice":
        begin = tf.get_static_value(op.inputs[1])
        return begin is not None and _moved(axes, output, begin)
    if kind == "StridedSlice":
        return _sliced(op, axes, output)
    if kind in RESIZINGS:
        return _resized(axes, output, kind)
    if kind in {"SpaceToBatchND", "BatchToSpaceND"}:
        return _dilated(op, axes, output)
    if kind in {"SpaceToDepth", "DepthToSpace"}:
        return _scaled(axes, output)
    if kind in {"ConcatV2", "Pack", "Split", "SplitV", "Unpack", "GatherV2", "Tile"}:
        return _regathered(op, given, output, number)
    if kind in {"MatMul", "BatchMatMulV2", "BatchMatMulV3"}:
        return _multiplied(op, given)
    if kind == "Einsum":
        return _summed(op, given)
    return None


def sliding_window(op):
    """Of a convolution or pooling: its axes, window, strides and dilations, each for rows and
    columns, and its padding; None for any other operation.
    """
    if op.type not in {
        "Conv2D",
        "DepthwiseConv2dNative",
        "MaxPool",
        "AvgPool",
        "ExtractImagePatches",
    }:
        return None
    first = 1 if op.type == "ExtractImagePatches" or op.get_attr("data_format") == b"NHWC" else 2
    places = first, first + 1
    names = ("ksize", "strides", None)
    if op.type == "ExtractImagePatches":
        names = ("ksizes", "strides", "rates")
    elif op.type not in {"MaxPool", "AvgPool"}:
        names = (None, "strides", "dilations")
    window, strides, dilations = (
        [op.get_attr(name)[i] for i in places] if name else [1, 1] for name in names
    )
    if not names[0]:
        window = list(op.inputs[1].shape[:2])
    return places, window, strides, dilations, _padding(op)


def _of_layer(layer, given, output, axes):
    """Axes of what a layer returns, where its operations hide it: sizes that are computed as the
    graph runs, or a function that was compiled apart.
    """
    if isinstance(layer, keras.layers.Dense | keras.layers.EinsumDense):
        if len(given) == output.shape.rank:
            return (*given[:-1], (output.shape[-1],))
    elif isinstance(layer, keras.layers.UpSampling2D):
        if map_of(given):
            return _scaled(given, output)
    elif isinstance(layer, keras.layers.Conv2D) and map_of(given) and not map_of(axes or ()):
        options = layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding.upper()
        return _windowed(given, output, (1, 2), *options)
    return axes


# ------------------------------------------------------------------------- the rules, one by one


def _broadcast(given):
    """Axes of an elementwise operation: a line stays one where no other input contradicts it."""
    axes = []
    for several in zip_longest(*(reversed(one) for one in given), fillvalue=()):
        placed = [axis for axis in several if has_line([axis])]
        if not placed:
            axes.append(max(several, key=_size))
            continue
        axis = placed[0]
        for other in placed[1:]:
            axis = _united(axis, other)
        axes.append(axis)
    return tuple(reversed(axes))


def _size(axis):
    size = 1
    for part in axis:
        part = part.size if isinstance(part, Line) else part
        if part is None:
            return float("inf")
        size *= part
    return size


def _united(one, other):
    """One axis that sees what either sees; without a place where they do not go together."""
    sizes = (int(_size(one)),)
    if len(one) != len(other):
        return sizes
    united = []
    for a, b in zip(one, other):
        if isinstance(a, Line) and isinstance(b, Line) and a[:3] == b[:3]:
            start = min(a.start, b.start)
            end = max(a.start + a.field, b.start + b.field)
            united.append(a._replace(start=start, field=end - start))
        elif a == b:
            united.append(a)
        else:
            return sizes
    return tuple(united)


def _regrouped(axes, shape):
    """Axes after a reshape: parts are put together and taken apart in their order."""
    parts, axes = [part for axis in axes for part in axis], []
    for i, size in reversed(list(enumerate(shape))):
        if size is None:
            if i:
                return None
            axes.append(tuple(parts))
            break
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
                outer = length // size
                if isinstance(part, Line):
                    field = part.field + (size - 1) * part.stride
                    outer = part._replace(size=outer, stride=part.stride * size, field=field)
                parts.append(outer)
                axis, size = (size, *axis), 1
            else:
                return None
        axes.append(axis)
    return tuple(reversed(axes))


def _padding(op):
    padding = op.get_attr("padding").decode()
    return op.get_attr("explicit_paddings") if padding == "EXPLICIT" else padding


def _line(axes, place):
    """The Line that an axis is; None for any other axis."""
    return axes[place][0] if len(axes[place]) == 1 and isinstance(axes[place][0], Line) else None


def _windowed(axes, output, places, window, strides, dilations, padding):
    """Axes of what slides a window over the map: a convolution or a pooling."""
    result = list(_plain(output))
    result[0] = axes[0]
    lines = [_line(axes, place) for place in places]
    if None in lines:
        return None
    sizes = [output.shape[place] for place in places]
    for place, line, size, width, stride, rate in zip(
        places, lines, sizes, window, strides, dilations
    ):
        width = (width - 1) * rate + 1
        if padding == "SAME":
            before = max((size - 1) * stride + width - line.size, 0) // 2
        else:
            before = 0 if padding == "VALID" else padding[2 * place]
        result[place] = (
            line._replace(
                size=size,
                stride=line.stride * stride,
                start=line.start - before * line.stride,
                field=line.field + (width - 1) * line.stride,
            ),
        )
    return tuple(result)


def _transposed_convolution(op, axes, output):
    result = list(_plain(output))
    result[0] = axes[0]
    for i, place in enumerate((1, 2)):
        line, width = _line(axes, place), op.inputs[1].shape[i]
        if line is None:
            return None
        stride, size = op.get_attr("strides")[place], output.shape[place]
        before = 0
        if op.get_attr("padding") == b"SAME":
            before = max((line.size - 1) * stride + width - size, 0) // 2
        start = line.start + line.stride * Fraction(before - width + 1, stride)
        field = line.field + line.stride * Fraction(width - 1, stride)
        result[place] = (Line(line.axis, size, line.stride / stride, start, field),)
    return tuple(result)


def _reduced(op, axes, output):
    over = tf.get_static_value(op.inputs[1])
    if over is None:
        return None
    over = {int(i) % len(axes) for i in over.reshape(-1)}
    if op.get_attr("keep_dims"):
        return tuple(() if i in over else axis for i, axis in enumerate(axes))
    return tuple(axis for i, axis in enumerate(axes) if i not in over)


def _moved(axes, output, begin, steps=None):
    """Axes after cropping (from unit `begin` on, each `steps`) or padding (a negative begin)."""
    result = []
    for i, (axis, size) in enumerate(zip(axes, output.shape)):
        line, step = _line(axes, i), 1 if steps is None else int(steps[i])
        if line is None or step < 1:
            lines = has_line([axis])
            result.append(axis if size is None or (size == _size(axis) and not lines) else (size,))
            continue
        start = line.start + int(begin[i]) * line.stride
        result.append((line._replace(size=size, start=start, stride=line.stride * step),))
    return tuple(result)


def _sliced(op, axes, output):
    begin, end, steps = (tf.get_static_value(tensor) for tensor in op.inputs[1:4])
    masks = {name: op.get_attr(f"{name}_mask") for name in ("begin", "shrink_axis", "new_axis")}
    ellipsis = op.get_attr("ellipsis_mask")
    if begin is None or steps is None or masks["new_axis"]:
        return None
    places = list(range(len(begin)))
    if ellipsis:
        hole = ellipsis.bit_length() - 1
        places = [i if i < hole else i - len(begin) + len(axes) for i in places]
        places[hole] = None
    starts, strides, dropped = [0] * len(axes), [1] * len(axes), set()
    for i, place in enumerate(places):
        if place is None:
            continue
        strides[place] = int(steps[i])
        if not masks["begin"] >> i & 1:
            size = _size(axes[place])
            starts[place] = int(begin[i]) + (size if begin[i] < 0 else 0)
        if masks["shrink_axis"] >> i & 1:
            dropped.add(place)
    kept = [i for i in range(len(axes)) if i not in dropped]
    axes, starts, strides = ([values[i] for i in kept] for values in (axes, starts, strides))
    return _moved(axes, output, starts, strides) if len(axes) == output.shape.rank else None


def _scaled(axes, output):
    """Axes with more or fewer units over the same field: each unit repeated or put together."""
    result = list(_plain(output))
    result[0] = axes[0]
    for place in (1, 2):
        line, size = _line(axes, place), output.shape[place]
        if line is None or size is None:
            return None
        stride = line.stride * Fraction(line.size, size)
        start = line.start + min(stride - line.stride, 0)
        field = line.field + abs(stride - line.stride)
        result[place] = (Line(line.axis, size, stride, start, field),)
    return tuple(result)


def _resized(axes, output, kind):
    """Axes after a resize, which sees its neighbours, too, unless it takes the nearest unit."""
    result = _scaled(axes, output)
    if not result or kind == "ResizeNearestNeighbor":
        return result
    result = list(result)
    for place in (1, 2):
        old, line = _line(axes, place), result[place][0]
        margin = old.stride if kind == "ResizeBilinear" else 2 * max(old.stride, line.stride)
        start = old.start + (line.stride - old.stride) / 2 - margin
        result[place] = (line._replace(start=start, field=old.field + 2 * margin),)
    return tuple(result)


def _dilated(op, axes, output):
    """Axes before and after a dilated convolution, which TensorFlow makes of a plain one."""
    blocks, edges = (tf.get_static_value(tensor) for tensor in op.inputs[1:3])
    if blocks is None or edges is None:
        return None
    result = list(_plain(output))
    result[0] = axes[0]
    for place, block, (before, _) in zip(range(1, len(axes)), blocks, edges):
        line, block = _line(axes, place), int(block)
        if line is None:
            return None
        if op.type == "SpaceToBatchND":
            start, stride = line.start - int(before) * line.stride, line.stride * block
        else:
            stride = line.stride / block
            start = line.start + int(before) * stride
        result[place] = (line._replace(size=output.shape[place], stride=stride, start=start),)
    return tuple(result)


def _regathered(op, given, output, number):
    """Axes of what puts tensors beside each other, takes one apart or repeats it."""
    kind = op.type
    if kind == "Tile":
        times = tf.get_static_value(op.inputs[1])
        if times is None:  # the batch is repeated as often as the graph says when it runs
            return None
        return tuple(
            axis if many == 1 else _plain(output)[i]
            for i, (axis, many) in enumerate(zip(given[0], times))
        )
    if kind in {"Pack", "Unpack"}:
        place = op.get_attr("axis")
        if kind == "Pack":
            axes = list(_broadcast(given))
            axes.insert(place % (len(axes) + 1), (len(given),))
            return tuple(axes)
        return tuple(axis for i, axis in enumerate(given[0]) if i != place % len(given[0]))
    values, place = {
        "ConcatV2": (given[:-1], op.inputs[-1]),
        "Split": (given[1:], op.inputs[0]),
        "SplitV": (given[:1], op.inputs[-1]),
        "GatherV2": (given[:1], op.inputs[-1]),
    }[kind]
    place = tf.get_static_value(place)
    if place is None or len(values[0]) != output.shape.rank:
        return None
    place = int(place) % len(values[0])
    axes = list(values[0])
    for other in values[1:]:
        axes = [
            _broadcast([(a,), (b,)])[0] if i != place else a
            for i, (a, b) in enumerate(zip(axes, other))
        ]
    axes[place] = (output.shape[place],)
    return tuple(axes)


def _multiplied(op, given):
    one, other = given[:2]
    turned = [
        op.get_attr(name)
        for name in (("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y"))
    ]
    before = _broadcast([one[:-2], other[:-2]])
    return (*before, one[-1 if turned[0] else -2], other[-2 if turned[1] else -1])


def _summed(op, given):
    left, right = op.get_attr("equation").decode().split("->")
    axes = {}
    for labels, one in zip(left.split(","), given):
        if len(labels) != len(one):
            return None
        for label, axis in zip(labels, one):
            known = axes.get(label)
            placed = known and has_line([known])
            axes[label] = known if placed else axis
    return tuple(axes[label] for label in right)
