"""View 3, pixel by pixel: the gradient of a class's logit with respect to the image itself."""

import functools

import cv2
import keras
import numpy as np
import tensorflow as tf

from .baselines import baseline_fill, blurred
from .methods import Baseline, Layer, Output, Target, ValueRange, method
from .predictions import choose_output, class_logits, classifier_head, logits_of
from .targets import checked_targets, predicted_class, target_logits, targets_of
from .tracing import check_gradient, check_images, in_batches, record
from .value_ranges import limits

# What a ReLU passes back of a gradient, by TensorFlow's name of the operation.
RELUS = {
    "Elu": lambda op, g: tf.raw_ops.EluGrad(gradients=g, outputs=op.outputs[0]),
    "LeakyRelu": lambda op, g: tf.raw_ops.LeakyReluGrad(
        gradients=g, features=op.inputs[0], alpha=op.get_attr("alpha")
    ),
    "Relu": lambda op, g: tf.raw_ops.ReluGrad(gradients=g, features=op.outputs[0]),
    "Relu6": lambda op, g: tf.raw_ops.Relu6Grad(gradients=g, features=op.outputs[0]),
    "Selu": lambda op, g: tf.raw_ops.SeluGrad(gradients=g, outputs=op.outputs[0]),
}
SCALE = 128.0  # a power of two, which changes no digit of a number
INTEGRATED_GRADIENTS = "Sundararajan et al., ICML 2017, arXiv:1703.01365, section 3"


@method("guided backpropagation", paper="Springenberg et al. 2015, arXiv:1412.6806, section 3.4")
def guided_backpropagation(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
) -> np.ndarray:
    """A gradient of which each ReLU passes on only what is above zero: (n, height, width) float32.

    Guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806, section 3.4), its absolute
    value summed over the channels. It is sharp, but depends little on the last layers (Adebayo et
    al. 2018, arXiv:1810.03292). `images`, `target` and `output` are those of `grad_cam`; `layer`
    must be None, and `value_range` makes no difference. Raises what `grad_cam` raises, and
    ValueError for a model that takes whole numbers, or has none of the operations Elu, LeakyRelu,
    Relu, Relu6 and Selu.
    """
    check_no_layer(layer)
    images = check_images(model, images)
    check_gradient(model)
    predicted = target is None  # then it is found in the same run
    target = checked_targets(
        0 if predicted else target, len(images), classifier_head(model, output).classes
    )
    images = images.astype(np.float32)
    return np.abs(_gradients(model, images, target, output, True, predicted)).sum(-1)


@method("SmoothGrad", paper="Smilkov et al. 2017, arXiv:1706.03825, section 3", samples=12)
def smooth_grad(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
    samples: int = 24,
    noise: float = 0.15,
    seed: int = 0,
) -> np.ndarray:
    """How strongly the logit depends on each pixel, over noisy copies: (n, height, width) float32.

    SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825, section 3): the mean gradient of the class's
    logit over `samples` copies with Gaussian noise, whose standard deviation is `noise` times the
    width of `value_range`; here its absolute value, summed over the channels, in logits by pixel
    value. It shows how sensitive the logit is to a pixel, and not whether the pixel is evidence for
    or against the class. Every image gets the same noise, drawn with `seed`. `images`, `target` and
    `output` are those of `grad_cam`; `layer` must be None. Raises what `grad_cam` raises, and
    ValueError for a model that takes whole numbers.
    """
    images, targets = _prepared(model, images, target, layer, output)
    at_least_one(samples=samples)
    low, high = limits(value_range)
    rng = np.random.default_rng(seed)
    total = 0
    for _ in range(samples):
        noisy = images + noise * (high - low) * rng.normal(size=images.shape[1:]).astype("f4")
        total += _gradients(model, noisy.astype(np.float32), targets, output)
    return np.abs(total / samples).sum(-1)


