"""Running a model while every layer's result is recorded, and looking layers up.

Nothing is rebuilt: the model runs as it is, in inference mode, inside a graph, and what its layers
return is noted on the way. So Sequential, functional, subclassed and nested models all work, and
none is changed. This is the only place that reaches into private parts of Keras and TensorFlow,
because there is no public one in which every layer of every kind of model can be heard:

- `keras.Operation.__call__` is replaced while a model is traced, to note what each layer returns;
- `keras.Layer._assert_input_compatibility`, since a filter's pattern is drawn on a small canvas
  that the model's own input would refuse;
- `__call__` of a tf.function, since what a layer returns inside a function of its own cannot be
  read outside (but Keras' own functions stay: they hold what only runs when compiled);
- `model._flatten_layers`, the layers of a model with those of the models inside it.
"""

import difflib
import hashlib
import threading
import weakref
from collections import Counter
from contextlib import contextmanager
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from .kinds import CONVOLUTIONS, NORMALISATIONS, is_activation
from .receptive_fields import Map, as_map, map_of, trace_axes

BATCH = 32  # images that run at once
FREE_SIDE = 128  # pixels, for a model that takes images of any size


class Run(NamedTuple):
    """One layer at work: its name, itself, what it was given (the first of several tensors), what
    it returned, and what went into its activation (its output, if it has none).
    """

    name: str
    layer: keras.Operation
    input: tf.Tensor
    output: tf.Tensor
    before: tf.Tensor


class LayerFacts(NamedTuple):
    """A layer as it runs in a model, on images of the model's own size."""

    name: str  # the layer's own, or path/name where two nested models hold one of that name
    kind: str  # the layer's class
    shape: tuple  # of what it returns, without the batch
    parameters: int
    field: int | None  # side in pixels of what a unit of its map sees; None: it returns no map
    stride: int | None  # pixels from one unit to the next


class Entry(NamedTuple):
    """What `survey` keeps of a Run, without its tensors."""

    name: str
    layer: weakref.ref
    shape: tuple
    place: Map | None
    activated: bool  # `before` is not `output`
    objective: int  # index of the run whose `before` the next layer reads


class _Stop(BaseException):
    """Ends a run behind the layer of interest; Keras rewrites the message of any Exception."""


_lock = threading.Lock()
_Function = type(tf.function(lambda: None))


def record(model, images, last=None):
    """Run the model inside a tf.function: its output and a Run per layer, in order of execution.

    With `last`, the run ends behind the Run of that index, and the output is None. So a canvas of
    any size may enter, even where the dense layers at the model's end need another.
    """
    runs, path, befores = [], [], {}
    thread = threading.get_ident()
    call, check, call_function = (
        keras.Operation.__call__,
        keras.Layer._assert_input_compatibility,
        _Function.__call__,
    )

    def recorded(layer, *args, **kwargs):
        if threading.get_ident() != thread:
            return call(layer, *args, **kwargs)
        path.append(layer.name)
        befores.pop(id(layer), None)
        output = call(layer, *args, **kwargs)
        if layer is not model and tf.is_tensor(output):
            inputs = next(filter(tf.is_tensor, tf.nest.flatten((args, kwargs))), output)
            activates = is_activation(layer)
            before = inputs if activates else befores.get(id(layer), output)
            runs.append(Run("/".join(path[1:]), layer, inputs, output, before))
            if len(runs) - 1 == last:
                raise _Stop
        path.pop()
        return output

    def inlined(function, *args, **kwargs):
        own = function.python_function.__module__.startswith("keras.")
        if threading.get_ident() != thread or own:
            return call_function(function, *args, **kwargs)
        return function.python_function(*args, **kwargs)

    with _lock, _heard_activations(model, befores, thread):
        try:
            keras.Operation.__call__ = recorded
            keras.Layer._assert_input_compatibility = lambda layer, inputs: None
            _Function.__call__ = inlined
            output = model(tf.cast(images, _input_dtype(model)), training=False)
        except _Stop:
            output = None
        finally:
            keras.Operation.__call__ = call
            keras.Layer._assert_input_compatibility = check
            _Function.__call__ = call_function
    # A bare name is enough unless two nested models each have a layer that is called so.
    names = Counter(name for name, _ in {(run.layer.name, id(run.layer)) for run in runs})
    return output, [
        run._replace(name=run.layer.name) if names[run.layer.name] == 1 else run for run in runs
    ]


