"""Every injected fault: how it is injected, and the causes that are accepted as its diagnosis.

The accepted causes were written down before the first run.
"""

from dataclasses import dataclass

from . import cues, models
from .experiments import Inject
from .input_faults import (
    examine_training_images,
    feed,
    mislabel,
    mislabel_dogs,
    resize_by,
    rotate,
    shuffle_labels,
    swap_classes,
    swap_red_and_blue,
)
from .training_faults import (
    cue_on_dogs,
    frozen_at_random,
    nine_cats_to_a_dog,
    train_otherwise,
)
from .weight_faults import (
    dropout_always_on,
    edit,
    nan_in_one_filter,
    reinitialize_last_convolution,
    reset_batch_statistics,
    scale_logits,
    shift_logit,
    softmax_on_top,
    training_mode,
    zero_last_convolution,
)


@dataclass(frozen=True)
class Fault:
    """A fault and what is accepted as its diagnosis.

    `kind` is a column of the table: "input", "labels", "weights", "statistics" or "training", or
    "weaker" for a weaker form of any of them. `expected` are the accepted causes. `runs` is how
    often it is injected on the development half. What needs a training of its own (`retrains`) is
    injected on one half only: with 0 runs on the held-out one. `model` is the model that it needs,
    if not any will do.
    """

    kind: str
    expected: frozenset[str]
    inject: Inject
    runs: int
    retrains: bool = False
    model: str | None = None


def _input(cause: str, inject: Inject, runs: int = 2, kind: str = "input") -> Fault:
    return Fault(kind, frozenset({cause}), inject, runs)


def _labels(kind: str, inject: Inject, *others: str) -> Fault:
    """Label noise, which a model that makes many mistakes hides: the large model is needed."""
    return Fault(kind, frozenset({"label_noise", *others}), inject, 1, model="upright")


def _weights(expected: set[str], change, runs: int = 2) -> Fault:
    return Fault("weights", frozenset(expected), edit(change), runs)


def _statistics(change) -> Fault:
    expected = frozenset({"batch_statistics"})
    return Fault("statistics", expected, edit(change), 1, model="normalised")


def _cue(cue, share: float = 1, runs: int = 0) -> Fault:
    kind = "training" if share == 1 else "weaker"
    return Fault(kind, frozenset({"shortcut"}), cue_on_dogs(cue, share), runs, retrains=True)


def _training(expected: set[str], runs: int, *arguments, **options) -> Fault:
    inject = train_otherwise(*arguments, **options)
    return Fault("training", frozenset(expected), inject, runs, retrains=True)


NO_LEARNING = {"at_chance", "constant_answer", "untrained_layer"}
DIVERGED = {"at_chance", "constant_answer", "dead_filters", "exploding", "not_finite"}
ZEROED = {"at_chance", "constant_answer", "dead_filters"}

FAULTS = {
    "0 to 255 instead of 0 to 1": _input("input_scale", feed((0, 255))),
    "-1 to 1 instead of 0 to 1": _input("input_scale", feed((-1, 1))),
    "ImageNet means instead of 0 to 1": _input("input_scale", feed("torch")),
    "divided by 255 twice": _input("input_scale", feed((0, 1 / 255))),
    "BGR instead of RGB": _input("channel_order", swap_red_and_blue),
    "upside down": _input("flipped_or_rotated", rotate(2)),
    "rotated by 90°": _input("flipped_or_rotated", rotate(1)),
    "padded instead of squashed": _input("resize", resize_by("padding")),
    "center crop instead of squashed": _input("resize", resize_by("center crop")),
    "classes swapped": _input("class_order", swap_classes),
    "labels shuffled": Fault("input", frozenset({"at_chance", "label_noise"}), shuffle_labels, 2),
    "20 % of the labels wrong": _labels("labels", mislabel(0.2)),
    "10 % of the labels wrong": _labels("labels", mislabel(0.1)),
    "20 % of the dogs labelled as cats": _labels("labels", mislabel_dogs(0.2), "threshold"),
    "5 % of the labels wrong": _labels("weaker", mislabel(0.05)),
    "20 % training images": _input("leak", examine_training_images(0.2)),
    "20 % flipped training images": _input("leak", examine_training_images(0.2, flip=True)),
    "2 % training images": _input("leak", examine_training_images(0.02), kind="weaker"),
    "NaN in one filter": _weights({"not_finite"}, nan_in_one_filter),
    "last convolution zeroed": _weights(ZEROED, zero_last_convolution),
    "last convolution re-initialised": _weights({"untrained_layer"}, reinitialize_last_convolution),
    "logit + 3": _weights({"threshold"}, shift_logit(3)),
    "logits x 6": _weights({"overconfident", "saturated_answer"}, scale_logits(6)),
    "running statistics never updated": _statistics(reset_batch_statistics),
    "batch normalisation in training mode": _statistics(training_mode),
    "dropout always on": _weights({"random_answer"}, dropout_always_on),
    "second softmax": _weights({"output_head"}, softmax_on_top),
    "mark on all dogs": _cue(cues.mark, runs=2),
    "mark on half of the dogs": _cue(cues.mark, 0.5),
    "mark on a tenth of the dogs": _cue(cues.mark, 0.1),
    "mark anywhere on all dogs": _cue(cues.mark_anywhere),
    "border on all dogs": _cue(cues.add_border),
    "dogs are brighter": _cue(cues.brighten),
    "dogs are tinted": _cue(cues.tint),
    "dogs are grey": _cue(cues.to_grey),
    "dogs are compressed": _cue(cues.compress),
    "dogs are blurred": _cue(cues.blur),
    "saved before training": _training({"untrained_layer"}, 1, epochs=0),
    "softmax on a single unit": _training(
        {"output_head"}, 2, lambda: models.classic(head="softmax"), epochs=16
    ),
    "no activations": _training({"missing_activation"}, 1, lambda: models.classic(activation=None)),
    "learning rate 1e-7": _training(NO_LEARNING, 2, epochs=1, rate=1e-7),
    "nine cats to a dog": _training({"threshold"}, 1, choose=nine_cats_to_a_dog),
    "learning rate 3": _training(DIVERGED, 2, models.classic, epochs=2, rate=3.0),
    "zero initialisation": _training(
        NO_LEARNING, 2, lambda: models.classic(kernel_initializer="zeros"), epochs=3
    ),
    "200 images, memorized": _training(
        {"memorised"}, 1, models.normalised, epochs=60, images=200, flip=False
    ),
    "frozen random convolutions": _training({"untrained_layer"}, 1, frozen_at_random),
}