@method("integrated gradients", paper=INTEGRATED_GRADIENTS, signed=True, steps=12)
def integrated_gradients(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
    steps: int = 24,
    baseline: Baseline = None,
) -> np.ndarray:
    """What each pixel adds to the logit on the path from a baseline: (n, height, width) float32.

    Integrated gradients (Sundararajan et al., ICML 2017, arXiv:1703.01365, section 3): the mean
    gradient of the class's logit at `steps` points of the straight line from `baseline` to the
    image (in the middle of each of as many intervals), times the image minus the baseline, summed
    over the channels. So the values of an image add up to its logit minus that of the baseline, the
    better the more steps. `baseline` is a value or images that fit `images`; None is the middle of
    `value_range`, grey. `images`, `target` and `output` are those of `grad_cam`; `layer` must be
    None. Raises what `grad_cam` raises, and ValueError for a baseline of another shape and for a
    model that takes whole numbers.

    >>> import debugcnn, keras, numpy as np
    >>> inputs = keras.Input((8, 8, 1))
    >>> model = keras.Sequential(
    ...     [inputs, keras.layers.Flatten(), keras.layers.Dense(1, kernel_initializer="ones")]
    ... )
    >>> images = np.zeros((1, 8, 8, 1))
    >>> images[:, 2, 5] = 64
    >>> heatmaps = debugcnn.integrated_gradients(model, images, target=1, baseline=0)
    >>> heatmaps.shape, float(heatmaps.sum())  # the logit is the sum of the pixels
    ((1, 8, 8), 64.0)
    """
    images, targets = _prepared(model, images, target, layer, output)
    at_least_one(steps=steps)
    baseline = baseline_fill(images, baseline, value_range)
    total = 0
    for step in range(steps):
        between = baseline + np.float32((step + 0.5) / steps) * (images - baseline)
        total += _gradients(model, between, targets, output)
    return ((images - baseline) * total / steps).sum(-1)


@method("integrated gradients from blur", paper=INTEGRATED_GRADIENTS, signed=True, steps=12)
def integrated_gradients_from_blur(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
    steps: int = 24,
) -> np.ndarray:
    """Integrated gradients with the blurred image as the baseline: (n, height, width) float32.

    The heatmap itself is blurred a little (by a 32nd of the shorter side), since single pixels are
    noise. Parameters and errors are those of `integrated_gradients`.
    """
    heatmaps = integrated_gradients(
        model,
        images,
        target,
        layer=layer,
        value_range=value_range,
        output=output,
        steps=steps,
        baseline=blurred(check_images(model, images)),
    )
    return np.stack([cv2.GaussianBlur(h, (0, 0), min(h.shape) / 32) for h in heatmaps])


def at_least_one(**counts: int) -> None:
    """Raises ValueError for a count below one."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is a whole number from 1 up, not {count!r}.")


def check_no_layer(layer: Layer) -> None:
    """Raises ValueError if a method that explains pixels is given a layer."""
    if layer is not None:
        raise ValueError(f"This method explains the pixels themselves: leave layer={layer!r} out.")


def _prepared(model, images, target, layer, output):
    check_no_layer(layer)
    images = check_images(model, images)
    check_gradient(model)
    return images.astype(np.float32), targets_of(model, images, target, output)


@functools.cache
def _guided_relus():
    """Names of the gradients that pass on only what is above zero, by that of the operation."""
    names = {name: f"Guided{name}" for name in RELUS}
    for name, back in RELUS.items():
        tf.RegisterGradient(names[name])(lambda op, g, back=back: back(op, tf.nn.relu(g)))
    return names


def _gradients(model, images, targets, output, guided=False, predicted=False):
    """Of the targets' logits with respect to the images: (n, height, width, channels) float32."""

    def gradients(batch, targets_of_batch):
        graph = batch.graph
        with graph.gradient_override_map(_guided_relus() if guided else {}):
            outputs, _ = record(model, batch)
        if guided and not any(op.type in RELUS for op in graph.get_operations()):
            raise ValueError(
                f"Model {model.name!r} has no ReLU, so guided backpropagation would be a plain "
                "gradient: use smooth_grad."
            )
        prediction = choose_output(model, outputs, output)
        logits, head, _ = logits_of(prediction)
        if predicted:
            targets_of_batch = predicted_class(prediction, logits, head)
        logits = class_logits(logits)
        # The effect of a pixel of 0 to 255 on the logit is too small for float16.
        logit = SCALE * target_logits(logits, targets_of_batch)
        by_pixel = tf.gradients(logit, batch)[0]
        if by_pixel is None:
            raise ValueError(f"No gradient of model {model.name!r} reaches the image.")
        return by_pixel / SCALE

    key = _gradients, output, guided, predicted
    return in_batches(gradients, images, targets, keep=(model, key))
