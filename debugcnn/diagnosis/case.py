"""A model under examination, and what has been measured of it so far."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..statistics import (
    MIN_MINORITY_IMAGES,
    Z_ONE_IN_2000,
    auc_interval,
    enough_to_compare,
)
from ..text import printable
from ..views.activations import ChannelSummary, summarize_channels
from ..views.predictions import classifier_head, logits_and_probabilities, probabilities
from ..views.tracing import check_images
from . import interventions
from .forms import Feed
from .initialization import Drawn, drawn_layers
from .layers import weights_in_kernels
from .registry import CAUSES, Evidence, Limit, NotExamined
from .repeatability import Repeated, repeatability
from .search import Search, search

BLANK_RANGE = 2  # of 255, by which the pixels of a blank image differ
BLANK_EXAMPLES = 8  # blank images that are kept for the picture


class AucInterval(NamedTuple):
    """The AUC with its interval, at one in 2,000 to each side."""

    value: float
    low: float
    high: float


class Case:
    """A model, labelled images, and measurements that several causes share, each made once.

    `model`, `head` (what kind of classifier it is), `output` (which of several outputs); `labels`
    (n,) of the images that are examined; `given`, how the model is fed at first; `train`, pixels
    and labels of images that it was trained on, or None; `blank` (m,) bool, the images without
    content among all that were given. Whatever the search for a better input found is in `feed`,
    `logits` and `probabilities`.
    """

    def __init__(
        self,
        model,
        pixels,
        labels,
        *,
        train=None,
        value_range=(0, 255),
        output=None,
        resized_variants=None,
        class_names=None,
        limits=None,
    ):
        self.model, self.output, self.train = model, output, _checked_train(model, train)
        pixels = check_images(model, np.asarray(pixels, np.float32))
        self.head = classifier_head(model, output)
        labels = _checked_labels(labels, len(pixels), self.head.classes)
        value_range = value_range if isinstance(value_range, str) else tuple(value_range)
        variants = _checked_variants(model, resized_variants or {}, len(pixels))
        self.limits = _checked_limits(limits or {})
        self.blank = blank_images(pixels)
        several = len(np.unique(labels[self.blank])) > 1  # one class may be blank by nature
        self.blank_left_out = several and enough_to_compare(labels[~self.blank])
        kept = ~self.blank if self.blank_left_out else np.ones(len(labels), bool)
        self.labels, self.all_labels = labels[kept], labels
        self.blank_examples = pixels[self.blank][:BLANK_EXAMPLES]
        variants = {name: variant[kept] for name, variant in variants.items()}
        self.given = Feed(pixels[kept], value_range, variants)
        names = class_names or [f"class {k}" for k in range(self.head.classes)]
        self.class_names = _checked_names(names, self.head.classes)
        self.threshold = None  # see thresholds.better_threshold
        self.faults: set[tuple[str, str]] = set()  # (cause, measurement), before any demotion

    def has_fault(self, cause: str, measurement: str | None = None) -> bool:
        """Whether a fault was measured, by whatever measurement or by one."""
        return any(c == cause and measurement in (None, m) for c, m in self.faults)

    def limit_of(self, cause: str, measurement: str | None = None) -> Limit:
        """The limit of a measurement, the cause's first one by default, or the user's own."""
        measurements = CAUSES[cause].measurements
        chosen = next(m for m in measurements if measurement in (None, m.name))
        return self.with_user_limit(chosen, chosen.limit)

    def with_user_limit(self, measurement, limit: Limit | None) -> Limit | None:
        """A limit with the value that the user asked for, if any."""
        name = measurement.cause, f"{measurement.cause}:{measurement.name}"
        first = CAUSES[measurement.cause].measurements[0] is measurement
        value = self.limits.get(name[1], self.limits.get(name[0]) if first else None)
        if value is None or limit is None:
            return limit
        return replace(limit, value=value)

    # ------------------------------------------------------------------------ as given

    @cached_property
    def given_outputs(self) -> tuple[np.ndarray, np.ndarray]:
        return logits_and_probabilities(self.model, self.given.images, self.output)

    @property
    def given_logits(self) -> np.ndarray:
        return self.given_outputs[0]

    @property
    def given_probabilities(self) -> np.ndarray:
        return self.given_outputs[1]

    @cached_property
    def drawn(self) -> list[Drawn]:
        """Layers whose weights are as their initializer draws them."""
        return drawn_layers(self.model)

    @cached_property
    def drawn_share(self) -> float:
        """Of all weights in kernels."""
        weights = sum(layer.weights for layer in self.drawn)
        return weights / max(weights_in_kernels(self.model), 1)

    @property
    def is_mostly_untrained(self) -> bool:
        return self.drawn_share > 0.5

    @cached_property
    def repeated(self) -> Repeated:
        """Whether the model predicts the same again, and for an image alone."""
        return repeatability(self.model, self.given.images, self.output)

    @property
    def depends_on_batch(self) -> bool:
        limit = self.limit_of("batch_statistics")
        return limit.exceeded(self.repeated.alone) and not self.is_random

    @property
    def is_random(self) -> bool:
        return self.limit_of("random_answer").exceeded(self.repeated.again)

    @cached_property
    def global_losses(self) -> list[interventions.Loss]:
        """What it costs to take a property of the whole image away, as given."""
        given = self.model, self.given, self.labels, self.given_logits, self.output
        return interventions.accuracy_drop(*given, global_only=True)

    @cached_property
    def global_shortcut(self) -> interventions.Loss | None:
        """The property of the whole image that the model reads, if there is one."""
        limit = self.limit_of("shortcut", "global_property").value
        strongest = interventions.strongest(self.global_losses, limit)
        return strongest.loss if strongest and strongest.excess > 0 else None

    # -------------------------------------------------------------- as it should be fed

    @cached_property
    def search(self) -> Search:
        return search(self)

    def search_evidence(self, cause: str) -> Evidence:
        """What the search found of a cause. Raises NotExamined where that is nothing."""
        found = self.search.evidence[cause]
        if isinstance(found, str):
            raise NotExamined(found)
        return found

    @property
    def feed(self) -> Feed:
        return self.search.feed

    @property
    def logits(self) -> np.ndarray:
        return self.search.logits

    @cached_property
    def probabilities(self) -> np.ndarray:
        if self.feed is self.given:
            return self.given_probabilities
        return probabilities(self.model, self.feed.images, self.output)

    @property
    def correct(self) -> np.ndarray:
        """(n,) bool."""
        return self.logits.argmax(1) == self.labels

    @property
    def accuracy(self) -> float | None:
        """As it should be fed; None if the predictions are not finite."""
        if not np.isfinite(self.probabilities).all():
            return None
        return float(np.mean(self.probabilities.argmax(1) == self.labels))

    @cached_property
    def channels(self) -> dict[str, ChannelSummary]:
        """{layer: what its channels do} over about a hundred images."""
        every = max(1, len(self.labels) // 100)
        return summarize_channels(self.model, self.feed.images[::every])

    @cached_property
    def auc(self) -> AucInterval:
        return AucInterval(*auc_interval(self.logits, self.labels, Z_ONE_IN_2000))


def blank_images(pixels: np.ndarray) -> np.ndarray:
    """(n,) bool: images (n, h, w, c) without content, as where a file could not be read."""
    return np.ptp(pixels, (1, 2)).max(-1) <= BLANK_RANGE


def _checked_labels(labels, count, classes):
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels are one class number for each of the {count} images.")
    if not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels are 0 to {classes - 1}, not {labels.min()} to {labels.max()}.")
    if not enough_to_compare(labels):
        counts = ", ".join(map(str, np.bincount(labels)))
        raise ValueError(
            f"Too few labelled images ({counts} by class): {2 * MIN_MINORITY_IMAGES} are needed, "
            f"{MIN_MINORITY_IMAGES} of them outside the most frequent class."
        )
    return labels


def _checked_names(names, classes):
    if len(names) != classes:
        raise ValueError(
            f"class_names holds {len(names)} names, and the model has {classes} classes."
        )
    return [printable(str(name)) for name in names]


def _checked_variants(model, variants, count):
    variants = {name: check_images(model, pixels) for name, pixels in variants.items()}
    for name, pixels in variants.items():
        if len(pixels) != count:
            raise ValueError(f"{len(pixels)} images are resized by {name}, not {count}.")
    return variants


def _checked_train(model, train):
    if train is None:
        return None
    pixels, labels = train
    labels = np.asarray(labels)
    if labels.shape != np.shape(pixels)[:1] or labels.dtype.kind not in "iu":
        raise ValueError("train is (images, labels), with one class number for each image.")
    return check_images(model, np.asarray(pixels)), labels


def _checked_limits(limits):
    known = {f"{m.cause}:{m.name}" for cause in CAUSES.values() for m in cause.measurements}
    for name in limits:
        if name not in CAUSES and name not in known:
            raise ValueError(
                f"There is no cause {name!r} to set a limit for: choose one of {', '.join(CAUSES)}."
            )
    return {name: float(value) for name, value in limits.items()}


NEEDS: dict[str, tuple[str, Callable[[Case], bool]]] = {
    "train": ("no training images were given", lambda case: case.train is not None),
    "trained weights": ("most weights are untrained", lambda case: not case.is_mostly_untrained),
    "finite logits": (
        "the logits are not finite",
        lambda case: bool(np.isfinite(case.given_logits).all()),
    ),
    "finite predictions": (
        "the predictions are not finite",
        lambda case: case.accuracy is not None,
    ),
}
