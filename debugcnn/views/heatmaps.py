"""View 3: the evidence for a class at each position of a layer's activation maps."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .activations import convolution_ends
from .axes import as_map, map_of
from .last_map import last_map
from .methods import Layer, Output, Target, ValueRange, method
from .predictions import adds_up, choose_output, class_logits, classifier_head, logits_of
from .receptive_fields import trace_axes
from .targets import checked_targets, predicted_class, target_logits
from .tracing import check_images, find, in_batches, layer_key, record

Combine = Callable[[tf.Tensor, tf.Tensor], Any]  # of activation maps and gradients


def _earlier_layer(model, images):
    """The last convolution but one, where the gradients still differ from position to position."""
    return convolution_ends(model)[-2:][0]


def evidence(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    output: Output = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What Grad-CAM combines: a layer's activation maps, and the gradients of the class's logit
    with respect to them.

    Both are (n, h, w, channels) float32, of the layer's own size. Parameters and errors are those
    of `grad_cam`.
    """
    return combine_evidence(_both, model, images, target, layer, output)


def _both(maps, gradients):
    return maps, gradients


@method("Grad-CAM", paper="Selvaraju et al., ICCV 2017, arXiv:1610.02391, section 3")
def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
) -> np.ndarray:
    """The evidence for a class in a layer's maps: (n, height, width) float32, as large as `images`.

    Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391, section 3): the sum of the layer's
    activation maps, each weighted by the mean gradient of the class's logit with respect to it,
    ReLU, upsampled bilinearly. The values are parts of the logit and are not scaled, so classes and
    images can be compared; without evidence for the class a heatmap is zero.

    `images` are (n, height, width, channels), uint8 or float, with the values that the model takes.
    `target` is a class, one class for each image, or None for the predicted classes. A model with
    one unit has the classes 0 and 1, whose logits are minus and plus the unit's. The gradient is
    that of the logit: a sigmoid or softmax is skipped, also where something follows it, so a
    saturated prediction has evidence, too. `layer` is a layer or its name, also from inside a
    nested model; None is `default_layer`. `value_range` makes no difference here: it is one of the
    parameters that all heatmap methods share. `output` chooses one of several outputs, by name or
    number.

    Raises ValueError for a class that the model does not have, a layer without a map or without
    effect on the prediction, and images of another shape than the model's.

    >>> import debugcnn, keras, numpy as np
    >>> inputs = keras.Input((8, 8, 1))
    >>> maps = keras.layers.Conv2D(1, 1, kernel_initializer="ones", name="same")(inputs)
    >>> mean = keras.layers.GlobalAveragePooling2D()(maps)
    >>> model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(mean))
    >>> images = np.zeros((1, 8, 8, 1))
    >>> images[:, 2, 5] = 64
    >>> heatmaps = debugcnn.grad_cam(model, images, target=1)
    >>> heatmaps.shape, float(heatmaps.sum())  # the logit is the mean of the pixels
    ((1, 8, 8), 1.0)
    """
    return evidence_heatmap(_grad_cam, model, images, target, layer, output)


def _grad_cam(maps, gradients):
    weights = tf.reduce_mean(gradients, (1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * maps, -1))


@method(
    "HiResCAM, a layer earlier",
    paper="Draelos and Carin 2020, arXiv:2011.08891, section 3.3",
    layer=_earlier_layer,
)
def hires_cam(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
) -> np.ndarray:
    """Grad-CAM with a gradient for each position: (n, height, width) float32.

    HiResCAM (Draelos and Carin 2020, arXiv:2011.08891, section 3.3): activations times gradients,
    summed over the channels, ReLU, upsampled bilinearly. Before the ReLU, the sum over all
    positions is the logit wherever the rest of the model is linear without a bias. Parameters,
    units and errors are those of `grad_cam`; the two are the same where only a mean and a dense
    layer follow.
    """
    return evidence_heatmap(_hires_cam, model, images, target, layer, output)


def _hires_cam(maps, gradients):
    return tf.nn.relu(tf.reduce_sum(gradients * maps, -1))


@method("Grad-CAM++", paper="Chattopadhay et al., WACV 2018, arXiv:1710.11063, section 3.2")
def grad_cam_plus_plus(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
) -> np.ndarray:
    """Grad-CAM with weights from the positive gradients only: (n, height, width) float32.

    Grad-CAM++ (Chattopadhay et al., WACV 2018, arXiv:1710.11063, section 3.2): the weight of a map
    is the sum of its gradients g above zero, each times a = g^2 / (2 g^2 + g^3 sum(map)), where a
    follows from the derivatives of the exponential of the logit. The exponential itself, one factor
    for a whole image, is left out. Parameters and errors are those of `grad_cam`; the values have
    no unit.
    """
    return evidence_heatmap(_grad_cam_plus_plus, model, images, target, layer, output)


