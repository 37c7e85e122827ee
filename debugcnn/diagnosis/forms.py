"""Is the model fed as in training? The same images in other forms, as one contest.

A form changes how a batch is preprocessed, or how the model is run, and is judged by how well the
logits then separate the labels. All causes that offer forms compete: the strongest one is adopted
first, since a wrong value range can look like a wrong channel order, and the others are tried again
on top of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.stats import binomtest

from .. import statistics
from ..statistics import Z_ONE_IN_2000, Comparison
from ..views.predictions import logits as predict_logits
from ..views.value_ranges import from_pixels

# Origin of these: set by hand on injected faults and healthy models of the development half
# (injected_faults/README.md), then left alone.
MARGIN = 0.1  # of the AUC that is missing: what a better form must bring
MIN_GAIN = 0.02  # accuracy, where it is that which counts
LARGE_GAIN = 0.05  # AUC, which makes up for less accuracy
SIGN_TEST_P = 0.001
KNOWS_SOMETHING = 0.55  # AUC beyond doubt, below which no form counts
SCREENS = 9, 3  # every ninth image of a class is tried first, then every third
MIN_SCREENED = 150  # images; fewer are all tried at once
HOPELESS = 2  # standard errors by which a form may be worse on the first images

Predict = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Feed:
    """How the model is fed.

    `pixels` (n, height, width, channels) from 0 to 255 are brought to `value_range` and given to
    `predict`; `resized_variants` holds the same images resized in other ways, {name: pixels}.
    """

    pixels: np.ndarray
    value_range: tuple[float, float] | str
    resized_variants: dict[str, np.ndarray] = field(default_factory=dict)
    predict: Predict = predict_logits

    @property
    def images(self) -> np.ndarray:
        """(n, height, width, channels) float32, as the model gets them."""
        return from_pixels(self.pixels, self.value_range)

    def at(self, chosen: np.ndarray, with_variants: bool = False) -> "Feed":
        """The same for some of the images, (n,) bool; their resized variants only on demand."""
        variants = self.resized_variants.items() if with_variants else ()
        variants = {name: pixels[chosen] for name, pixels in variants}
        return replace(self, pixels=self.pixels[chosen], resized_variants=variants)

    def logits(self, model, output: str | int | None = None) -> np.ndarray:
        """(n, classes) float32."""
        return self.predict(model, self.images, output)

    def with_pixels(self, change: Callable[[np.ndarray], np.ndarray]) -> "Feed":
        """The images and their resized variants after a change of pixels."""
        variants = {name: change(pixels) for name, pixels in self.resized_variants.items()}
        return replace(self, pixels=change(self.pixels), resized_variants=variants)


@dataclass(frozen=True)
class Form:
    """One way in which the input may differ from the training's, or the model may be run wrongly.

    A form has to bring `handicap` (AUC and accuracy together), and `handicap_errors` standard
    errors, more than simpler ones; where it has a `rival`, it has to be clearly better than that.
    """

    name: str  # what is done, in words that end a sentence
    apply: Callable[[Feed], Feed]
    handicap: float = 0.0
    handicap_errors: float = 0.0
    rival: str | None = None
    runs_model_otherwise: bool = False  # not another input: another way to run the model
    needs_variants: bool = False  # is one of the feed's resized variants


@dataclass(frozen=True)
class Contest:
    """What the forms of one cause bring."""

    tried: Form  # the best form, whether clearly better or not
    is_better: bool
    comparison: Comparison  # with how the model is fed
    accuracies: tuple[float, float]  # before and after
    logits: np.ndarray  # under the better form, or as the model is fed

    @property
    def gain(self) -> float:
        """AUC and accuracy that the form brings."""
        return self.comparison.gain + self.accuracies[1] - self.accuracies[0]

    @property
    def score(self) -> float:
        """The gain less the form's handicap."""
        form = self.tried
        return self.gain - form.handicap - form.handicap_errors * self.comparison.error


