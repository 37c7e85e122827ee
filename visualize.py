"""Three views of a convolutional network: activations, filter patterns and Grad-CAM.

Plain functions on arrays, for any Keras 3 image classifier on the TensorFlow backend. Nothing is
rebuilt: the model runs as it is, in inference mode, and what its layers return is recorded on the
way. So Sequential, functional, subclassed and nested models all work, and none is changed. The
first call compiles, as that of Keras' `predict` does, and later ones on images of that shape reuse
what it compiled.

`images` are always (n, height, width, channels), uint8 or float, with the values that the model
takes. Every function returns NumPy arrays.
"""

import difflib
import io
import os
import threading
import weakref
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import IPython.display
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageOps


@contextmanager
def _quiet():
    """Keep TensorFlow's start-up messages, which it writes past Python, out of notebooks."""
    stderr = os.dup(2)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


with _quiet():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices()  # where a driver has no GPU, it says so here

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
PHOTOS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
BATCH = 32  # photos that run at once
FREE_SIDE = 128  # pixels, for a model that takes images of any size
CANVAS_PIXELS = 2**18  # that are climbed at once
SEEN = 0.05  # of the largest gradient makes a pixel part of the receptive field
MAP_SHARE = 0.1  # of the mean over the map in what filter_patterns raises
COLOUR = 0.15  # part of the contrast in photos that differs between the channels
OPACITY = 0.8  # of the highest heat

# TensorFlow's names of the operations that end a model and a layer.
HEADS = {"Sigmoid", "Softmax", "LogSoftmax"}
ACTIVATIONS = {"Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Softplus", "Sigmoid", "Tanh"}


# ---------------------------------------------------------------------------------- reading files