def _grad_cam_plus_plus(maps, gradients):
    total = tf.reduce_sum(maps, (1, 2), keepdims=True)
    # The fraction is reduced by g^2, which would underflow for a small gradient.
    alpha = tf.math.divide_no_nan(1.0, 2 + gradients * total)
    weights = tf.reduce_sum(alpha * tf.nn.relu(gradients), (1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * maps, -1))


@method(
    "LayerCAM, a layer earlier",
    paper="Jiang et al., IEEE TIP 2021, doi:10.1109/TIP.2021.3089943, section III-B",
    layer=_earlier_layer,
)
def layer_cam(
    model: keras.Model,
    images: np.ndarray,
    target: Target = None,
    *,
    layer: Layer = None,
    value_range: ValueRange = (0, 255),
    output: Output = None,
) -> np.ndarray:
    """HiResCAM with the gradients above zero only: (n, height, width) float32.

    LayerCAM (Jiang et al., IEEE Transactions on Image Processing 2021,
    doi:10.1109/TIP.2021.3089943, section III-B). Parameters, units and errors are those of
    `grad_cam`.
    """
    return evidence_heatmap(_layer_cam, model, images, target, layer, output)


def _layer_cam(maps, gradients):
    return tf.nn.relu(tf.reduce_sum(tf.nn.relu(gradients) * maps, -1))


def evidence_heatmap(
    combine: Combine,
    model: keras.Model,
    images: np.ndarray,
    target: Target,
    layer: Layer,
    output: Output,
) -> np.ndarray:
    """`combine_evidence` of a function that returns (n, h, w), upsampled to the size of `images`:
    (n, height, width) float32.
    """
    heatmaps = combine_evidence(combine, model, images, target, layer, output)
    return tf.image.resize(heatmaps[..., None], np.shape(images)[1:3])[..., 0].numpy()


def combine_evidence(
    combine: Combine,
    model: keras.Model,
    images: np.ndarray,
    target: Target,
    layer: Layer,
    output: Output,
) -> Any:
    """`combine` of a layer's activation maps and gradients, tensors (n, h, w, channels) of float32.

    The gradients are those of the class's logit with respect to the maps. `combine` is compiled and
    kept with the model, so it should be a function of a module. The other parameters and errors are
    those of `grad_cam`.
    """
    images = check_images(model, images)
    predicted = target is None
    classes = classifier_head(model, output).classes
    targets = checked_targets(0 if predicted else target, len(images), classes)
    index = None if layer is None else find(model, layer)

    def combined(batch, targets_of_batch):
        outputs, runs = record(model, batch)
        prediction = choose_output(model, outputs, output)
        if index is None:
            tensor, place, name = last_map(model, batch, runs, prediction)
        else:
            tensor, name = runs[index].output, runs[index].name
            place = map_of(trace_axes(batch.graph, batch, runs)[tensor.name])
        logits, head, _ = logits_of(prediction)
        if predicted:
            targets_of_batch = predicted_class(prediction, logits, head)
        logits = class_logits(logits)
        # The gradient of one position can be too small for float16, so it is multiplied by how many
        # there are.
        positions = place.rows.size * place.columns.size
        logit = positions * target_logits(logits, targets_of_batch)
        gradients = tf.gradients(logit, tensor)[0]
        if gradients is None:
            raise ValueError(f"Layer {name!r} has no effect on the model's prediction.")
        maps, gradients = (tf.cast(as_map(t, place), tf.float32) for t in (tensor, gradients))
        hidden = head is None and prediction.shape[1] > 1
        hidden_softmax = adds_up(tf.cast(prediction, tf.float32)) & hidden
        return combine(maps, gradients / positions), hidden_softmax

    key = combine, layer_key(layer), predicted, output
    heatmaps, hidden_softmax = in_batches(combined, images, targets, keep=(model, key))
    if hidden_softmax.all():
        raise ValueError(
            f"Model {model.name!r} returns probabilities, but the softmax behind them is hidden, "
            "so confident predictions have no gradient: end the model in a softmax layer."
        )
    return heatmaps
