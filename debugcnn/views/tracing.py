"""Running a model while every layer's result is recorded, and looking layers up.

Nothing is rebuilt: the model runs as it is, in inference mode, inside a graph, and what its layers
return is recorded on the way. So Sequential, functional, subclassed and nested models all work, and
none is changed. This is the only module that reaches into private parts of Keras and TensorFlow,
because no public interface reports every layer of every kind of model:

- `keras.Operation.__call__` is replaced while a model is traced, to record what each layer returns;
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
from collections.abc import Callable, Hashable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from .axes import Map, as_map, map_of
from .kinds import Role, role_of
from .receptive_fields import trace_axes

BATCH = 32  # images that run at once
FREE_SIDE = 128  # pixels, for a model that takes images of any size
LayerOrName = keras.Operation | str


class Run(NamedTuple):
    """One layer at work."""

    name: str
    layer: keras.Operation
    inputs: tuple[tf.Tensor, ...]
    output: tf.Tensor
    before: tf.Tensor  # what enters its activation: the output, if it has none

    @property
    def input(self) -> tf.Tensor:
        """The first of the inputs."""
        return self.inputs[0]


class LayerFacts(NamedTuple):
    """A layer as it runs in a model, on images of the model's own size."""

    name: str  # the layer's own, or path/name where two nested models have a layer of that name
    kind: str  # the layer's class
    shape: tuple[int | None, ...]  # of its output, without the batch
    parameters: int
    receptive_field: float | None  # side in pixels, in theory; None: the layer returns no map
    stride: float | None  # pixels from one position of the map to the next
    role: Role | None  # in the table of views/kinds.py


class Entry(NamedTuple):
    """What `survey` keeps of a Run, without its tensors."""

    name: str
    layer: Callable[[], keras.Operation | None]  # a weak reference
    role: Role | None
    shape: tuple[int | None, ...]
    map: Map | None
    activated: bool  # `before` is not `output`
    objective: int  # index of the run whose `before` the next layer reads


class _Stop(BaseException):
    """Ends a run behind the layer of interest; Keras rewrites the message of any Exception."""


_lock = threading.Lock()
_Function = type(tf.function(lambda: None))


def record(model: keras.Model, images: tf.Tensor, last: int | None = None) -> tuple[Any, list[Run]]:
    """Run the model inside a tf.function: its output and a Run per layer, in order of execution.

    `images` are (n, height, width, channels). With `last`, the run ends behind the Run of that
    index, and the output is None, so a canvas of any size may enter even if the dense layers at the
    model's end need another one.
    """
    runs, path, before_activations = [], [], {}
    thread = threading.get_ident()

    def recorded(layer, *args, **kwargs):
        if threading.get_ident() != thread:
            return call(layer, *args, **kwargs)
        path.append(layer.name)
        before_activations.pop(id(layer), None)
        output = call(layer, *args, **kwargs)
        if layer is not model and tf.is_tensor(output):
            inputs = tuple(filter(tf.is_tensor, tf.nest.flatten((args, kwargs)))) or (output,)
            activates = role_of(layer) == "activation"
            before = inputs[0] if activates else before_activations.get(id(layer), output)
            runs.append(Run("/".join(path[1:]), layer, inputs, output, before))
            if len(runs) - 1 == last:
                raise _Stop
        path.pop()
        return output

    def inlined(function, *args, **kwargs):
        of_keras = function.python_function.__module__.startswith("keras.")
        if threading.get_ident() != thread or of_keras:
            return call_function(function, *args, **kwargs)
        return function.python_function(*args, **kwargs)

    with _lock, _recorded_activations(model, before_activations, thread):
        call, call_function = keras.Operation.__call__, _Function.__call__
        with (
            _replaced(keras.Operation, "__call__", recorded),
            _replaced(keras.Layer, "_assert_input_compatibility", lambda layer, inputs: None),
            _replaced(_Function, "__call__", inlined),
        ):
            try:
                output = model(tf.cast(images, _input_dtype(model)), training=False)
            except _Stop:
                output = None
    # A bare name is enough unless two nested models each have a layer of that name.
    names = Counter(name for name, _ in {(run.layer.name, id(run.layer)) for run in runs})
    return output, [
        run._replace(name=run.layer.name) if names[run.layer.name] == 1 else run for run in runs
    ]