def load_model(path):
    """The image classifier saved at `path` (.keras or .h5), without its optimizer.

    Raises ValueError, in one sentence, if there is no such file, if it is no Keras model, or if
    the model has no convolution.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no model file {str(path)!r}: give the path of a .keras file.")
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged file can fail anywhere in the readers
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{str(path)!r} cannot be loaded as a Keras model: {reason}") from error
    convolution_layers(model)
    return model


def load_photos(source, size):
    """Photos as (n, height, width, 3) float32, RGB from 0 to 255, and their names (n strings).

    `source` is a folder (the photos directly in it, by name), a file or a list of files. Each
    photo is turned as its Exif tag says and squashed to `size`: an int, or (height, width).
    Raises ValueError if a path is wrong, a file is no photo or a folder holds none.
    """
    if isinstance(source, (str, Path)):
        source = Path(source)
        if source.is_dir():
            files = sorted(file for file in source.iterdir() if file.suffix.lower() in PHOTOS)
            if not files:
                raise ValueError(f"The folder {str(source)!r} holds no photo (.jpg, .png, ...).")
        else:
            files = [source]
    else:
        files = [Path(file) for file in source]
    height, width = np.broadcast_to(size, 2).tolist()
    photos = np.empty((len(files), height, width, 3), np.float32)
    for photo, file in zip(photos, files):
        if not file.is_file():
            raise ValueError(f"There is no photo or folder {str(file)!r}: check the path.")
        try:
            with Image.open(file) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{str(file)!r} cannot be read as a photo.") from error
        photo[:] = upright.resize((width, height), Image.Resampling.BILINEAR)
    return photos, [file.stem for file in files]


# ------------------------------------------------------------------------------ running the model


class Run(NamedTuple):
    """One layer at work: its name, itself, what it was given and what it returned."""

    name: str
    layer: keras.Operation
    input: tf.Tensor
    output: tf.Tensor


class _Stop(BaseException):
    """Ends a run behind the layer of interest; Keras rewrites the message of any Exception."""


_lock = threading.Lock()


def _run(model, images, last=None):
    """Run the model inside a tf.function: its output and a Run per layer, in order of execution.

    With `last`, the run ends behind the Run of that index. So a canvas of any size may enter, even
    where the model's input or the dense layers at its end have a fixed size.
    """
    runs, path, thread = [], [], threading.get_ident()
    call, check = keras.Operation.__call__, keras.Layer._assert_input_compatibility

    def recorded(layer, *args, **kwargs):
        if threading.get_ident() != thread:
            return call(layer, *args, **kwargs)
        path.append(layer.name)
        output = call(layer, *args, **kwargs)
        if layer is not model and tf.is_tensor(output):
            inputs = next(iter((*args, *kwargs.values())))
            runs.append(Run("/".join(path[1:]), layer, inputs, output))
            if len(runs) - 1 == last:
                raise _Stop
        path.pop()
        return output

    with _lock:
        try:
            keras.Operation.__call__ = recorded
            keras.Layer._assert_input_compatibility = lambda layer, inputs: None
            output = model(tf.cast(images, tf.float32), training=False)
        except _Stop:
            output = None
        finally:
            keras.Operation.__call__ = call
            keras.Layer._assert_input_compatibility = check
    # A bare name is enough unless two nested models each have a layer that is called so.
    names = Counter(name for name, _ in {(run.layer.name, id(run.layer)) for run in runs})
    return output, [
        run._replace(name=run.layer.name) if names[run.layer.name] == 1 else run for run in runs
    ]


def _has_map(run):
    return run.output.shape.rank == 4 and tuple(run.output.shape[1:3]) != (1, 1)


def _find(runs, layer):
    """Index of the last run of a layer with a map, given as itself, its name or None for any."""
    maps = [i for i, run in enumerate(runs) if _has_map(run)]
    if not maps:
        raise ValueError("No layer of the model returns a map: give a convolutional network.")
    if layer is None:
        return maps[-1]
    fits = [i for i, run in enumerate(runs) if layer is run.layer or layer == run.name]
    if not fits:
        name = getattr(layer, "name", layer)
        near = difflib.get_close_matches(str(name), {runs[i].name for i in maps}, n=3, cutoff=0)
        raise ValueError(f"No layer {name!r} runs in the model: did you mean {' or '.join(near)}?")
    if fits[-1] not in maps:
        raise ValueError(
            f"Layer {runs[fits[-1]].name!r} returns no map but the shape "
            f"{tuple(runs[fits[-1]].output.shape)}: choose a layer before the global pooling."
        )
    return fits[-1]


def _source(tensor):
    while tensor.op.type in {"Cast", "Identity"}:
        tensor = tensor.op.inputs[0]
    return tensor


def _before(output, operations):
    """What went into the last operation if that is one of `operations`, else `output`."""
    source = _source(output)
    return source.op.inputs[0] if source.op.type in operations else output


def _own_shape(model):
    """(height, width, channels) that the model was built for, None where it takes any size."""
    shape = getattr(model, "input_shape", None)
    if shape is None:  # a subclassed model remembers the images that it was built on
        shape = (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, (tuple, list)) or len(shape) != 4:
        raise ValueError(
            f"Model {model.name!r} takes inputs of the shape {shape}, but images are (n, height, "
            "width, channels): give an image classifier, built by a first call."
        )
    return shape[1:]


def _free_shape(model):
    return [side or FREE_SIDE for side in _own_shape(model)]


def _survey(model):
    """The Runs on images of the model's own size, to look up layers before there is an image."""
    runs = []
    survey = tf.function(lambda images: runs.extend(_run(model, images)[1]), autograph=False)
    survey.get_concrete_function(tf.TensorSpec((None, *_free_shape(model))))
    return runs


def _check(model, images, any_size=False):
    """`images` as an array that fits the model, which is built on them if it never ran."""
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or images.dtype.kind not in "iuf":
        raise ValueError(
            f"Images are numbers of the shape (n, height, width, channels), not {images.dtype} of "
            f"the shape {images.shape}: a single photo is the batch photo[None]."
        )
    if not model.built:
        model(images[:1].astype(np.float32), training=False)
    own = _own_shape(model)
    if any_size or not hasattr(model, "input_shape"):
        own = (None, None, own[2])
    if any(side not in (None, given) for side, given in zip(own, images.shape[1:])):
        raise ValueError(
            f"The images have the shape {images.shape}, but model {model.name!r} takes (n, "
            f"{', '.join('any' if side is None else str(side) for side in own)}): resize them."
        )
    return images


