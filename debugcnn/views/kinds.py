"""Kinds of layers."""

import keras

CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)
NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)
POOLINGS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
JOINS = (
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Concatenate,
    keras.layers.Dot,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Subtract,
)
# Classes of layers and operations that apply an activation, in lower case.
ACTIVATIONS = frozenset(
    """
    activation celu elu gelu hardsigmoid hardsilu hardtanh leakyrelu logsigmoid mish prelu relu
    relu6 selu sigmoid silu softplus softsign sparseplus tanh tanhshrink threshold
    """.split()  # noqa: SIM905
)