@contextmanager
def _replaced(owner, name, value):
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def _recorded_activations(model, before_activations, thread):
    """Record what enters the activations that convolutions apply themselves: {id(layer): tensor}.

    Attributes are set past `Layer.__setattr__`, which would count them as a change of the model.
    """
    layers = [
        layer
        for layer in all_layers(model)
        if role_of(layer) == "convolution"
        and getattr(layer, "activation", None) not in (None, keras.activations.linear)
    ]

    def recorded(layer, activation):
        def call(tensor, *args, **kwargs):
            if threading.get_ident() == thread:
                before_activations[id(layer)] = tensor
            return activation(tensor, *args, **kwargs)

        return call

    originals = [layer.activation for layer in layers]
    try:
        for layer, activation in zip(layers, originals):
            vars(layer)["activation"] = recorded(layer, activation)
        yield
    finally:
        for layer, activation in zip(layers, originals):
            vars(layer)["activation"] = activation


# ------------------------------------------------------------------------- what a model may be


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """The model, its layers and those of the models inside it."""
    return list(model._flatten_layers())


def check_model(model: object) -> None:
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
    for layer in all_layers(model):
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                f"Layer {layer.name!r} of model {model.name!r} works with the channels first, and "
                "the views need them last: build the model with data_format='channels_last'."
            )


def check_images(model: keras.Model, images: Any, any_size: bool = False) -> np.ndarray:
    """`images` as an array that the model takes, which is built on them if it never ran.

    Raises ValueError, in one sentence, for a model that the views cannot run, for what is no array
    of numbers (n, height, width, channels), and for sizes that the model does not take (with
    `any_size`, only for another number of channels).
    """
    check_model(model)
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or images.dtype.kind not in "iuf":
        raise ValueError(
            f"Images are numbers of the shape (n, height, width, channels), not {images.dtype} of "
            f"the shape {images.shape}: a single image is the batch image[None]."
        )
    if not model.built:
        model(images[:1].astype(np.float32), training=False)
    expected = own_shape(model)
    if any_size or not hasattr(model, "input_shape"):
        expected = (None, None, expected[2])
    if any(side not in (None, size) for side, size in zip(expected, images.shape[1:])):
        raise ValueError(
            f"The images have the shape {images.shape}, but model {model.name!r} takes (n, "
            f"{', '.join('any' if side is None else str(side) for side in expected)}): resize them."
        )
    return images


def check_gradient(model: keras.Model) -> None:
    """Raises ValueError where an image cannot be changed a little, as gradient ascent does."""
    dtype = tf.as_dtype(_input_dtype(model))
    if not dtype.is_floating:
        raise ValueError(
            f"Model {model.name!r} takes whole numbers ({dtype.name}), so that no gradient reaches "
            "the image: rebuild it with keras.Input(..., dtype='float32')."
        )


def own_shape(model: keras.Model) -> tuple[int | None, int | None, int]:
    """(height, width, channels) that the model was built for, None where it takes any size.

    Raises ValueError for a model that takes no images, or is not built.
    """
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


def image_shape(model: keras.Model) -> tuple[int, int, int]:
    """(height, width, channels) of images that the model takes, in pixels.

    Sides that are free are 128 pixels. Raises ValueError for a model that takes no images.
    """
    return tuple(side or FREE_SIDE for side in own_shape(model))


def _input_dtype(model):
    inputs = getattr(model, "inputs", None)
    return inputs[0].dtype if inputs else "float32"


def model_digest(model: keras.Model) -> str:
    """The SHA-256 of a model's weights, in hexadecimal: equal for models that predict alike."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


# ------------------------------------------------------------------------------- compiling once

_compiled = weakref.WeakKeyDictionary()


def in_batches(
    function: Callable[..., Any],
    *arrays: np.ndarray,
    batch: int | None = None,
    keep: tuple[keras.Model, Hashable] | None = None,
) -> Any:
    """Compile `function` and run it on 32 rows (`batch`) of the arrays at a time, to bound memory.

    Returns what `function` returns, as arrays of all rows. `keep` is (model, all that the function
    depends on): then it is compiled once.
    """
    batch = batch or BATCH
    signature = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays)
    model, key = keep or (None, None)
    compiled = compiled_for(model) if keep else {}
    key = key, signature
    if key not in compiled:
        traced = tf.function(function, autograph=False)
        compiled[key] = traced.get_concrete_function(*signature)
    parts = [
        compiled[key](*(tf.constant(array[start : start + batch]) for array in arrays))
        for start in range(0, len(arrays[0]), batch)
    ]
    return tf.nest.map_structure(lambda *part: np.concatenate(part), *parts)


def compiled_for(model: keras.Model) -> dict[Hashable, Any]:
    """What was compiled, or looked up, for the model as it is now: {key: function}.

    It is empty once a layer, an activation, a precision or a variable is another one; what a
    subclassed model decides in Python is not noticed, as in `predict`. It goes with the model,
    which it does not refer to.
    """
    parts = [
        (weakref.ref(layer), getattr(layer, "activation", None), layer.dtype_policy.name)
        for layer in all_layers(model)
    ]
    state = parts, [id(variable) for variable in model.variables]
    state_before, functions = _compiled.get(model, (None, {}))
    if state_before != state:
        functions = {}
        _compiled[model] = state, functions
    return functions


def layer_key(layer: LayerOrName) -> Hashable:
    """What distinguishes a layer in the key of a compiled function."""
    return layer if isinstance(layer, keras.Operation) else str(layer)


def trace(function: Callable[[tf.Tensor], Any], shape: Sequence[int]) -> None:
    """Trace a function of images (n, *shape) without running it; it may keep what it sees."""
    tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec((None, *shape)))


# ---------------------------------------------------------------------------- looking layers up


def survey(model: keras.Model) -> list[Entry]:
    """An Entry per Run on images of the model's own size, in order of execution."""
    check_model(model)
    shape = image_shape(model)
    compiled = compiled_for(model)
    if "survey" not in compiled:
        entries = []

        def look(images):
            _, runs = record(model, images)
            axes = trace_axes(images.graph, images, runs)
            entries.extend(_entry(runs, axes, index) for index in range(len(runs)))

        trace(look, shape)
        compiled["survey"] = entries
    return compiled["survey"]


