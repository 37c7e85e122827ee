"""Which pixels of the image a unit of a tensor sees, counted along the graph.

The axes of each tensor (axes.py) follow from those of the operation's inputs by the rule in RULES.
So it is proven, and not guessed from shapes, which tensors are maps, how large the receptive field
of a unit is and how many pixels lie between one unit and the next (the arithmetic of Araujo, Norris
and Sim, Computing Receptive Fields of Convolutional Neural Networks, Distill 2019,
doi:10.23915/distill.00021). The output of an operation without a rule has sizes only.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import keras
import tensorflow as tf

from . import reshape_axes, window_axes
from .axes import Axes, Line, has_line, map_of, sizes_only
from .kinds import operations_of, role_of

ELEMENTWISE = operations_of("activation", "softmax") | frozenset(
    (
        *("Abs", "Add", "AddN", "AddV2", "BiasAdd", "Cast", "CheckNumerics", "ClipByValue", "Div"),
        *("DivNoNan", "Equal", "Erf", "Erfc", "Exp", "Expm1", "FusedBatchNorm"),
        *("FusedBatchNormV2", "FusedBatchNormV3", "Greater", "GreaterEqual", "Identity"),
        *("IsFinite", "Less", "LessEqual", "Log", "Log1p", "LogicalAnd", "LogicalNot"),
        *("LogicalOr", "Maximum", "Minimum", "Mul", "MulNoNan", "Neg", "NotEqual", "OnesLike"),
        *("Pow", "PreventGradient", "RealDiv", "Reciprocal", "Round", "Rsqrt", "Select"),
        *("SelectV2", "Sign", "Snapshot", "Sqrt", "Square", "SquaredDifference", "StopGradient"),
        *("Sub", "Xdivy", "ZerosLike"),
    )
)
RULES = {  # by TensorFlow's names of operations
    **dict.fromkeys(ELEMENTWISE, reshape_axes.elementwise),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), reshape_axes.reshaped),
    **dict.fromkeys(("All", "Any", "Max", "Mean", "Min", "Prod", "Sum"), reshape_axes.reduced),
    **dict.fromkeys(("ConcatV2", "Split", "SplitV", "GatherV2"), reshape_axes.gathered),
    **dict.fromkeys(("MatMul", "BatchMatMulV2", "BatchMatMulV3"), reshape_axes.multiplied),
    "Einsum": reshape_axes.summed,
    "IdentityN": reshape_axes.same,
    "Pack": reshape_axes.packed,
    "Tile": reshape_axes.tiled,
    "Transpose": reshape_axes.transposed,
    "Unpack": reshape_axes.unpacked,
    **dict.fromkeys(window_axes.SLIDING, window_axes.slid),
    window_axes.TRANSPOSED: window_axes.transposed_convolution,
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), window_axes.padded),
    "Slice": window_axes.cut,
    "StridedSlice": window_axes.sliced,
    **dict.fromkeys(window_axes.RESIZINGS, window_axes.resized),
    **dict.fromkeys(("SpaceToBatchND", "BatchToSpaceND"), window_axes.dilated),
    **dict.fromkeys(("SpaceToDepth", "DepthToSpace"), window_axes.scaled),
}


def trace_axes(graph: tf.Graph, images: tf.Tensor, runs: Iterable[Any]) -> dict[str, Axes]:
    """{name of a tensor: its axes} for all tensors of a graph that depend on `images`.

    `images` are (n, height, width, channels). `runs` (tracing.Run) tell the inputs and outputs of
    layers, for the few whose operations hide how they compute (`_of_layer`).
    """
    layers = {run.output.name: run for run in reversed(runs)}
    batch, height, width, channels = images.shape
    lines = [Line(i, side, *map(Fraction, (1, 0, 1))) for i, side in enumerate((height, width))]
    known = {images.name: ((batch,), *((line,) for line in lines), (channels,))}

    def axes_of(tensor):
        return known.get(tensor.name) or sizes_only(tensor)

    for operation in graph.get_operations():
        inputs = [axes_of(tensor) for tensor in operation.inputs]
        rule = RULES.get(operation.type) if any(map(has_line, inputs)) else None
        for number, tensor in enumerate(operation.outputs):
            if tensor.shape.rank is None:
                continue
            axes = rule(operation, inputs, number) if rule else None
            if tensor.name in layers:
                run = layers[tensor.name]
                axes = _of_layer(run.layer, axes_of(run.input), run.output, axes)
            if axes and len(axes) == tensor.shape.rank:
                known[tensor.name] = axes
    return known


def _of_layer(layer, input_axes, output, axes):
    """Axes of a layer's output where its operations hide them: sizes that are computed as the graph
    runs, or a function that was compiled apart.
    """
    if role_of(layer) == "dense":
        if len(input_axes) == output.shape.rank:
            return (*input_axes[:-1], (output.shape[-1],))
    elif role_of(layer) == "upsampling":
        if map_of(input_axes):
            return window_axes.rescaled(input_axes, output)
    elif isinstance(layer, keras.layers.Conv2D) and map_of(input_axes) and not map_of(axes or ()):
        size, strides, dilations = layer.kernel_size, layer.strides, layer.dilation_rate
        padding = layer.padding.upper()
        window = window_axes.Window((1, 2), size, strides, dilations, padding)
        return window_axes.windowed(input_axes, output, window)
    return axes
