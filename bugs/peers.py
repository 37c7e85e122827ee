"""What others say of the same nets: three published sets of rules, and two libraries for data.

A rule is a function of a `Seen`. It returns the number that made it speak, or None: it is silent,
or it lacks what it needs. Its limit is the published default, under its published name:

- UMLAUT (Schoop, Huang and Hartmann, CHI 2021, doi:10.1145/3411764.3445538): 11 heuristics, from
  github.com/BerkeleyHCI/umlaut, umlaut/heuristics.py and, of high_dropout and final_activation,
  whose checks could not be consulted, the messages in umserver/errors.py.
- SageMaker Debugger: docs.aws.amazon.com/sagemaker/latest/dg/debugger-built-in-rules.html. Left out
  are PoorWeightInitialization, WeightUpdateRatio and UnchangedTensor, which need the weights of
  several steps, TensorVariance, which has no default, and those for time, text and trees.
- AutoTrainer (Zhang, Zhai, Ma and Shen, ICSE 2021): github.com/shiningrain/AUTOTRAINER, utils.py,
  default_param, and monitor.py, to which the rules on data, activation and loss were added later.
- cleanlab 2.9.0 and cleanvision 0.3.7, with the defaults in their own code.

The programs were consulted, not the papers' tables, which may differ. Where a rule is not told in
full, or its program asks for less than its message does, it is read in its favour, as noted there.
"""

import io  # noqa: I001
import warnings
from contextlib import redirect_stderr
from typing import NamedTuple

import visualize  # first, since it keeps TensorFlow's start-up messages quiet
import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from checks import layers as weights
from visualize import recording

STUCK = {"constant_answer", "at_chance"}
LOWER_RATE = STUCK | {"not_finite", "exploding", "dead_filters"}
# The causes to which a rule's advice is a right answer, in the order in which a tool's rules speak.
# Written down before the first run, and generous: a cause counts if the advice helps at all.
RIGHT = {
    "UMLAUT": {
        "nan_in_loss": {"not_finite", "exploding"},
        "missing_softmax": {"output_head"},
        "final_activation": {"output_head"},
        "missing_activation": {"no_activation"},
        "input_exceeds_limits": {"input_scale"},
        "input_not_floating": {"input_scale"},
        "input_shape": {"resize"},
        "learning_rate": LOWER_RATE,
        "high_dropout": STUCK,
        "validation_accuracy": {"leak", "label_noise", "shortcut"},
        "overfitting": {"memorised"},
    },
    "SageMaker Debugger": {
        "exploding_tensor": {"not_finite", "exploding"},
        "all_zero": STUCK | {"dead_filters", "untrained_layer"},
        "dead_relu": STUCK | {"dead_filters"},
        "vanishing_gradient": STUCK | {"dead_filters", "saturated_answer"},
        "saturated_activation": {"saturated_answer", "overconfident", "constant_answer"},
        "check_input_images": {"input_scale"},
        "class_imbalance": {"threshold", "constant_answer"},
        "confusion": STUCK | {"threshold", "class_order"},
        "loss_not_decreasing": LOWER_RATE,
        "overfit": {"memorised"},
        "overtraining": {"memorised", "saturated_answer", "overconfident"},
    },
    "AutoTrainer": {
        "abnormal_data": {"input_scale", "exploding"},
        "improper_activation": {"output_head"},
        "improper_loss": {"output_head"},
        "dying_relu": STUCK | {"dead_filters"},
        "exploding_gradient": {"exploding", "not_finite"},
        "vanishing_gradient": STUCK | {"dead_filters", "saturated_answer"},
        "slow_convergence": STUCK,
        "oscillating_loss": LOWER_RATE,
    },
    "cleanlab and cleanvision": {
        "duplicates": {"leak"},
        "label_issues": {"label_noise", "class_order"},
        "spurious_correlations": {"shortcut"},
    },
}


class Seen(NamedTuple):
    """What the rules look at."""

    model: keras.Model
    images: np.ndarray  # as fed
    labels: np.ndarray
    photos: np.ndarray  # uint8, as are the photos of `train`
    train: tuple | None
    curve: dict
    probabilities: np.ndarray
    answers: np.ndarray
    trained: list  # accuracies on what was trained on, by epoch, or else of the net as it is now
    validated: list  # the same on other photos
    loss: float  # of a batch, trained on if it is there
    gradients: dict  # {path of a weight: gradient of that loss}
    means: dict  # {layer: mean absolute value}
    active: dict  # {layer with a ReLU: share of the values above 0, by channel}


