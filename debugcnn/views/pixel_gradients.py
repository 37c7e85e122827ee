"""View 3, pixel by pixel: the gradient of a class's logit by the photo itself."""

import numpy as np
import tensorflow as tf

from .heatmaps import checked_targets, predicted_class, targets_of
from .predictions import choose_output, class_logits, classifier_head, logits_of
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
GUIDED = {name: f"VisualizeGuided{name}" for name in RELUS}
for _name, _back in RELUS.items():
    tf.RegisterGradient(GUIDED[_name])(lambda op, g, back=_back: back(op, tf.nn.relu(g)))


def smooth_grad(
    model, images, target=None, samples=24, noise=0.15, value_range=(0, 255), output=None, seed=0
):
    """How strongly each pixel moves the logit, over noisy copies: (n, height, width) float32.

    SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825, section 3): the mean gradient of the class's
    logit over `samples` copies with Gaussian noise, whose standard deviation is `noise` times the
    width of `value_range`; here its size, summed over the colours, in logits by pixel value. It
    tells how sensitive the logit is to a pixel, and not whether the pixel speaks for or against.
    Every photo gets the same noise, drawn with `seed`. `target`, `output` and errors are those of
    `grad_cam`; ValueError also for a model that takes whole numbers.
    """
    images, targets = _prepared(model, images, target, output)
    at_least_one(samples=samples)
    low, high = limits(value_range)
    rng = np.random.default_rng(seed)
    total = 0
    for _ in range(samples):
        noisy = images + noise * (high - low) * rng.normal(size=images.shape[1:]).astype("f4")
        total += _gradients(model, noisy.astype(np.float32), targets, output)
    return np.abs(total / samples).sum(-1)


def integrated_gradients(
    model, images, target=None, steps=24, baseline=None, value_range=(0, 255), output=None
):
    """What each pixel adds to the logit on the way from a baseline: (n, height, width) float32.

    Integrated gradients (Sundararajan et al., ICML 2017, arXiv:1703.01365, section 3): the mean
    gradient of the class's logit at `steps` places on the straight line from `baseline` to the
    photo (in the middle of each of as many intervals), times the photo less the baseline, summed
    over the colours. So the values of a photo add up to its logit less that of the baseline, the
    better the more steps. `baseline` is a value or pictures that fit `images`; None is the middle
    of `value_range`, grey. `target`, `output` and errors are those of `grad_cam`; ValueError also
    for a model that takes whole numbers.
    """
    images, targets = _prepared(model, images, target, output)
    at_least_one(steps=steps)
    baseline = baseline_fill(images, baseline, value_range)
    total = 0
    for step in range(steps):
        between = baseline + np.float32((step + 0.5) / steps) * (images - baseline)
        total += _gradients(model, between, targets, output)
    return ((images - baseline) * total / steps).sum(-1)


def guided_backpropagation(model, images, target=None, output=None):
    """A gradient that keeps what is above zero at each ReLU: (n, height, width) float32.

    Guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806, section 3.4), its size summed
    over the colours. Sharp, and a warning: it notices late what the last layers have lost (Adebayo
    et al. 2018, arXiv:1810.03292). `target`, `output` and errors are those of `grad_cam`;
    ValueError also for a model without any of the operations Elu, LeakyRelu, Relu, Relu6 and Selu.
    """
    images = check_images(model, images)
    check_gradient(model)
    predicted = target is None  # and found in the same run
    target = checked_targets(
        0 if predicted else target, len(images), classifier_head(model, output).classes
    )
    images = images.astype(np.float32)
    return np.abs(_gradients(model, images, target, output, True, predicted)).sum(-1)


def baseline_fill(images, baseline, value_range):
    """What stands where a photo is taken away, a float32 array that broadcasts to `images`: the
    middle of `value_range`, or `baseline`. Raises ValueError if that does not fit `images`.
    """
    if baseline is None:
        return np.float32(np.mean(limits(value_range), axis=0))
    baseline = np.asarray(baseline, np.float32)
    try:
        fits = np.broadcast_shapes(baseline.shape, images.shape) == images.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"baseline is a value or pictures of the shape {images.shape}, not {baseline.shape}."
        )
    return baseline


def at_least_one(**counts):
    """Raises ValueError for a count below one."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is a whole number from 1 up, not {count!r}.")


def _prepared(model, images, target, output):
    images = check_images(model, images)
    check_gradient(model)
    return images.astype(np.float32), targets_of(model, images, target, output)


def _gradients(model, images, targets, output, guided=False, predicted=False):
    """Of the targets' logits by the images: (n, height, width, channels) float32."""

    def gradients(batch, targets_of_batch):
        graph = batch.graph
        with graph.gradient_override_map(GUIDED if guided else {}):
            outputs, _ = record(model, batch)
        if guided and not any(op.type in RELUS for op in graph.get_operations()):
            raise ValueError(
                f"Model {model.name!r} has no ReLU, so that guided backpropagation would be a "
                "plain gradient: use smooth_grad."
            )
        answer = choose_output(model, outputs, output)
        logits, head, _ = logits_of(answer)
        if predicted:
            targets_of_batch = predicted_class(answer, logits, head)
        logits = class_logits(logits)
        # A pixel of 0 to 255 moves the logit too little for float16, so many steps are counted.
        logit = SCALE * tf.gather(logits, targets_of_batch, batch_dims=1)
        found = tf.gradients(logit, batch)[0]
        if found is None:
            raise ValueError(f"No gradient of model {model.name!r} reaches the image.")
        return found / SCALE

    key = _gradients, output, guided, predicted
    return in_batches(gradients, images, targets, keep=(model, key))