_compiled = weakref.WeakKeyDictionary()


def _in_batches(function, *arrays, batch=None, keep=None):
    """Compile `function` and run it on BATCH rows of the arrays at a time, which bounds memory.

    `keep` is (model, name of the function and all else that it depends on): it is compiled once.
    """
    batch = batch or BATCH
    signature = [tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays]
    model, key = keep or (None, None)
    kept = _kept(model) if keep else {}
    key = key, tuple(signature)
    if key not in kept:
        compiled = tf.function(function, autograph=False)
        kept[key] = compiled.get_concrete_function(*signature)
    parts = [
        kept[key](*(tf.constant(array[start : start + batch]) for array in arrays))
        for start in range(0, len(arrays[0]), batch)
    ]
    return tf.nest.map_structure(lambda *part: np.concatenate(part), *parts)


def _kept(model):
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


def _key(layer):
    return layer if isinstance(layer, keras.Layer) else str(layer)


# ------------------------------------------------------------------------------------- activations


def convolution_layers(model):
    """Names of the convolution layers that return a map, in order of execution.

    Raises ValueError if there is none.
    """
    runs = [run for run in _survey(model) if isinstance(run.layer, CONVOLUTIONS) and _has_map(run)]
    if not runs:
        raise ValueError(f"Model {model.name!r} has no convolution layer that returns a map.")
    return list(dict.fromkeys(run.name for run in runs))


def activations(model, images, layers=None):
    """What layers return for `images`: {layer name: (n, height, width, channels) float32}.

    `layers` is a list of layers or their names, also from inside a nested model; None takes every
    convolution and pooling layer that returns a map, in order of execution. A layer that runs more
    than once in the model counts with its last run. Raises ValueError for a layer without a map.
    """
    images = _check(model, images)
    layers = None if layers is None else tuple(layers)

    def maps(batch):
        _, runs = _run(model, batch)
        if layers is None:
            kinds = CONVOLUTIONS + POOLINGS
            chosen = [run for run in runs if isinstance(run.layer, kinds) and _has_map(run)]
            if not chosen:
                raise ValueError(f"Model {model.name!r} has no convolution that returns a map.")
        else:
            chosen = [runs[_find(runs, layer)] for layer in layers]
        return {run.name: tf.cast(run.output, tf.float32) for run in chosen}

    key = "activations", layers and tuple(map(_key, layers))
    return _in_batches(maps, images, keep=(model, key))


# ----------------------------------------------------------------------------------------- filters


def objective(model, layer):
    """In words, the numbers that `responses` reads and `filter_patterns` raises for a layer."""
    runs = _survey(model)
    index = _climbed(runs, layer)
    before = _before(runs[index].output, ACTIVATIONS) is not runs[index].output
    return f"{runs[index].name} before its activation" if before else runs[index].name


def _climbed(runs, layer):
    """Index of the run whose output, before an activation, is what the next layer sees.

    That is the normalisation behind a convolution if the convolution itself has no activation:
    where its scale is negative, the next layer sees the filter turned round.
    """
    index = _find(runs, layer)
    output = runs[index].output
    if _before(output, ACTIVATIONS) is output:
        for later in range(index + 1, len(runs)):
            normalises = isinstance(runs[later].layer, NORMALISATIONS)
            if normalises and _source(runs[later].input) is _source(output):
                return later
    return index


def _maps(model, images, index):
    """(n, h, w, filters) of run `index` before its activation; the model stops there."""
    _, runs = _run(model, images, last=index)
    return tf.cast(_before(runs[index].output, ACTIVATIONS), tf.float32)