def says(model, images, photos, labels, train=None, train_images=None, curve=None):
    """{tool: [{"rule", "value", "causes"}, ...]}, for JSON: the rules of each tool that speak.

    `images` are (n, h, w, c) as the net is fed, `photos` the same from 0 to 255, `labels` (n,);
    `train` photos from 0 to 255 that it was trained on and their labels, `train_images` the former
    as the net is fed; `curve` {"loss", "accuracy", "val_loss", "val_accuracy": a number for each
    epoch, "learning_rate"} of its training, or some of these. "value" is what a limit is compared
    with. Raises ValueError for a net that is no classifier of images, ImportError without cleanlab.
    """
    seen = look(model, images, photos, labels, train, train_images, curve)
    found = {}
    for tool, rules in RIGHT.items():
        first = tool.split()[0].lower()
        values = {rule: globals()[f"{first}_{rule}"](seen) for rule in rules}
        found[tool] = [
            {
                "rule": rule,
                "value": float(np.nan_to_num(float(value))),
                "causes": sorted(rules[rule]),
            }
            for rule, value in values.items()
            if value is not None
        ]
    return found


def look(model, images, photos, labels, train=None, train_images=None, curve=None):
    """A Seen; parameters and errors are those of `says`."""
    images, labels, curve = visualize.check_images(model, images), np.asarray(labels), curve or {}
    probabilities, batch, trained = visualize.probabilities(model, images), (images, labels), []
    validated = [float(np.mean(probabilities.argmax(1) == labels))]
    if train is not None and train_images is not None:
        some = _spread(train_images, 1000)
        batch = train_images[some], np.asarray(train[1])[some]
        right = visualize.probabilities(model, batch[0]).argmax(1) == batch[1]
        trained = [float(right.mean())]
    if curve.get("accuracy") and curve.get("val_accuracy"):
        trained, validated = curve["accuracy"], curve["val_accuracy"]
    some = _spread(batch[0], 64)
    return Seen(
        *(model, images, labels, _pixels(photos)),
        None if train is None else (_pixels(train[0]), np.asarray(train[1])),
        *(curve, probabilities, probabilities.argmax(1), trained, validated),
        *_gradients(model, batch[0][some], batch[1][some]),
        *_activations(model, images[_spread(images, 100)]),
    )


def _spread(images, count):
    return np.linspace(0, len(images) - 1, min(len(images), count)).astype(int)


def _pixels(photos):
    photos = visualize.in_colour(np.asarray(photos))
    return photos if photos.dtype == np.uint8 else np.uint8(np.clip(np.rint(photos), 0, 255))


def _gradients(model, images, labels):
    answer, variables = visualize.answers(model), model.trainable_variables
    one = answer.kind == "sigmoid"
    kind = keras.losses.BinaryCrossentropy if one else keras.losses.SparseCategoricalCrossentropy
    loss_of = kind(from_logits=not answer.applied)

    def ask(batch, truth):
        with tf.GradientTape() as tape:
            loss = loss_of(truth, model(batch, training=False))
        return loss, tape.gradient(loss, variables)

    truth = np.float32(labels[:, None]) if one else labels
    given = tf.constant(images, tf.float32), tf.constant(truth)
    loss, found = tf.function(ask, autograph=False).get_concrete_function(*given)(*given)
    pairs = [(v.path, g) for v, g in zip(variables, found) if g is not None]
    return float(loss), {path: np.float64(gradient) for path, gradient in pairs}


def _activations(model, images):
    kinds = {entry.name: _activation(entry.layer()) for entry in recording.survey(model)}

    def ask(batch):
        means, active = {}, {}
        for run in recording.record(model, batch)[1]:
            if run.output.dtype.is_floating and run.output.shape.rank > 1:
                values = tf.cast(run.output, tf.float32)
                values = tf.reshape(values, (tf.shape(values)[0], -1, values.shape[-1]))
                means[run.name] = tf.reduce_mean(tf.abs(values), (1, 2))
                if kinds.get(run.name) in ("relu", "relu6"):
                    active[run.name] = tf.reduce_mean(tf.cast(values > 0, tf.float32), 1)
        return means, active

    found = recording.in_batches(ask, images)
    return tuple({name: each.mean(0) for name, each in part.items()} for part in found)


