"""Layers as Keras 2 described them, and the layers of Keras 3 that compute the same."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import keras

RENAMED = {"SyncBatchNormalization": "BatchNormalization", "ThresholdedReLU": "ReLU"}
# Settings that Keras 3 does not have and that change no prediction.
IDLE = {
    *("adjustment", "bias_constraint", "bias_initializer", "bias_regularizer", "fused"),
    *("implementation", "kernel_constraint", "kernel_initializer", "kernel_regularizer"),
    *("key_shape", "noise_shape", "query_shape", "rng_type", "softmax_robust_masking"),
    *("trainable", "value_shape", "virtual_batch_size"),
}
ONLY = {"groups": 1, "renorm": False}  # the value that Keras 3 computes with


def make_layer(
    kind: str, config: dict[str, Any], note: Callable[[str, str], None]
) -> keras.layers.Layer:
    """The layer of Keras 3 for a class of Keras 2 and its `simplified` configuration.

    `note(kind, change)` is called for each setting that has to be changed. Raises ValueError if
    Keras 3 has no such class, or lacks a setting that changes a prediction.
    """
    layer_class = _layer_class(kind)
    parameters = inspect.signature(layer_class).parameters
    known = set(parameters)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        known |= {"name", "trainable", "dtype"}
    if kind in RENAMED:
        note(kind, f"now {RENAMED[kind]}")
    config = dict(config)
    config.pop("batch_input_shape", None)
    if kind == "ThresholdedReLU":
        config["threshold"] = config.pop("theta")
    if "alpha" in config and "negative_slope" in known:
        config["negative_slope"] = config.pop("alpha")
        note(kind, "alpha is negative_slope")
    if isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        (config["axis"],) = config["axis"]
        note(kind, "axis as a number")
    for setting in [setting for setting in config if setting not in known]:
        value = config.pop(setting)
        if setting not in IDLE and not (setting in ONLY and ONLY[setting] == value):
            raise ValueError(
                f"Its layer {config['name']!r} ({kind}) has {setting} = {value!r}, which Keras 3 "
                "does not have."
            )
        note(kind, f"without {setting}")
    return layer_class.from_config(config)


def make_input(entry: dict[str, Any]) -> keras.KerasTensor:
    """The input that an InputLayer, or a layer with a batch_input_shape, describes."""
    config = entry["config"]
    shape = config.get("batch_input_shape") or config["batch_shape"]
    dtype = simplified(config.get("dtype"))
    return keras.Input(batch_shape=tuple(shape), dtype=dtype, name=config.get("name"))


def simplified(value: Any) -> Any:
    """A configuration without the modules of Keras 2, and with the settings that Keras 3 writes."""
    if isinstance(value, list):
        return [simplified(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "class_name" not in value:
        return {key: simplified(item) for key, item in value.items()}
    kind, config = value["class_name"], simplified(value["config"])
    if kind in {"Policy", "DTypePolicy"}:
        return config["name"]
    if kind in {"function", "__tuple__"}:  # the name of an activation
        return config
    if hasattr(keras.initializers, kind):
        config.pop("dtype", None)
    return {"class_name": kind, "config": config}


def _layer_class(kind):
    applications = sys.modules[keras.applications.ConvNeXtTiny.__module__]  # their LayerScale
    name = RENAMED.get(kind, kind)
    layer_class = getattr(keras.layers, name, None) or getattr(applications, name, None)
    if not (inspect.isclass(layer_class) and issubclass(layer_class, keras.layers.Layer)):
        raise ValueError(f"Unknown layer: {kind!r}")
    return layer_class