def _entry(runs, axes, index):
    run = runs[index]
    return Entry(
        run.name,
        weakref.ref(run.layer),
        role_of(run.layer, len(run.inputs)),
        tuple(run.output.shape[1:]),
        map_of(axes.get(run.output.name, ())),
        run.before is not run.output,
        _objective(runs, index),
    )


def _objective(runs, index):
    """Index of the run whose output, before an activation, the next layer reads.

    That is the normalization behind a convolution if the convolution itself has no activation:
    where its scale is negative, the next layer sees the filter with its sign changed.
    """
    if runs[index].before is runs[index].output:
        for later in range(index + 1, len(runs)):
            normalizes = role_of(runs[later].layer) == "normalization"
            if normalizes and source(runs[later].input) is source(runs[index].output):
                return later
    return index


def source(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor that a chain of Cast and Identity passes on."""
    while tensor.op.type in {"Cast", "Identity", "IdentityN"}:
        tensor = tensor.op.inputs[tensor.value_index if tensor.op.type == "IdentityN" else 0]
    return tensor


def has_map(entry: Entry) -> bool:
    """Whether a layer returns a map of more than one position."""
    return entry.map is not None and entry.map.shape != (1, 1)


def find(model: keras.Model, layer: LayerOrName) -> int:
    """Index in `survey` of the last run of a layer with a map, given as itself or by its name.

    Raises ValueError for a layer that does not run in the model, or returns no map.
    """
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
        output = "a map of a single unit" if entries[index].map else "no map but the shape"
        raise ValueError(
            f"Layer {entries[index].name!r} returns {output} {shape}: choose a layer before the "
            "global pooling."
        )
    return index


def layer_table(model: keras.Model) -> list[LayerFacts]:
    """LayerFacts of every layer that runs, in order of execution, on images of the model's size.

    Raises ValueError for a model that the views cannot run.

    >>> import debugcnn, keras
    >>> body = [keras.layers.Conv2D(4, 3, name="a"), keras.layers.Conv2D(2, 5, strides=2, name="b")]
    >>> model = keras.Sequential([keras.Input((12, 16, 3)), *body])
    >>> for layer in debugcnn.layer_table(model):
    ...     print(layer.name, layer.shape, layer.parameters, layer.receptive_field, layer.stride)
    a (10, 14, 4) 112 3 1
    b (3, 5, 2) 202 7 2
    """
    table = []
    for entry in survey(model):
        layer = entry.layer()
        if layer is None:  # an operation that a layer made for this one run
            continue
        parameters = layer.count_params() if isinstance(layer, keras.Layer) else 0
        field = stride = None
        if entry.map:
            lines = entry.map.rows, entry.map.columns
            field, stride = (
                _integer_if_whole(max(getattr(line, name) for line in lines))
                for name in ("field", "stride")
            )
        name, kind = entry.name, type(layer).__name__
        table.append(LayerFacts(name, kind, entry.shape, parameters, field, stride, entry.role))
    return table


def _integer_if_whole(value):
    return int(value) if float(value).is_integer() else float(value)


def maps_of(
    model: keras.Model, images: tf.Tensor, index: int, before: bool = False
) -> tuple[tf.Tensor, Map]:
    """(n, rows, columns, channels) float32 that run `index` returns, and their Map.

    The model stops there. `before` takes what enters the run's activation.
    """
    _, runs = record(model, images, last=index)
    run = runs[index]
    layout = map_of(trace_axes(images.graph, images, runs)[run.output.name])
    return tf.cast(as_map(run.before if before else run.output, layout), tf.float32), layout