def _activation(layer):
    kind = type(layer).__name__.lower()
    if kind in recording.ACTIVATIONS - {"activation"}:
        return kind
    return getattr(getattr(layer, "activation", None), "__name__", "linear")


def _curves(seen, *keys):
    return [np.asarray(seen.curve.get(key) or [], float) for key in keys]


def _steps(seen, *keys):
    with np.errstate(invalid="ignore"):  # from infinity to infinity
        return [np.diff(curve) for curve in _curves(seen, *keys)]


# ---------------------------------------------------------------------------------------- UMLAUT


def umlaut_nan_in_loss(seen):
    return np.isnan([seen.loss, *_curves(seen, "loss")[0]]).sum() or None


def umlaut_missing_softmax(seen):  # in its favour, a sigmoid will do, and any loss that is unknown
    loss = getattr(seen.model, "loss", None)
    logits = getattr(loss, "from_logits", False)
    return 1 if loss and not logits and not visualize.answers(seen.model).applied else None


def umlaut_final_activation(seen):
    above = sum(above > 0 for _, above in visualize.heads(seen.model))
    *_, before, last = [None, *seen.model.layers]
    ends = isinstance(last, (keras.layers.Softmax, keras.layers.Activation))
    return above + (ends and _activation(before) != "linear") or None


def umlaut_missing_activation(seen):  # in its favour, one in a layer of its own will do
    found = [entry.layer() for entry in recording.survey(seen.model)]
    kernels = [i for i, layer in enumerate(found) if weights.kernels_of(layer)]
    kinds = [_activation(layer) for layer in found]
    return sum(set(kinds[i:j]) == {"linear"} for i, j in zip(kernels, kernels[1:])) or None


def umlaut_input_exceeds_limits(seen):
    low, high = seen.images.min(), seen.images.max()
    return max(-low, high) if low < -1 or high > 1 else None


def umlaut_input_not_floating(seen):
    return 1 if seen.images.dtype.kind != "f" else None


def umlaut_input_shape(seen):
    height, width = seen.images.shape[1:3]
    return width / height if width != height else None


def umlaut_learning_rate(seen):
    rate = seen.curve.get("learning_rate")
    return rate if rate and not 1e-7 <= rate <= 0.01 else None


def umlaut_high_dropout(seen):
    rates = [layer.rate for layer in seen.model.layers if isinstance(layer, keras.layers.Dropout)]
    return max((rate for rate in rates if rate > 0.5), default=None)


def umlaut_validation_accuracy(seen):  # from the fourth epoch on
    start = 3 if seen.validated is seen.curve.get("val_accuracy") else 0
    validated, trained = seen.validated[start:], seen.trained[start:]
    found = [v for v in validated if v > 0.95] + [v for v, t in zip(validated, trained) if v > t]
    return max(found, default=None)


def umlaut_overfitting(seen):  # from any epoch to the next
    pairs = zip(*_steps(seen, "loss", "val_loss"))
    return max((up for down, up in pairs if up > 0 >= down), default=None)


# ---------------------------------------------------------------------------- SageMaker Debugger


def sagemaker_exploding_tensor(seen):
    wrong = sum(found.count for found in weights.not_finite(seen.model, seen.images[:32]))
    return wrong + sum(np.sum(~np.isfinite(g)) for g in seen.gradients.values()) or None


def sagemaker_all_zero(seen):  # threshold 100 %; it wants to be told which tensors: the kernels
    found = [k for _, la in weights.leaf_layers(seen.model) for k, _ in weights.kernels_of(la)]
    return sum(not kernel.any() for kernel in found) or None


def sagemaker_dead_relu(seen):
    """threshold_inactivity 1 %, threshold_layer 50 %. What one ReLU of a map is, is not told: in
    its favour, a channel.
    """
    worst = max((np.mean(active < 0.01) for active in seen.active.values()), default=0)
    return worst if worst > 0.5 else None


def sagemaker_vanishing_gradient(seen):  # threshold, of the mean absolute value
    least = min((np.abs(gradient).mean() for gradient in seen.gradients.values()), default=1)
    return least if least < 1e-7 else None


def sagemaker_saturated_activation(seen):
    """threshold_sigmoid_min and _max, threshold_inactivity 1 %, threshold_layer 50 %: of the unit
    that answers. No net here has another sigmoid, nor a tanh.
    """
    if visualize.answers(seen.model).kind != "sigmoid" or _head(seen) != "Sigmoid":
        return None
    x = visualize.logits(seen.model, seen.images[_spread(seen.images, 100)])[:, 1]
    outside = np.mean((x <= -23) | (x >= 16.99999))
    return outside if outside > 0.99 else None


