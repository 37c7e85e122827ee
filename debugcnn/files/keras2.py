"""Models in files of Keras 2 (also as tf.keras and tf_keras), rebuilt in Keras 3.

What a file says of its layers is read, each is made anew as the layer of Keras 3 that computes the
same, and gets its weights. What belongs to training alone is left out where Keras 3 does not have
it. The file itself is only read. What would change an answer raises ValueError.
"""

import inspect
import json
import re
import sys
import zipfile
from collections import Counter

import h5py
import keras
import numpy as np
import tensorflow as tf

RENAMED = {"SyncBatchNormalization": "BatchNormalization", "ThresholdedReLU": "ReLU"}
OF_TRAINING = {"RandomHeight", "RandomWidth"}  # layers that do nothing else, gone from Keras 3
# Settings that Keras 3 does not have and that change no answer.
IDLE = {
    *("adjustment", "bias_constraint", "bias_initializer", "bias_regularizer", "fused"),
    *("implementation", "kernel_constraint", "kernel_initializer", "kernel_regularizer"),
    *("key_shape", "noise_shape", "query_shape", "rng_type", "softmax_robust_masking"),
    *("trainable", "value_shape", "virtual_batch_size"),
}
ONLY = {"groups": 1, "renorm": False}  # the value that Keras 3 computes with
# Operations of TensorFlow that a model may use: none that reaches files or the network.
MODULES = {
    "image": tf.image,
    "keras.activations": keras.activations,
    "linalg": tf.linalg,
    "math": tf.math,
    "nn": tf.nn,
    "signal": tf.signal,
}
FUNCTIONS = {"__operators__.add": tf.add, "compat.v1.transpose": tf.transpose} | {
    name: getattr(tf, name)
    for name in """
    abs argmax argmin broadcast_to cast clip_by_value concat einsum exp expand_dims gather gather_nd
    identity matmul maximum minimum multiply norm one_hot ones_like pad pow range reduce_max
    reduce_mean reduce_min reduce_prod reduce_sum repeat reshape reverse roll round shape sigmoid
    sign slice split sqrt square squeeze stack strided_slice subtract tanh tensordot tile transpose
    unstack where zeros_like
    """.split()  # noqa: SIM905
}


