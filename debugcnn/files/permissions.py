"""What in the description of a model would run code or read files, before Keras sees it.

Keras resolves any of its public names in a description: as the function of a Lambda layer, as an
activation, as an initializer. Some of these write or download files. Here, only functions that
compute are let through, by their full names.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

import keras

from .load_errors import Unusable

# Functions that compute something from tensors, and nothing else.
COMPUTING = re.compile(
    r"keras\.ops\.([a-z]\w*\.)?[a-z]\w*"
    r"|keras\.activations\.(?!(de)?serialize$|get$)[a-z]\w*"
    r"|keras\.applications\.[a-z]\w*\.preprocess_input"
)
# Where Keras looks up a function of the module "builtins", in this order after activations.
BUILTIN_MODULES = ("constraints", "initializers", "losses", "metrics", "optimizers", "regularizers")
FOREIGN_MODELS = {"TFSMLayer", "TorchModuleWrapper"}  # layers that load another library's model
CODE = "a Lambda layer in it holds Python code, which would run here"
FUNCTION_SETTINGS = ("function", "mask", "output_shape")  # of a Lambda layer


def check_permission(config: Any, custom_objects: Mapping[str, Any] | None = None) -> None:
    """Raises Unusable if the description of a model calls for what only a trusted file may do:

    Python code (a Lambda layer), a function other than those of keras.ops, keras.activations and
    the preprocess_input of keras.applications, a model of another library, a vocabulary in a file.
    What is in `custom_objects` or registered with Keras is the user's own, and allowed.
    """
    for entry in _dicts(config):
        kind = entry.get("class_name")
        if isinstance(kind, str):
            _check_object(entry, kind, custom_objects)
        if isinstance(path := entry.get("vocabulary"), str):
            _refuse(f"a layer in it reads its vocabulary from the file {path!r}")


def _check_object(entry, kind, custom_objects):
    config = entry.get("config")
    is_function = kind == "function" and isinstance(config, str)
    name = config if is_function else kind
    if _is_own(name, custom_objects):
        return
    if kind == "__lambda__":
        _refuse(CODE)
    if kind in FOREIGN_MODELS:
        _refuse(f"a layer in it ({kind}) runs the model of another library")
    if kind == "Lambda" and isinstance(config, dict):
        _check_lambda(config, custom_objects)
    if not is_function and _is_own(entry.get("registered_name"), custom_objects):
        return
    if full_name := _refused_name(entry.get("module"), name, is_function):
        _refuse(f"a layer in it calls {full_name}, which may do more than compute")


def _check_lambda(config, custom_objects):
    """A dict in a setting is checked as an object of its own; Keras 2 wrote code as a list."""
    for setting in FUNCTION_SETTINGS:
        value = config.get(setting)
        code = isinstance(value, list) and any(isinstance(item, str) for item in value)
        if code or (isinstance(value, str) and not _is_own(value, custom_objects)):
            _refuse(CODE)


def _refused_name(module, name, is_function):
    """The full name of a function of Keras that needs permission; None if it needs none."""
    if not isinstance(module, str):
        return None  # only objects of the user, or layers by their class, are found without
    if module == "builtins":
        if not is_function or _public(f"keras.activations.{name}"):
            module = "keras.activations"
        else:
            found = [m for m in BUILTIN_MODULES if _public(f"keras.{m}.{name}")]
            module = f"keras.{found[0]}" if found else ""  # "": Keras says what is missing
    full_name = f"{module}.{name}"
    if module.partition(".")[0] != "keras" or COMPUTING.fullmatch(full_name):
        return None
    called = is_function or not inspect.isclass(_public(full_name) or object)
    hidden = any(part.startswith("_") for part in full_name.split("."))
    return full_name if called or hidden else None


def _public(full_name):
    try:
        return reduce(getattr, full_name.split(".")[1:], keras)
    except AttributeError:
        return None


def _is_own(name, custom_objects):
    """Whether Keras looks up a name among what the user gave or registered."""
    registered = keras.saving.get_registered_object
    return isinstance(name, str) and registered(name, custom_objects) is not None


def _refuse(what):
    raise Unusable(
        f"{what}: if you trust the file, call load_model with safe_mode=False, in YourCNN.ipynb "
        "with TRUST = True."
    )


def _dicts(config: Any) -> Iterator[dict[str, Any]]:
    """Every dict in nested dicts and lists, however deep."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