def sagemaker_check_input_images(seen):  # threshold_mean and threshold_samples
    mean = np.abs(seen.images.mean((0, 1, 2))).max()
    return mean if mean > 0.2 and len(seen.images) >= 500 else None


def sagemaker_class_imbalance(seen):
    """threshold_imbalance 10, threshold_misprediction 0.7; samples 500, which a training passes."""
    counts = np.bincount(seen.labels if seen.train is None else seen.train[1])
    ratio = counts.max() / counts[counts > 0].min()
    wrong = max(np.mean(seen.answers[seen.labels == k] != k) for k in np.unique(seen.labels))
    return ratio if ratio > 10 else wrong if wrong > 0.7 else None


def sagemaker_confusion(seen):
    """min_diag 0.9, max_off_diag 0.1. The documented formula of the diagonal cannot hold for two
    classes of one size; in its favour, it is the share of the photos that get an answer, too.
    """
    counts = visualize.confusion(seen.labels, seen.answers, seen.probabilities.shape[1])
    shares = counts[:, counts.any(0)] / counts[:, counts.any(0)].sum(0)
    diagonal = shares[np.flatnonzero(counts.any(0)), range(shares.shape[1])]
    return diagonal.min() if diagonal.min() < 0.9 else None  # a column adds up: no other above 0.1


def sagemaker_loss_not_decreasing(seen):
    """num_steps 10, diff_percent 0: from any epoch, which has more steps, to the next. In its
    favour, the training loss; it takes the validation loss first.
    """
    return max((up for up in _steps(seen, "loss")[0] if up >= 0), default=None)


def sagemaker_overfit(seen):  # ratio_threshold 0.1, patience 1, in epochs
    with np.errstate(all="ignore"):
        pairs = zip(*_curves(seen, "loss", "val_loss"))
        ratios = [other / loss - 1 for loss, other in pairs]
    return max((ratio for ratio in ratios if ratio > 0.1), default=None)


def sagemaker_overtraining(seen):
    """patience_train 5, patience_validation 10, delta 0.1, in epochs. Whether one of them is enough
    is not told: in its favour, both.
    """
    train, validation = (_stale(losses) for losses in _curves(seen, "loss", "val_loss"))
    return validation if train >= 5 and validation >= 10 else None


def _stale(losses, delta=0.1):
    """The longest row of epochs that do not better the best loss so far by `delta`."""
    best, row, longest = np.inf, 0, 0
    for loss in losses:
        row = 0 if loss < best - delta else row + 1
        best, longest = loss if row == 0 else best, max(longest, row)
    return longest


# ----------------------------------------------------------------------------------- AutoTrainer


def _fails(seen):
    """Theta: whether an accuracy stays below 0.7, or converges slowly. Only then are gradients
    judged. In its favour, a net whose training was not seen is judged by its accuracy now.
    """
    low = min(max(some) for some in (seen.trained, seen.validated) if len(some))
    return low < 0.7 or autotrainer_slow_convergence(seen) is not None


def autotrainer_slow_convergence(seen):  # delta: the most that an epoch gains
    gains = _steps(seen, "accuracy", "val_accuracy")
    best = max(map(max, gains)) if all(map(len, gains)) else 1
    return best if best < 0.01 else None


def autotrainer_dying_relu(seen):  # gamma, of all gradients together
    values = np.concatenate([np.ones(0), *(g.ravel() for g in seen.gradients.values())])
    zeros = np.mean(values == 0) if len(values) else 0
    return zeros if zeros >= 0.7 and _fails(seen) else None


def _first_to_last(seen):
    """The norm of the first kernel's gradient, and that norm over the last kernel's."""
    norms = [np.linalg.norm(g) for path, g in seen.gradients.items() if path.endswith("kernel")]
    return (norms[0], norms[0] / norms[-1]) if norms and norms[-1] else (np.nan, np.nan)


def autotrainer_vanishing_gradient(seen):  # beta_1 and beta_2
    first, ratio = _first_to_last(seen)
    return ratio if ratio < 1e-3 and first < 1e-4 and _fails(seen) else None


def autotrainer_exploding_gradient(seen):  # beta_3; or what is not finite, however accurate
    arrays = [*_curves(seen, "loss", "val_loss"), seen.loss, *seen.gradients.values()]
    wrong = sum(np.sum(~np.isfinite(array)) for array in arrays + seen.model.get_weights())
    ratio = _first_to_last(seen)[1]
    return wrong or (ratio if ratio > 70 and _fails(seen) else None)