class TFOpLambda(keras.layers.Layer):
    """An operation such as tf.math.subtract, which Keras 2 kept as a layer."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function
        place, _, name = function.rpartition(".")
        known = FUNCTIONS.get(function) or getattr(MODULES.get(place), name, None)
        if function != "__operators__.getitem" and (known is None or name.startswith("_")):
            raise ValueError(f"It uses the operation tf.{function}, which is not known here.")
        self.operation = known

    def call(self, tensors=None, constant=None, **named):
        """`constant` stands in place of the tensors, as in 1 + x, where x is the named y."""
        given = constant if tensors is None else tensors
        if self.operation is None:
            return given[tuple(named["slice_spec"])]
        return self.operation(given, **named)

    def get_config(self):
        return super().get_config() | {"function": self.function}


def load(file, custom_objects=None, safe_mode=True):
    """The model in an open HDF5 file or zip, and what had to be changed, as short texts.

    `custom_objects` are classes and functions by name; `safe_mode` refuses Python code in the file.
    Raises ValueError for what Keras 3 cannot compute, and whatever the readers raise for damage.
    """
    zipped = isinstance(file, zipfile.ZipFile)
    config = file.read("config.json") if zipped else file.attrs["model_config"]
    builder = Builder(safe_mode)
    with keras.saving.custom_object_scope(custom_objects or {}):
        model = builder.make(json.loads(config))
    if not model.built:
        raise ValueError("It does not say how large its images are: save it after a first call.")
    if zipped:
        with file.open("model.weights.h5") as weights, h5py.File(weights) as opened:
            builder.fill_from_zip(model, opened)
    else:
        builder.fill(model, file["model_weights"])
    return model, [f"{kind}: {', '.join(what)}" for kind, what in sorted(builder.changes.items())]


class Builder:
    """Makes layers and models from descriptions, and remembers the order of the descriptions."""

    def __init__(self, safe_mode):
        self.safe_mode = safe_mode
        self.changes = {}  # {class of layers: {what was changed: None}}
        self.parts = {}  # {id of a model: [(class in the file, name in the file, layer), ...]}

    def change(self, kind, what):
        self.changes.setdefault(kind, {})[what] = None

    def make(self, entry):
        """The layer or model that one entry describes."""
        kind, config = entry["class_name"], entry["config"]
        if kind == "Sequential":
            return self.make_sequential(config)
        if kind in {"Functional", "Model"} and "layers" in config:
            return self.make_functional(config)
        custom = keras.saving.get_registered_object(kind)
        name = config["name"]
        if "/" in name:
            self.change("layers with a / in their name", "_ instead of it")
        config = simplified(config) | {"name": name.replace("/", "_")}
        if custom:
            return custom.from_config(config)
        if kind == "Lambda":
            return self.make_lambda(entry["config"])
        if kind in {"TFOpLambda", "SlicingOpLambda"}:
            return TFOpLambda(config["function"], name=config["name"])
        if kind in OF_TRAINING:
            self.change(kind, "left out, since it only acts in training")
            return keras.layers.Identity(name=config["name"])
        return self.make_layer(kind, config)

    def make_layer(self, kind, config):
        applications = sys.modules[keras.applications.ConvNeXtTiny.__module__]
        name = RENAMED.get(kind, kind)
        made = getattr(keras.layers, name, None) or getattr(applications, name, None)
        if not (inspect.isclass(made) and issubclass(made, keras.layers.Layer)):
            raise ValueError(f"Unknown layer: {kind!r}")
        if name != kind:
            self.change(kind, f"now {name}")
        config.pop("batch_input_shape", None)
        if kind == "ThresholdedReLU":
            config["threshold"] = config.pop("theta")
        parameters = inspect.signature(made).parameters
        known = set(parameters)
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            known |= {"name", "trainable", "dtype"}
        if "alpha" in config and "negative_slope" in known:
            config["negative_slope"] = config.pop("alpha")
            self.change(kind, "alpha is negative_slope")
        if isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
            (config["axis"],) = config["axis"]
            self.change(kind, "axis as a number")
        for key in [key for key in config if key not in known]:
            value = config.pop(key)
            if key not in IDLE and not (key in ONLY and ONLY[key] == value):
                raise ValueError(
                    f"Its layer {config['name']!r} ({kind}) has {key} = {value!r}, which Keras 3 "
                    "does not have."
                )
            self.change(kind, f"without {key}")
        return made.from_config(config)

    def make_lambda(self, config):
        function = config["function"]
        if not isinstance(function, str):
            if isinstance(function, dict):
                function = [function["config"][key] for key in ("code", "defaults", "closure")]
            code, defaults, closure = function
            defaults = tuple(defaults) if defaults else None
            function = {"code": code, "defaults": defaults, "closure": closure}
            function = {"class_name": "__lambda__", "config": function}
        known = {"name": config["name"], "function": function}
        known["arguments"] = config.get("arguments") or {}
        known = {"class_name": "Lambda", "config": known, "module": "keras.layers"}
        known["registered_name"] = None
        return keras.saving.deserialize_keras_object(known, safe_mode=self.safe_mode)

    def make_sequential(self, config):
        entries = config if isinstance(config, list) else config["layers"]
        name = config["name"] if isinstance(config, dict) else None
        model, parts = keras.Sequential(name=name), []
        for number, entry in enumerate(entries):
            if entry["class_name"] == "InputLayer":
                model.add(make_input(entry))
                continue
            layer = self.make(entry)
            if not number and entry["config"] and "batch_input_shape" in entry["config"]:
                model.add(make_input(entry | {"config": entry["config"] | {"name": None}}))
            elif not number and isinstance(layer, keras.Model) and layer.built:
                model.add(keras.Input(batch_shape=layer.inputs[0].shape))
            model.add(layer)
            parts.append((entry["class_name"], layer.name, layer))
        if not model.built and isinstance(config, dict) and config.get("build_input_shape"):
            model.build(tuple(config["build_input_shape"]))
        self.parts[id(model)] = parts
        return model

    def make_functional(self, config):
        """Each layer is called as soon as what it is given is there."""
        layers, results, waiting, parts = {}, {}, [], []
        for entry in config["layers"]:
            name = entry["name"]
            if entry["class_name"] == "InputLayer":
                results[name, 0] = [make_input(entry)]
                continue
            layers[name] = self.make(entry)
            parts.append((entry["class_name"], name, layers[name]))
            first = 1 if isinstance(layers[name], keras.Model) else 0  # 0: a model's own graph
            waiting += [(name, n, node) for n, node in enumerate(entry["inbound_nodes"], first)]
        names = {name for name, _ in results} | set(layers)

        def resolved(value):
            """What a call was given, with tensors in place of their addresses."""
            if isinstance(value, list):
                if len(value) == 3 and isinstance(value[0], str) and value[0] in names:
                    return results[value[0], value[1]][value[2]]
                return [resolved(item) for item in value]
            if not isinstance(value, dict):
                return value
            if set(value) == {"start", "stop", "step"}:
                return slice(value["start"], value["stop"], value["step"])
            if value.get("class_name") == "__ellipsis__":
                return ...
            return {key: resolved(item) for key, item in value.items()}

        def arguments(node):
            """[[layer, node, tensor, named], ...], of an operation perhaps the first alone."""
            several = node if isinstance(node[0], list) else [node]
            named = resolved(several[0][3]) if len(several[0]) > 3 else {}
            named.pop("name", None)
            if several[0][0] == "_CONSTANT_VALUE":
                return [], named | {"constant": several[0][2]}
            tensors = [resolved(address[:3]) for address in several]
            return [tensors if len(tensors) > 1 else tensors[0]], named

        while waiting:
            later = []
            for name, number, node in waiting:
                try:
                    given, named = arguments(node)
                except KeyError:
                    later.append((name, number, node))
                else:
                    results[name, number] = keras.tree.flatten(layers[name](*given, **named))
            if len(later) == len(waiting):
                raise ValueError(f"What enters its layer {later[0][0]!r} is missing.")
            waiting = later

        def ends(value):
            if isinstance(value, dict):
                return {key: resolved(item) for key, item in value.items()}
            found = resolved(value)
            return found[0] if isinstance(found, list) and len(found) == 1 else found

        inputs, outputs = (ends(config[f"{end}_layers"]) for end in ("input", "output"))
        model = keras.Model(inputs, outputs, name=config["name"].replace("/", "_"))
        self.parts[id(model)] = parts
        return model

    # --------------------------------------------------------------------------------- weights

    def fill(self, model, group):
        """Set the weights of a model from an HDF5 file, which holds them by layer."""
        for _, name, layer in self.parts[id(model)]:
            names = texts(group[name], "weight_names") if name in group else []
            self.set_weights(layer, [np.asarray(group[name][n]) for n in names])

    def fill_from_zip(self, model, group):
        """The same from a .keras file, whose groups are named and counted by class."""
        counts = Counter()
        for kind, _, layer in self.parts[id(model)]:
            name = snake_case(kind) + (f"_{counts[kind]}" if counts[kind] else "")
            counts[kind] += 1
            place = group["layers"][name]
            if id(layer) in self.parts:
                self.fill_from_zip(layer, place)
                continue
            inner = [key for key in place if place[key].get("vars") and hasattr(layer, key)]
            for key, part in [(None, layer), *((key, getattr(layer, key)) for key in inner)]:
                values = (place[key] if key else place)["vars"]
                own = [np.asarray(values[str(n)]) for n in range(len(values))]
                if own or not inner:
                    self.set_weights(part, own)

    def weights(self, layer):
        """Variables in the order of Keras 2: a model's trainable ones come before the others."""
        if id(layer) not in self.parts:
            return layer.trainable_weights, layer.non_trainable_weights
        pairs = [self.weights(part) for _, _, part in self.parts[id(layer)]]
        return [sum((list(pair[i]) for pair in pairs), []) for i in (0, 1)]

    def set_weights(self, layer, values):
        trainable, others = self.weights(layer)
        # Whole numbers are seeds, and the count of photos that a normalisation was adapted to.
        variables = [v for v in [*trainable, *others] if tf.as_dtype(v.dtype).is_floating]
        values = [value for value in values if value.dtype.kind not in "iu"]
        if [np.size(v) for v in values] != [int(np.prod(v.shape)) for v in variables]:
            raise ValueError(f"The weights of its layer {layer.name!r} do not fit its description.")
        for variable, value in zip(variables, values):
            variable.assign(np.reshape(value, variable.shape))
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def make_input(entry):
    config = entry["config"]
    shape = config.get("batch_input_shape") or config["batch_shape"]
    dtype = simplified(config.get("dtype"))
    return keras.Input(batch_shape=tuple(shape), dtype=dtype, name=config.get("name"))


def simplified(value):
    """A description without the modules of Keras 2, and with the settings that Keras 3 writes."""
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


def snake_case(name):
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def texts(group, name):
    """A list of names; HDF5 keeps a long one in several parts."""
    parts = [group.attrs[name]] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{name}{len(parts)}"])
    return [n.decode() if isinstance(n, bytes) else n for part in parts for n in part]