def compare_forms(before: np.ndarray, after: dict[Form, np.ndarray], labels: np.ndarray) -> Contest:
    """A Contest of {form: logits (n, classes)} against the logits as the model is fed.

    A form is better if its AUC is, or if more of its predictions are correct (a sign test on the
    images that change) and its AUC is not clearly lower. Where fewer are correct, only a gain in
    AUC that is large by itself counts.
    """
    correct = {form: logits.argmax(1) == labels for form, logits in after.items()}
    aucs = {form: float(statistics.auc(logits, labels)) for form, logits in after.items()}
    best = max(aucs, key=lambda form: aucs[form] + correct[form].mean())
    correct_before = before.argmax(1) == labels
    comparison = statistics.compare(before, after[best], labels)
    accuracies = float(correct_before.mean()), float(correct[best].mean())
    gained = accuracies[1] - accuracies[0]
    won = int(np.sum(correct[best] & ~correct_before))
    lost = int(np.sum(correct_before & ~correct[best]))
    margin = MARGIN * (1 - comparison.before)
    more = won > lost and binomtest(won, won + lost).pvalue < SIGN_TEST_P / len(after)
    no_worse = -comparison.gain < max(comparison.error, margin)
    more = more and gained > MIN_GAIN and no_worse
    knows = comparison.after - Z_ONE_IN_2000 * comparison.error_after > KNOWS_SOMETHING
    knows = knows and (-gained < MIN_GAIN or comparison.gain > LARGE_GAIN)
    is_better = bool(knows and (more or comparison.is_clear(margin)))
    return Contest(best, is_better, comparison, accuracies, after[best] if is_better else before)


def contest(
    model, feed: Feed, forms: list[Form], labels: np.ndarray, logits: np.ndarray, output=None
) -> Contest:
    """A Contest of forms. Those that are clearly worse on a few images, or bring nothing on some,
    are not tried on the others; where none brings anything, it is a contest on those images.
    """
    tried, logits_of = _screened_logits(model, feed, forms, labels, logits, output)
    after = {form: found[tried] for form, found in logits_of.items()}
    result = compare_forms(logits[tried], after, labels[tried])
    rival = next((form for form in after if form.name == result.tried.rival), None)
    if result.is_better and result.tried.rival:
        rival = rival or next(form for form in forms if form.name == result.tried.rival)
        against = rival.apply(feed.at(tried, rival.needs_variants)).logits(model, output)
        better = statistics.compare(against, after[result.tried], labels[tried])
        margin = MARGIN * (1 - result.comparison.before)
        if not (result.comparison.is_clear(margin) and better.is_clear(0)):
            others = [form for form in forms if form not in (result.tried, rival)]
            return contest(model, feed, others, labels, logits, output)
    return result if tried.all() else replace(result, logits=logits)


def _screened_logits(model, feed, forms, labels, logits, output):
    """(n,) bool, the images that the forms were tried on, and {form: logits (n, classes)}."""
    few, more = (screen(labels, every) for every in SCREENS)
    everything = np.ones(len(labels), bool)
    slow = any(form.runs_model_otherwise for form in forms)
    tried = np.zeros(len(labels), bool)
    after = {form: np.zeros_like(logits) for form in forms}
    for stage in (more, everything) if slow else (few, more, everything):
        new = stage & ~tried
        for form in after if new.any() else ():
            after[form][new] = form.apply(feed.at(new, form.needs_variants)).logits(model, output)
        tried = stage
        if tried.all():
            break
        hopes = {
            form: found
            for form, found in after.items()
            if _may_be_better(logits[tried], found[tried], labels[tried], stage is few)
        }
        if not hopes:
            break
        after = hopes
    return tried, after


def screen(labels: np.ndarray, every: int = SCREENS[-1]) -> np.ndarray:
    """(n,) bool: the images that are tried first, one in `every` of each class; all, if few."""
    chosen = np.full(len(labels), len(labels) < MIN_SCREENED)
    for k in np.unique(labels):
        chosen[np.flatnonzero(labels == k)[::every]] = True
    return chosen


def _may_be_better(before, after, labels, first):
    """Whether more is correct, or the AUC is higher; on the `first` images: not clearly worse."""
    change = np.float64(after.argmax(1) == labels) - (before.argmax(1) == labels)
    gain = max(change.mean(), statistics.auc(after, labels) - statistics.auc(before, labels))
    error = np.sqrt(np.mean(change**2) / len(change))
    return gain >= -HOPELESS * error if first else gain > 0


def in_words(value_range: tuple[float, float] | str) -> str:
    """A value range as part of a sentence."""
    return value_range if isinstance(value_range, str) else "{:g} to {:g}".format(*value_range)