def autotrainer_oscillating_loss(seen):  # zeta and eta: swings of the accuracy, if it suffices
    (curve,) = _curves(seen, "accuracy")
    before, here, after = curve[:-2], curve[1:-1], curve[2:]
    tops, dips = here[(here >= before) & (here >= after)], here[(here <= before) & (here <= after)]
    count = sum(top - dip >= 0.03 for top, dip in zip(tops, dips))
    return count if count and count >= 0.2 * len(curve) and not _fails(seen) else None


def _head(seen):
    return next((kind for kind, _ in visualize.heads(seen.model)), None)


def _wrong_head(seen):
    return _head(seen) != {"sigmoid": "Sigmoid"}.get(visualize.answers(seen.model).kind, "Softmax")


def autotrainer_improper_activation(seen):  # at the end, other than its cross-entropy needs
    fails = _fails(seen) or autotrainer_oscillating_loss(seen) is not None
    return 1 if fails and _wrong_head(seen) else None


def autotrainer_improper_loss(seen):  # of another kind than the number of units needs, or below 0
    loss, one = getattr(seen.model, "loss", None), seen.model.output_shape[-1] == 1
    other = isinstance(loss, str) and ("binary" if one else "categorical") not in loss
    least = min(seen.loss, *(x for curve in _curves(seen, "loss", "val_loss") for x in curve), 0)
    return 1 if other else least if least < 0 else None


def autotrainer_abnormal_data(seen):  # omega_1, of a layer's mean absolute value, but the last's
    largest = max(list(seen.means.values())[:-1], default=0)
    return largest if largest >= 10 and not _wrong_head(seen) else None


# ----------------------------------------------------------------------- cleanlab and cleanvision


def _libraries():
    """cleanlab's label filter, Datalab's adapter for images, and cleanvision's Imagelab."""
    try:
        with warnings.catch_warnings():  # which cleanlab turns off for good
            from cleanlab import filter as labels
            from cleanlab.datalab.internal.adapter import imagelab
            from cleanvision import Imagelab
    except ImportError as error:
        raise ImportError(
            "cleanlab and cleanvision are not installed: pip install -r bugs/requirements.txt"
        ) from error
    return labels, imagelab, Imagelab


def _imagelab(photos, issues):
    images = [(Image.fromarray(photo),) for photo in photos]
    lab = _libraries()[2](torchvision_dataset=images, verbose=False)
    with redirect_stderr(io.StringIO()):  # its progress
        lab.find_issues(issues, n_jobs=1, verbose=False)
    return lab


def cleanlab_label_issues(seen):
    """The share of labels that find_label_issues flags, as Datalab does. The documentation calls
    each of them an issue, and no share of them harmless: so any speaks.
    """
    labels, *_ = _libraries()
    if not np.isfinite(seen.probabilities).all():
        return None
    return labels.find_label_issues(seen.labels, seen.probabilities, n_jobs=1).mean() or None


def cleanlab_spurious_correlations(seen):
    """Datalab's score of the property of the photos that gives the class away best, below 0.3. That
    single photos are dark or blurred is left out, in its favour: it says nothing of a net.
    """
    imagelab = _libraries()[1]
    limit = imagelab.SPURIOUS_CORRELATION_ISSUE["spurious_correlations"]["threshold"]
    issues = _imagelab(seen.photos, dict(imagelab.DEFAULT_CLEANVISION_ISSUES)).issues
    with warnings.catch_warnings():  # about properties that all photos share
        warnings.simplefilter("ignore")
        found = imagelab.handle_spurious_correlations(
            imagelab_issues=issues, labels=seen.labels, threshold=limit
        )
    least = found["correlations_df"]["score"].min()
    return least if least < limit else None


def cleanlab_duplicates(seen):
    """The share of photos in a set of cleanvision's with one that was trained on: the same pixels
    (md5), or nearly so (phash of 8 x 8).
    """
    _libraries()
    if seen.train is None:
        return None
    kinds, count = ("exact_duplicates", "near_duplicates"), len(seen.photos)
    lab = _imagelab([*seen.photos, *seen.train[0]], {kind: {} for kind in kinds})
    groups = [group for kind in kinds for group in lab.info[kind]["sets"]]
    return len({i for g in groups for i in g if i < count <= max(g)}) / count or None
