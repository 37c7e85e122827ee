"""Models in files of Keras 2 (also as tf.keras and tf_keras), rebuilt in Keras 3.

What a file says of its layers is read, each is made anew as the layer of Keras 3 that computes the
same, and gets its weights. What belongs to training alone is left out where Keras 3 does not have
it. The file itself is only read. What would change a prediction raises ValueError.
"""

from collections.abc import Callable, Mapping
from typing import Any

import h5py
import keras

from .keras2_graph import Graph
from .keras2_layers import make_input, make_layer, simplified
from .keras2_operations import TFOpLambda
from .keras2_weights import Part, Parts, fill_from_hdf5, fill_from_zip

__all__ = ["Builder", "fill_from_hdf5", "fill_from_zip", "load"]

OF_TRAINING = {"RandomHeight", "RandomWidth"}  # layers that do nothing else, gone from Keras 3


def load(
    config: dict[str, Any],
    weights: h5py.Group,
    fill: Callable[[keras.Model, h5py.Group, Parts], None],
    custom_objects: Mapping[str, Any] | None = None,
) -> tuple[keras.Model, list[str]]:
    """The model that a file describes, and what had to be changed, as short texts.

    `fill` is one of `fill_from_hdf5` and `fill_from_zip`, and takes the `weights`. `custom_objects`
    are classes and functions by name. Raises ValueError for what Keras 3 cannot compute, and
    whatever the readers raise for damage. Python code in the file, and files that it names, are
    left to Keras' safe mode.
    """
    builder = Builder()
    with keras.saving.custom_object_scope(custom_objects or {}):
        model = builder.make(config)
    if not model.built:
        raise ValueError("It does not say how large its images are: save it after a first call.")
    fill(model, weights, builder.parts)
    return model, [f"{kind}: {', '.join(what)}" for kind, what in sorted(builder.changes.items())]


class Builder:
    """Makes layers and models from configurations, and remembers their order in the file."""

    def __init__(self) -> None:
        self.changes: dict[str, dict[str, None]] = {}  # {class of layers: {change: None}}
        self.parts: Parts = {}

    def note(self, kind: str, change: str) -> None:
        """Remember what had to be changed in layers of a class."""
        self.changes.setdefault(kind, {})[change] = None

    def make(self, entry: dict[str, Any]) -> keras.layers.Layer:
        """The layer or model that one entry describes."""
        kind, config = entry["class_name"], entry["config"]
        if kind == "Sequential":
            return self._make_sequential(config)
        if kind in {"Functional", "Model"} and "layers" in config:
            return self._make_functional(config)
        custom = keras.saving.get_registered_object(kind)
        name = config["name"]
        if "/" in name:
            self.note("layers with a / in their name", "_ instead of it")
        config = simplified(config) | {"name": name.replace("/", "_")}
        if custom:
            return custom.from_config(config)
        if kind == "Lambda":
            return self._make_lambda(entry["config"])
        if kind in {"TFOpLambda", "SlicingOpLambda"}:
            return TFOpLambda(config["function"], name=config["name"])
        if kind in OF_TRAINING:
            self.note(kind, "left out, since it only acts in training")
            return keras.layers.Identity(name=config["name"])
        return make_layer(kind, config, self.note)

    def _make_lambda(self, config):
        function = config["function"]
        if not isinstance(function, str):
            if isinstance(function, dict):
                function = [function["config"][key] for key in ("code", "defaults", "closure")]
            code, defaults, closure = function
            defaults = tuple(defaults) if defaults else None
            function = {"code": code, "defaults": defaults, "closure": closure}
            function = {"class_name": "__lambda__", "config": function}
        settings = {"name": config["name"], "function": function}
        settings["arguments"] = config.get("arguments") or {}
        layer = {"class_name": "Lambda", "config": settings, "module": "keras.layers"}
        layer["registered_name"] = None
        return keras.saving.deserialize_keras_object(layer)

    def _make_sequential(self, config):
        entries = config if isinstance(config, list) else config["layers"]
        settings = config if isinstance(config, dict) else {}
        model = keras.Sequential(name=settings.get("name"))
        self.parts[id(model)] = []
        for number, entry in enumerate(entries):
            if entry["class_name"] == "InputLayer":
                model.add(make_input(entry))
                continue
            layer = self.make(entry)
            if not number:
                self._add_input(model, entry, layer)
            model.add(layer)
            self.parts[id(model)].append(Part(entry["class_name"], layer.name, layer))
        if not model.built and settings.get("build_input_shape"):
            model.build(tuple(settings["build_input_shape"]))
        return model

    def _add_input(self, model, entry, first_layer):
        """Give a model without an InputLayer the input that its first layer describes, if any."""
        if entry["config"] and "batch_input_shape" in entry["config"]:
            model.add(make_input(entry | {"config": entry["config"] | {"name": None}}))
        elif isinstance(first_layer, keras.Model) and first_layer.built:
            model.add(keras.Input(batch_shape=first_layer.inputs[0].shape))

    def _make_functional(self, config):
        entries = config["layers"]
        inputs = {e["name"]: make_input(e) for e in entries if e["class_name"] == "InputLayer"}
        graph, parts = Graph(inputs), []
        for entry in entries:
            if entry["class_name"] != "InputLayer":
                layer = self.make(entry)
                graph.add(entry["name"], layer, entry["inbound_nodes"])
                parts.append(Part(entry["class_name"], entry["name"], layer))
        graph.call_layers()
        inputs, outputs = graph.ends(config["input_layers"]), graph.ends(config["output_layers"])
        model = keras.Model(inputs, outputs, name=config["name"].replace("/", "_"))
        self.parts[id(model)] = parts
        return model
