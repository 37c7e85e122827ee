"""The kinds of layers that the views and the diagnosis know, as one table.

Every list of layers or TensorFlow operations by kind is derived from KINDS, so a new kind of layer
is one more row. Subclasses count as the kind that they extend. A layer of no known kind is run and
recorded like any other.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import keras
import numpy as np

Role = Literal[
    "activation",
    "convolution",
    "dense",
    "dropout",
    "global pooling",
    "input",
    "join",
    "normalization",
    "pooling",
    "shaping",
    "softmax",
    "upsampling",
]
L = keras.layers


class Kernel(NamedTuple):
    """One kernel of a layer."""

    attribute: str
    initializer: str  # the attribute that holds it
    filter_axes: tuple[int, ...]  # that count its filters, from the last axis


class Kind(NamedTuple):
    """A kind of layer: a class with its subclasses, and the operations of keras.ops that do the
    same.
    """

    layer: type | None  # None: only operations
    role: Role
    linear: bool = True  # scales, adds, moves or pools: it is no activation between weights
    kernels: tuple[Kernel, ...] = ()
    operations: tuple[str, ...] = ()  # of TensorFlow, that compute it
    names: tuple[str, ...] = ()  # of other classes that count, in lower case: those of keras.ops


def _activation(name, *operations, layer=None):
    return Kind(layer, "activation", False, operations=operations, names=(name,))


def _join(layer):
    return Kind(layer, "join", False, names=(layer.__name__.lower(),))


KERNEL = Kernel("kernel", "kernel_initializer", (-1,))
TRANSPOSED = Kernel("kernel", "kernel_initializer", (-2,))
DEPTHWISE = Kernel("kernel", "depthwise_initializer", (-2, -1))
SEPARABLE = (
    Kernel("depthwise_kernel", "depthwise_initializer", (-2, -1)),
    Kernel("pointwise_kernel", "pointwise_initializer", (-1,)),
)
# A subclass stands before the class that it extends, where both are listed.
KINDS = (
    Kind(L.DepthwiseConv2D, "convolution", True, (DEPTHWISE,), ("DepthwiseConv2dNative",)),
    Kind(L.SeparableConv2D, "convolution", True, SEPARABLE, ("DepthwiseConv2dNative", "Conv2D")),
    Kind(L.Conv2DTranspose, "convolution", False, (TRANSPOSED,), ("Conv2DBackpropInput",)),
    Kind(L.Conv2D, "convolution", True, (KERNEL,), ("Conv2D",)),
    Kind(L.Dense, "dense", True, (KERNEL,)),
    Kind(L.EinsumDense, "dense", False, (KERNEL,)),
    Kind(L.BatchNormalization, "normalization"),
    Kind(L.GroupNormalization, "normalization", False),
    Kind(L.LayerNormalization, "normalization", False),
    Kind(L.MaxPooling2D, "pooling", True, operations=("MaxPool",)),
    Kind(L.AveragePooling2D, "pooling", True, operations=("AvgPool",)),
    Kind(L.GlobalMaxPooling2D, "global pooling"),
    Kind(L.GlobalAveragePooling2D, "global pooling"),
    Kind(L.GlobalMaxPooling1D, "global pooling", False),
    Kind(L.GlobalAveragePooling1D, "global pooling", False),
    Kind(L.UpSampling2D, "upsampling", False),
    _join(L.Add),
    _join(L.Average),
    _join(L.Concatenate),
    _join(L.Dot),
    _join(L.Maximum),
    _join(L.Minimum),
    _join(L.Multiply),
    _join(L.Subtract),
    _activation("activation", layer=L.Activation),
    _activation("celu"),
    _activation("elu", "Elu", layer=L.ELU),
    _activation("gelu"),
    _activation("hardsigmoid"),
    _activation("hardsilu"),
    _activation("hardtanh"),
    _activation("leakyrelu", "LeakyRelu", layer=L.LeakyReLU),
    _activation("logsigmoid"),
    _activation("mish"),
    _activation("prelu", layer=L.PReLU),
    _activation("relu", "Relu", layer=L.ReLU),
    _activation("relu6", "Relu6"),
    _activation("selu", "Selu"),
    _activation("sigmoid", "Sigmoid"),
    _activation("silu"),
    _activation("softplus", "Softplus"),
    _activation("softsign", "Softsign"),
    _activation("sparseplus"),
    _activation("tanh", "Tanh"),
    _activation("tanhshrink"),
    _activation("threshold"),
    Kind(L.Softmax, "softmax", False, operations=("Softmax", "LogSoftmax")),
    Kind(L.InputLayer, "input"),
    Kind(L.Rescaling, "input"),
    Kind(L.Flatten, "shaping"),
    Kind(L.Reshape, "shaping"),
    Kind(L.ZeroPadding2D, "shaping"),
    Kind(L.Dropout, "dropout"),
)


def classes_of(*roles: Role) -> tuple[type, ...]:
    """The classes of layers with one of these roles, for isinstance."""
    return tuple(kind.layer for kind in KINDS if kind.role in roles and kind.layer)


def operations_of(*roles: Role) -> frozenset[str]:
    """TensorFlow's names of the operations that layers with one of these roles compute."""
    return frozenset(name for kind in KINDS if kind.role in roles for name in kind.operations)


CONVOLUTIONS = classes_of("convolution")
NORMALISATIONS = classes_of("normalization")
POOLINGS = classes_of("pooling")
JOINS = classes_of("join")
LINEAR = tuple(kind.layer for kind in KINDS if kind.linear)


def kind_of(layer: object) -> Kind | None:
    """The row of the table that a layer or operation belongs to, or None."""
    name = type(layer).__name__.lower()
    return next(
        (
            kind
            for kind in KINDS
            if name in kind.names or (kind.layer and isinstance(layer, kind.layer))
        ),
        None,
    )


def role_of(layer: object, inputs: int = 2) -> Role | None:
    """What a layer or operation that takes that many tensors does, or None if that is not known.

    An operation on one tensor, such as x + 1, joins nothing.
    """
    kind = kind_of(layer)
    return kind.role if kind and (kind.role != "join" or inputs > 1) else None


def kernels_of(layer: object) -> list[tuple[np.ndarray, Callable | None]]:
    """The kernels of a layer as float32 arrays, each with its initializer.

    A layer of no known kind may have a kernel, too.
    """
    return [
        (
            np.asarray(getattr(layer, kernel.attribute), np.float32),
            getattr(layer, kernel.initializer, None),
        )
        for kernel in _existing_kernels(layer)
    ]


def filters_of(layer: object) -> list[np.ndarray]:
    """The kernels of a layer as (weights, filters)."""
    matrices = []
    for (array, _), kernel in zip(kernels_of(layer), _existing_kernels(layer)):
        array = np.moveaxis(array, kernel.filter_axes, range(-len(kernel.filter_axes), 0))
        count = int(np.prod(array.shape[-len(kernel.filter_axes) :]))
        matrices.append(array.reshape(-1, count))
    return matrices


def _existing_kernels(layer):
    kind = kind_of(layer)
    kernels = kind.kernels if kind else (KERNEL, *SEPARABLE)
    return [kernel for kernel in kernels if getattr(layer, kernel.attribute, None) is not None]
