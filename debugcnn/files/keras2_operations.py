"""Operations of TensorFlow that models of Keras 2 hold as layers."""

from typing import Any

import keras
import tensorflow as tf

# Operations that a model may use: none that reaches files or the network.
MODULES = {
    "image": tf.image,
    "keras.activations": keras.activations,
    "linalg": tf.linalg,
    "math": tf.math,
    "nn": tf.nn,
    "signal": tf.signal,
}
NAMES = (
    *("abs", "argmax", "argmin", "broadcast_to", "cast", "clip_by_value", "concat", "einsum"),
    *("exp", "expand_dims", "gather", "gather_nd", "identity", "matmul", "maximum", "minimum"),
    *("multiply", "norm", "one_hot", "ones_like", "pad", "pow", "range", "reduce_max"),
    *("reduce_mean", "reduce_min", "reduce_prod", "reduce_sum", "repeat", "reshape", "reverse"),
    *("roll", "round", "shape", "sigmoid", "sign", "slice", "split", "sqrt", "square", "squeeze"),
    *("stack", "strided_slice", "subtract", "tanh", "tensordot", "tile", "transpose", "unstack"),
    *("where", "zeros_like"),
)
FUNCTIONS = {"__operators__.add": tf.add, "compat.v1.transpose": tf.transpose} | {
    name: getattr(tf, name) for name in NAMES
}


class TFOpLambda(keras.layers.Layer):
    """An operation such as tf.math.subtract, which Keras 2 kept as a layer.

    `function` is its name without "tf.". Raises ValueError for one that is not listed here.
    """

    def __init__(self, function: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function
        module, _, name = function.rpartition(".")
        operation = FUNCTIONS.get(function) or getattr(MODULES.get(module), name, None)
        is_slice = function == "__operators__.getitem"
        if not is_slice and (not callable(operation) or name.startswith("_")):
            raise ValueError(f"It uses the operation tf.{function}, which is not known here.")
        self.operation = None if is_slice else operation

    def call(self, tensors: Any = None, constant: Any = None, **arguments: Any) -> Any:
        """What the operation returns. `constant` takes the place of the tensors, as in 1 + x, where
        x is the argument y.
        """
        first = constant if tensors is None else tensors
        if self.operation is None:
            return first[tuple(arguments["slice_spec"])]
        return self.operation(first, **arguments)

    def get_config(self) -> dict[str, Any]:
        """The configuration of the layer, with the name of its operation."""
        return super().get_config() | {"function": self.function}