@contextmanager
def _heard_activations(model, befores, thread):
    """Note what enters the activations that convolutions apply themselves: {id(layer): tensor}."""
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, CONVOLUTIONS)
        and layer.activation not in (None, keras.activations.linear)
    ]

    def heard(layer, activation):
        def noted(tensor, *args, **kwargs):
            if threading.get_ident() == thread:
                befores[id(layer)] = tensor
            return activation(tensor, *args, **kwargs)

        return noted

    originals = [layer.activation for layer in layers]
    try:
        for layer, activation in zip(layers, originals):
            vars(layer)["activation"] = heard(layer, activation)
        yield
    finally:
        for layer, activation in zip(layers, originals):
            vars(layer)["activation"] = activation


# ------------------------------------------------------------------------- what a model may be


def check_model(model):
    """Raises ValueError, in one sentence, for a model that the views cannot run."""
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"Keras runs on {keras.config.backend()} here, and the views need TensorFlow: set the "
            "environment variable KERAS_BACKEND to tensorflow before Keras is imported."
        )
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"The model is a {type(model).__module__}.{type(model).__name__}, not a keras.Model of "
            f"Keras 3: load it with debugcnn.load_model."
        )
    if len(getattr(model, "inputs", None) or [1]) != 1:
        raise ValueError(
            f"Model {model.name!r} takes {len(model.inputs)} inputs, and the views give it one "
            "batch of images: wrap it in a keras.Model with the other inputs fixed."
        )
    for layer in model._flatten_layers():
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                f"Layer {layer.name!r} of model {model.name!r} works with the channels first, and "
                "the views need them last: build the model with data_format='channels_last'."
            )


def check_images(model, images, any_size=False):
    """`images` as an array that fits the model, which is built on them if it never ran."""
    check_model(model)
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or images.dtype.kind not in "iuf":
        raise ValueError(
            f"Images are numbers of the shape (n, height, width, channels), not {images.dtype} of "
            f"the shape {images.shape}: a single photo is the batch photo[None]."
        )
    if not model.built:
        model(images[:1].astype(np.float32), training=False)
    own = own_shape(model)
    if any_size or not hasattr(model, "input_shape"):
        own = (None, None, own[2])
    if any(side not in (None, given) for side, given in zip(own, images.shape[1:])):
        raise ValueError(
            f"The images have the shape {images.shape}, but model {model.name!r} takes (n, "
            f"{', '.join('any' if side is None else str(side) for side in own)}): resize them."
        )
    return images


def check_gradient(model):
    """Raises ValueError where an image cannot be changed a little, as gradient ascent does."""
    dtype = tf.as_dtype(_input_dtype(model))
    if not dtype.is_floating:
        raise ValueError(
            f"Model {model.name!r} takes whole numbers ({dtype.name}), so that no gradient reaches "
            "the image: rebuild it with keras.Input(..., dtype='float32')."
        )


def own_shape(model):
    """(height, width, channels) that the model was built for, None where it takes any size."""
    shape = getattr(model, "input_shape", None)
    if shape is None:  # a subclassed model remembers the images that it was built on
        shape = (model.get_build_config() or {}).get("input_shape")
    if isinstance(shape, dict):
        (shape,) = shape.values()
    if isinstance(shape, list) and len(shape) == 1:
        shape = shape[0]
    if not isinstance(shape, (tuple, list)) or len(shape) != 4 or shape[3] is None:
        raise ValueError(
            f"Model {model.name!r} takes inputs of the shape {shape}, but images are (n, height, "
            "width, channels): give an image classifier, built by a first call."
        )
    return tuple(shape[1:])


def image_shape(model):
    """(height, width, channels) of images that the model takes, in pixels."""
    return tuple(side or FREE_SIDE for side in own_shape(model))


def _input_dtype(model):
    inputs = getattr(model, "inputs", None)
    return inputs[0].dtype if inputs else "float32"


# ------------------------------------------------------------------------------- compiling once

_compiled = weakref.WeakKeyDictionary()


def in_batches(function, *arrays, batch=None, keep=None):
    """Compile `function` and run it on BATCH rows of the arrays at a time, which bounds memory.

    `keep` is (model, all that the function depends on): then it is compiled once.
    """
    batch = batch or BATCH
    signature = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays)
    model, key = keep or (None, None)
    kept = kept_for(model) if keep else {}
    key = key, signature
    if key not in kept:
        compiled = tf.function(function, autograph=False)
        kept[key] = compiled.get_concrete_function(*signature)
    parts = [
        kept[key](*(tf.constant(array[start : start + batch]) for array in arrays))
        for start in range(0, len(arrays[0]), batch)
    ]
    return tf.nest.map_structure(lambda *part: np.concatenate(part), *parts)


