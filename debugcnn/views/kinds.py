"""The kinds of layers that the views and the diagnosis know, as one table.

Every list of layer classes is derived from KINDS: a new kind of layer is one more row. Subclasses
count as the kind that they extend, and a layer of no known kind is run and recorded like any other.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

L = keras.layers


class Kernel(NamedTuple):
    """One kernel of a layer."""

    attribute: str
    initializer: str  # the attribute that holds it
    filter_axes: tuple[int, ...]  # that count its filters, from the last axis


class Kind(NamedTuple):
    """A class of layers."""

    layer: type
    role: str
    linear: bool = True  # scales, adds, moves or pools: it is no activation between weights
    kernels: tuple[Kernel, ...] = ()


KERNEL = Kernel("kernel", "kernel_initializer", (-1,))
TRANSPOSED = Kernel("kernel", "kernel_initializer", (-2,))
DEPTHWISE = Kernel("kernel", "depthwise_initializer", (-2, -1))
SEPARABLE = (
    Kernel("depthwise_kernel", "depthwise_initializer", (-2, -1)),
    Kernel("pointwise_kernel", "pointwise_initializer", (-1,)),
)
# A subclass stands before the class that it extends, where both are listed.
KINDS = (
    Kind(L.DepthwiseConv2D, "convolution", kernels=(DEPTHWISE,)),
    Kind(L.SeparableConv2D, "convolution", kernels=SEPARABLE),
    Kind(L.Conv2DTranspose, "convolution", linear=False, kernels=(TRANSPOSED,)),
    Kind(L.Conv2D, "convolution", kernels=(KERNEL,)),
    Kind(L.Dense, "dense", kernels=(KERNEL,)),
    Kind(L.BatchNormalization, "normalization"),
    Kind(L.GroupNormalization, "normalization", linear=False),
    Kind(L.LayerNormalization, "normalization", linear=False),
    Kind(L.MaxPooling2D, "pooling"),
    Kind(L.AveragePooling2D, "pooling"),
    Kind(L.GlobalMaxPooling2D, "global pooling"),
    Kind(L.GlobalAveragePooling2D, "global pooling"),
    Kind(L.UpSampling2D, "upsampling", linear=False),
    Kind(L.Add, "join", linear=False),
    Kind(L.Average, "join", linear=False),
    Kind(L.Concatenate, "join", linear=False),
    Kind(L.Dot, "join", linear=False),
    Kind(L.Maximum, "join", linear=False),
    Kind(L.Minimum, "join", linear=False),
    Kind(L.Multiply, "join", linear=False),
    Kind(L.Subtract, "join", linear=False),
    Kind(L.InputLayer, "input"),
    Kind(L.Rescaling, "input"),
    Kind(L.Flatten, "shaping"),
    Kind(L.Reshape, "shaping"),
    Kind(L.ZeroPadding2D, "shaping"),
    Kind(L.Dropout, "dropout"),
)
# Layers and operations (keras.ops) that apply an activation, by the names of their classes.
ACTIVATION_NAMES = frozenset(
    (
        *("activation", "celu", "elu", "gelu", "hardsigmoid", "hardsilu", "hardtanh", "leakyrelu"),
        *("logsigmoid", "mish", "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "softplus"),
        *("softsign", "sparseplus", "tanh", "tanhshrink", "threshold"),
    )
)


def classes_of(*roles: str) -> tuple[type, ...]:
    """The classes of layers with one of these roles, for isinstance."""
    return tuple(kind.layer for kind in KINDS if kind.role in roles)


CONVOLUTIONS = classes_of("convolution")
NORMALISATIONS = classes_of("normalization")
POOLINGS = classes_of("pooling")
JOINS = classes_of("join")
DENSE = classes_of("dense")
LINEAR = tuple(kind.layer for kind in KINDS if kind.linear)


def kind_of(layer: object) -> Kind | None:
    """The row of the table that a layer belongs to, or None."""
    return next((kind for kind in KINDS if isinstance(layer, kind.layer)), None)


def is_activation(layer: object) -> bool:
    """Whether a layer or operation does nothing but apply an activation."""
    return type(layer).__name__.lower() in ACTIVATION_NAMES


def kernels_of(layer: object) -> list[tuple[np.ndarray, Callable | None]]:
    """The kernels of a layer as float32 arrays, each with its initializer.

    A layer of no known kind may have a kernel, too.
    """
    return [
        (np.asarray(getattr(layer, kernel.attribute), np.float32), _initializer(layer, kernel))
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
    kernels = kind.kernels if kind else (KERNEL,)
    return [kernel for kernel in kernels if getattr(layer, kernel.attribute, None) is not None]


def _initializer(layer, kernel):
    return getattr(layer, kernel.initializer, None)