def responses(model, images, layer):
    """How strongly each filter of a layer responds to each image: (n, filters) float32.

    This is the maximum over the map of what `objective` names: the sum before the activation, after
    the normalisation. Images may be of another size than the model's own.
    """
    images = _check(model, images, any_size=True)
    index = _climbed(_survey(model), layer)

    def highest(batch):
        return tf.reduce_max(_maps(model, batch, index), (1, 2))

    return _in_batches(highest, images, keep=(model, ("responses", index)))


def receptive_field(model, layer, value_range=(0, 255)):
    """Pixels that a unit of a layer looks at, and pixels from one unit to the next: two ints.

    Measured on noise within `value_range`: the side of the square that holds every pixel by which
    the middle unit has at least 5 % of its largest gradient. What lies further out belongs to the
    field in theory, but hardly counts (Luo et al., NeurIPS 2016, arXiv:1701.04128).
    """
    runs = _survey(model)
    before, after, stride = _field(model, runs, _climbed(runs, layer), value_range)
    return before + after, stride


def _field(model, runs, index, value_range):
    """Pixels that a unit looks at before and from its index times the stride, and the stride."""
    own = _free_shape(model)
    noise = np.random.default_rng(0).uniform(*value_range, (4, *own)).astype(np.float32)
    units = np.array(runs[index].output.shape[1:3])
    stride = max(1, round(own[0] / units[0]))

    def by_pixels(images):
        middle = _maps(model, images, index)[:, units[0] // 2, units[1] // 2]
        return tf.gradients(middle, images)[0]

    strength = np.abs(_in_batches(by_pixels, noise)).mean((0, 3))
    seen = np.argwhere(strength >= SEEN * strength.max()) - units // 2 * stride
    return int(-seen.min()), int(seen.max() + 1), stride


def filter_patterns(
    model,
    layer,
    filters=None,
    steps=24,
    step_size=0.16,
    jitter=8,
    decorrelate=True,
    seed=0,
    value_range=(0, 255),
):
    """The image that each filter of a layer responds to most, by gradient ascent on the pixels.

    Returns the images, (k, height, width, channels) float32 within `value_range` (the lowest and
    the highest value that the model takes), and the `responses` that they reach, (k,) float32.
    `filters` are k indices; None takes all filters of the layer. The images are as large as the
    receptive field, rounded up to whole strides, or as the model's own images if that is less.

    The ascent raises what `objective` names, in the middle unit and a little in the whole map.
    Each step is the gradient divided by its standard deviation. Two cures keep noise out (Olah et
    al., Feature Visualization, Distill 2017, doi:10.23915/distill.00007): at each step the canvas
    is rolled by up to `jitter` pixels (an eighth of the receptive field at most, and ever less
    towards the last step), and the gradient is decorrelated, that is, weighted like the frequencies
    and colours of photos. Plain ascent is jitter=0, decorrelate=False.

    Raises ValueError for a layer without a map or a filter that it has not.
    """
    runs = _survey(model)
    index = _climbed(runs, layer)
    count = runs[index].output.shape[-1]
    filters = np.arange(count) if filters is None else np.asarray(filters)
    if filters.ndim != 1 or not np.isin(filters, np.arange(count)).all():
        raise ValueError(f"Layer {layer!r} has the filters 0 to {count - 1}, not {filters}.")
    before, after, stride = _field(model, runs, index, value_range)
    jitter = min(jitter, round((before + after) / 8))
    unit = -(-before // stride)  # the first one whose field begins inside the canvas
    own = _free_shape(model)
    height, width = (min(side, (unit - -after // stride) * stride) for side in own[:2])
    low, high = (np.float32(value) for value in value_range)

    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((1, height, width, own[2])).astype(np.float32)
    calm = np.linspace(1, 0, steps)[:, None]
    shifts = tf.constant(np.rint(rng.uniform(-jitter, jitter, (steps, 2)) * calm).astype(np.int32))

    def to_image(latent):
        return low + (high - low) * tf.sigmoid(latent)

    def ascend(chosen):
        def step(number, latent):
            rolled = tf.roll(to_image(latent), shifts[number], (1, 2))
            maps = _maps(model, rolled, index)
            goal = maps[:, min(unit, maps.shape[1] - 1), min(unit, maps.shape[2] - 1)]
            goal += MAP_SHARE * tf.reduce_mean(maps, (1, 2))
            gradient = tf.gradients(tf.gather(goal, chosen, batch_dims=1), latent)[0]
            if decorrelate:
                gradient = _like_photos(gradient)
            spread = tf.math.reduce_std(gradient, (1, 2, 3), keepdims=True)
            return number + 1, latent + step_size * tf.math.divide_no_nan(gradient, spread)

        start = tf.repeat(0.1 * noise, tf.shape(chosen)[0], axis=0)
        _, latent = tf.while_loop(lambda number, _: number < steps, step, (0, start))
        images = to_image(latent)
        reached = tf.reduce_max(_maps(model, images, index), (1, 2))
        return images, tf.gather(reached, chosen, batch_dims=1)

    batch = max(1, CANVAS_PIXELS // (height * width))
    return _in_batches(ascend, filters.astype(np.int32), batch=batch)


def _like_photos(gradient):
    """A gradient weighted like photos: by 1 / frequency, and most of it alike in all colours."""
    height, width = gradient.shape[1:3]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    weight = 1 / np.maximum(frequency, 1 / max(height, width))
    spectrum = tf.signal.rfft2d(tf.transpose(gradient, (0, 3, 1, 2)))
    smooth = tf.signal.irfft2d(spectrum * weight.astype(np.complex64), (height, width))
    smooth = tf.transpose(smooth, (0, 2, 3, 1))
    return COLOUR * smooth + (1 - COLOUR) * tf.reduce_mean(smooth, -1, keepdims=True)


# ---------------------------------------------------------------------------------------- Grad-CAM


def evidence(model, images, target=None, layer=None):
    """What Grad-CAM combines: a layer's maps and the gradients of the class's logit by them.

    Both are (n, h, w, channels) float32, of the layer's own size. Parameters and errors are those
    of `grad_cam`.
    """

    def both(maps, gradients):
        return maps, gradients

    return _evidence(model, images, target, layer, both)


def grad_cam(model, images, target=None, layer=None):
    """Where a layer sees evidence for a class: (n, height, width) float32, as large as `images`.

    Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391, section 3): the layer's maps, each
    weighted by the mean gradient of the class's logit by it, summed, ReLU, upsampled bilinearly.
    The values are shares of the logit and are not scaled, so that classes and photos can be
    compared; where a photo holds no evidence for the class, its heatmap is zero.

    `target` is a class, one class per photo, or None for the predicted class of each. A model with
    one output has the classes 0 and 1, whose logits are minus and plus the output's. A sigmoid or
    softmax at the end is left out, so a sure answer has evidence too. `layer` is a layer or its
    name, also from inside a nested model; None is the last one that returns a map, which feeds the
    global pooling or the Flatten layer.

    Raises ValueError for a class that the model has not, a layer without a map or without effect
    on the answer, and images of a wrong shape.
    """
    size = np.shape(images)[1:3]

    def heatmaps(maps, gradients):
        weights = tf.reduce_mean(gradients, (1, 2), keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * maps, -1, keepdims=True))
        return tf.image.resize(heat, size)[..., 0]

    return _evidence(model, images, target, layer, heatmaps)


def _evidence(model, images, target, layer, combine):
    images = _check(model, images)
    targets = np.asarray(0 if target is None else target)
    if targets.dtype.kind not in "iu" or targets.shape not in {(), (len(images),)}:
        raise ValueError(
            f"target is a class, one class for each of the {len(images)} images, or None, "
            f"not {target!r}."
        )
    targets = np.broadcast_to(targets, len(images)).astype(np.int32)
    predicted = target is None

    def combined(batch, targets_of_batch):
        output, runs = _run(model, batch)
        run = runs[_find(runs, layer)]
        logits = _logits(output)
        if predicted:
            targets_of_batch = tf.argmax(logits, 1)
        # The gradient by a single unit can be too small for float16, so all units are counted.
        units = run.output.shape[1] * run.output.shape[2]
        chosen = tf.clip_by_value(targets_of_batch, 0, logits.shape[1] - 1)  # checked below
        logit = units * tf.gather(logits, chosen, batch_dims=1)
        gradients = tf.gradients(logit, run.output)[0]
        if gradients is None:
            raise ValueError(f"Layer {run.name!r} has no effect on the model's answer.")
        gradients = tf.cast(gradients, tf.float32) / units
        return combine(tf.cast(run.output, tf.float32), gradients), logits

    key = combine.__name__, _key(layer), predicted
    made, logits = _in_batches(combined, images, targets, keep=(model, key))
    classes = logits.shape[1]
    if not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(f"target {target!r} is no class: the model has 0 to {classes - 1}.")
    return made


def _logits(output):
    """(n, classes): what enters the sigmoid or softmax at the end; for one unit, -x and x."""
    if output.shape.rank != 2:
        raise ValueError(f"The model returns {tuple(output.shape)}, a classifier (n, classes).")
    logits = tf.cast(_before(output, HEADS), tf.float32)
    return tf.concat([-logits, logits], 1) if logits.shape[1] == 1 else logits


def overlay(images, heatmaps, peak=None, value_range=(0, 255)):
    """Photos with heatmaps laid over them: (n, height, width, 3) uint8, RGB.

    `images` are (n, height, width, 1 or 3) within `value_range`; `heatmaps` are (n, h, w) of any
    size, from `grad_cam` or elsewhere. Colours run through matplotlib's inferno, from a value of 0,
    which leaves the photo as it is, to `peak`. None is the highest value in `heatmaps`, so what
    should be compared belongs into one call.
    """
    images, heatmaps = np.asarray(images, np.float32), np.asarray(heatmaps, np.float32)
    low, high = value_range
    photos = (images - low) / (high - low)
    peak = heatmaps.max() if peak is None else peak
    heat = tf.image.resize(heatmaps[..., None], images.shape[1:3]).numpy()
    heat = np.clip(heat / (peak or 1), 0, 1)
    colours = matplotlib.colormaps["inferno"](heat[..., 0])[..., :3]
    mixed = photos + OPACITY * heat * (colours - photos)
    return np.rint(255 * np.clip(mixed, 0, 1)).astype(np.uint8)


def grid(images, titles=None, columns=8, side=1.5, **imshow):
    """A figure of images, (n, h, w, 3) from 0 to 255, or of maps, (n, h, w), row by row.

    `side` is the width of one image in inches; other arguments go to matplotlib's `imshow`.
    """
    rows = -(-len(images) // columns)
    height = side * images[0].shape[0] / images[0].shape[1] + (0.25 if titles is not None else 0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(side * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for i, (axis, image) in enumerate(zip(axes.flat, images)):
        axis.imshow(np.uint8(image) if image.ndim == 3 else image, **imshow)
        if titles is not None:
            axis.set_title(titles[i], fontsize=8)
    return figure


def montage(tiles, side, columns=16, gap=2):
    """One picture of many: tiles (k, h, w) or (k, h, w, 3), each `side` pixels wide, row by row."""
    tiles = np.asarray(tiles, np.float32)
    maps = tiles.ndim == 3
    tiles = tf.image.resize(
        tiles[..., None] if maps else tiles, (side, side), antialias=True
    ).numpy()
    rows, columns = -(-len(tiles) // columns), min(columns, len(tiles))
    background = 0 if maps else 255
    picture = np.full((rows * (side + gap), columns * (side + gap), tiles.shape[3]), background)
    picture = picture.astype(np.float32)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (side + gap), i % columns * (side + gap)
        picture[y : y + side, x : x + side] = tile
    picture = picture[:-gap, :-gap]
    return picture[..., 0] if maps else picture


def show(figure, quality=55):
    """Display a figure of photos in a notebook as a JPEG, a tenth of the size of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="jpeg", dpi=100, pil_kwargs={"quality": quality, "optimize": True})
    plt.close(figure)
    IPython.display.display(IPython.display.Image(file.getvalue(), format="jpeg"))