def kept_for(model):
    """What was compiled for the model as it is now, {key: function}.

    It is empty once a layer, an activation, a precision or a variable is another one; what a
    subclassed model decides in Python is not noticed, as in `predict`. It goes with the model,
    which it does not refer to.
    """
    parts = [
        (weakref.ref(layer), getattr(layer, "activation", None), layer.dtype_policy.name)
        for layer in model._flatten_layers()
    ]
    now = parts, [id(variable) for variable in model.variables]
    was, functions = _compiled.get(model, (None, {}))
    if was != now:
        functions = {}
        _compiled[model] = now, functions
    return functions


def layer_key(layer):
    return layer if isinstance(layer, keras.Operation) else str(layer)


# ---------------------------------------------------------------------------- looking layers up


def survey(model):
    """An Entry per Run on images of the model's own size."""
    check_model(model)
    shape = image_shape(model)
    kept = kept_for(model)
    if "survey" not in kept:
        entries = []

        def look(images):
            _, runs = record(model, images)
            axes = trace_axes(images.graph, images, runs)
            entries.extend(_entry(runs, axes, index) for index in range(len(runs)))

        trace(look, shape)
        kept["survey"] = entries
    return kept["survey"]


def trace(function, shape):
    """Trace a function of images (n, *shape) without running it; it may note what it sees."""
    tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec((None, *shape)))


def _entry(runs, axes, index):
    run = runs[index]
    place = map_of(axes.get(run.output.name, ()))
    return Entry(
        run.name,
        weakref.ref(run.layer),
        tuple(run.output.shape[1:]),
        place,
        run.before is not run.output,
        _objective(runs, index),
    )


def _objective(runs, index):
    """Index of the run whose output, before an activation, is what the next layer sees.

    That is the normalisation behind a convolution if the convolution itself has no activation:
    where its scale is negative, the next layer sees the filter turned round.
    """
    if runs[index].before is runs[index].output:
        for later in range(index + 1, len(runs)):
            normalises = isinstance(runs[later].layer, NORMALISATIONS)
            if normalises and source(runs[later].input) is source(runs[index].output):
                return later
    return index


def source(tensor):
    """The tensor that a chain of Cast and Identity passes on."""
    while tensor.op.type in {"Cast", "Identity", "IdentityN"}:
        tensor = tensor.op.inputs[tensor.value_index if tensor.op.type == "IdentityN" else 0]
    return tensor


def has_map(entry):
    return entry.place is not None and entry.place.shape != (1, 1)


def find(model, layer):
    """Index of the last run of a layer with a map, given as itself or by its name."""
    entries = survey(model)
    fits = [i for i, entry in enumerate(entries) if layer is entry.layer() or layer == entry.name]
    if not fits:
        name = getattr(layer, "name", layer)
        maps = {entry.name for entry in entries if has_map(entry)}
        near = difflib.get_close_matches(str(name), maps, n=3, cutoff=0)
        hint = f": did you mean {' or '.join(near)}?" if near else ", nor does any with a map."
        raise ValueError(f"No layer {name!r} runs in the model{hint}")
    index = fits[-1]
    if not has_map(entries[index]):
        shape = (None, *entries[index].shape)
        what = "a map of a single unit" if entries[index].place else "no map but the shape"
        raise ValueError(
            f"Layer {entries[index].name!r} returns {what} {shape}: choose a layer before the "
            "global pooling."
        )
    return index


def layer_table(model):
    """LayerFacts of every layer that runs, in order of execution, on images of the model's size."""
    facts = []
    for entry in survey(model):
        layer, place = entry.layer(), entry.place
        if layer is None:  # an operation that a layer made for this one run
            continue
        parameters = layer.count_params() if isinstance(layer, keras.Layer) else 0
        field = stride = None
        if place:
            field = float(max(place.rows.field, place.columns.field))
            stride = float(max(place.rows.stride, place.columns.stride))
            field, stride = (int(x) if x.is_integer() else x for x in (field, stride))
        facts.append(
            LayerFacts(entry.name, type(layer).__name__, entry.shape, parameters, field, stride)
        )
    return facts


def maps_of(model, images, index, before=False):
    """(n, rows, columns, channels) float32 that run `index` returns, and their Map.

    The model stops there. `before` takes what enters the run's activation.
    """
    _, runs = record(model, images, last=index)
    return placed(images, runs, index, before)


def placed(images, runs, index, before=False):
    run = runs[index]
    place = map_of(trace_axes(images.graph, images, runs)[run.output.name])
    tensor = run.before if before else run.output
    return tf.cast(as_map(tensor, place), tf.float32), place


def model_digest(model):
    """The SHA-256 of a model's weights, as text: two nets with the same digest answer alike."""
    sums = hashlib.sha256()
    for value in model.get_weights():
        sums.update(f"{value.shape}{value.dtype}".encode())
        sums.update(np.ascontiguousarray(value).tobytes())
    return sums.hexdigest()
