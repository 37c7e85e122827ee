"""Is the net given what it was trained on? The same photos in other forms, as a contest.

Each check feeds the net the same photos twice and compares how well its logits tell the labels
apart, whatever the threshold. A form wins only if it is better beyond chance and by more than a
margin, and if the net knows something under it at all.
"""

from typing import NamedTuple

import cv2
import numpy as np
from scipy.stats import binomtest

import debugcnn.quiet

from .layers import (
    batch_normalisations,
    linear_layers,
    with_activation,
    with_batch_statistics,
)
from .statistics import SURE, Comparison, compare, skill

MARGIN = 0.1  # of the skill that is missing: what a better form must bring
GAIN = 0.02  # accuracy, where it is that which counts
LARGE = 0.05  # gain in skill that makes up for less accuracy
P = 0.001  # of a sign test
SHRINK = 0.75, 0.6  # of the sides
STRETCH = 4 / 3
FORGOTTEN = 3  # activations, at most, that may be missing by mistake
CHANCE = 0.45  # skill
BARRED = 0.3  # of the photos have bars at their edges
PLAIN = 12  # of 255: rows that differ by less are of one colour
KNOWS = 0.55  # skill, above chance beyond doubt
SCREENS = 9, 3  # first every ninth photo is asked, then every third
MANY = 150  # photos, below which all are asked at once
HOPELESS = 2  # standard errors by which a form is worse than what is given


def turned(photos, quarters):
    """Photos turned to the left by so many quarters, of the size that they had."""
    found = np.rot90(photos, quarters, (1, 2))
    if found.shape == photos.shape:
        return found
    return _each(found, lambda p: cv2.resize(p, photos.shape[2:0:-1], interpolation=cv2.INTER_AREA))


def shrunk(photos, share):
    """Photos of which each seems to show more: a `share` as large, and mirrored beyond that."""
    return scaled(photos, share, share)


def scaled(photos, rows, columns):
    """Photos whose sides are so many times as long, of the size that they had: mirrored beyond, or
    cut to their middle.
    """
    size = photos.shape[1:3]
    height, width = round(size[0] * rows), round(size[1] * columns)
    how = cv2.INTER_AREA if rows * columns < 1 else cv2.INTER_LINEAR

    def scale(photo):
        whole = cv2.resize(photo, (width, height), interpolation=how)
        y, x = (max(0, side - fits) // 2 for side, fits in zip((height, width), size))
        part = whole[y : y + size[0], x : x + size[1]]
        y, x = (fits - side for side, fits in zip(part.shape, size))
        edges = y // 2, y - y // 2, x // 2, x - x // 2
        return cv2.copyMakeBorder(part, *edges, cv2.BORDER_REFLECT_101)

    return _each(photos, scale)


def _each(photos, change):
    found = np.stack([change(np.ascontiguousarray(photo)) for photo in photos])
    return found.reshape(*found.shape[:3], photos.shape[3])


def _converted(photos, code):
    pixels = np.uint8(np.clip(np.rint(photos), 0, 255))
    return np.float32(_each(pixels, lambda photo: cv2.cvtColor(photo, code)))


def _may_be_hsv(photos):
    """Whether the first channel may be a hue, which OpenCV gives in 180 steps, of most photos."""
    return np.quantile(photos[..., 0].max((1, 2)), 0.9) < 180 < np.quantile(photos[..., 2], 0.95)


def _may_be_ycrcb(photos):
    """Whether two channels may be differences of colours, which lie around 128."""
    means, spreads = photos.mean((0, 1, 2)), photos.std((0, 1, 2))
    around = np.abs(means[1:] - 128).max() < 25
    return bool(around and spreads[1:].max() < 0.6 * spreads[0])


# What is done to photos, apart from another value range and other ways to resize the files.
NEGATIVE = "from white to black"  # as digits are, white on black or black on white
VALUES = {
    NEGATIVE: lambda photos: 255 - photos,
    "to the power of 1 / 2.2 (gamma)": lambda photos: 255 * (photos / 255) ** (1 / 2.2),
}
COLOURS = {
    "red and blue exchanged": lambda photos: photos[..., ::-1],
    "colour taken away": lambda photos: np.repeat(photos.mean(-1, keepdims=True), 3, -1),
    "the channels taken for YCrCb": lambda photos: _converted(photos, cv2.COLOR_YCrCb2RGB),
    "the channels taken for HSV": lambda photos: _converted(photos, cv2.COLOR_HSV2RGB),
}
CODES = {"the channels taken for YCrCb": _may_be_ycrcb, "the channels taken for HSV": _may_be_hsv}
TURNS = {
    "upside down": lambda photos: turned(photos, 2),
    "turned to the left": lambda photos: turned(photos, 1),
    "turned to the right": lambda photos: turned(photos, 3),
    "mirrored": lambda photos: photos[:, :, ::-1],
}
SIZES = {
    f"shrinking them to {share:.0%}, mirrored beyond": lambda photos, share=share: shrunk(
        photos, share
    )
    for share in SHRINK
}
# Each is a matter of proportions, and not of size, only if it is clearly better than the other.
WIDER, TALLER = "stretching them in width", "stretching them in height"
PROPORTIONS = {
    WIDER: lambda photos: scaled(photos, 1, STRETCH),
    TALLER: lambda photos: scaled(photos, STRETCH, 1),
}
CHANGES = VALUES | COLOURS | TURNS | SIZES | PROPORTIONS


class Contest(NamedTuple):
    """What the best other form brings."""

    best: object  # value range, change of colour, way to turn or to resize; None: none is better
    tried: object  # the best other form, whether clearly or not
    comparison: Comparison  # of it with the given one
    accuracies: tuple  # before and after
    logits: np.ndarray  # under the best form, or the given one

    @property
    def worth(self):
        """Skill and accuracy that it brings."""
        return self.comparison.gain + self.accuracies[1] - self.accuracies[0]


def contest(given, others, labels):
    """A Contest of {form: logits (n, classes)} against the `given` logits.

    A form is better if its skill is, or if more of its answers are right (a sign test on the photos
    that change) and its skill is not clearly lower. Where fewer are right, only a skill that is
    LARGE by itself counts.
    """
    right = {form: found.argmax(1) == labels for form, found in others.items()}
    skills = {form: float(skill(found, labels)) for form, found in others.items()}
    best = max(skills, key=lambda form: skills[form] + right[form].mean())
    before = given.argmax(1) == labels
    comparison = compare(given, others[best], labels)
    accuracies = float(before.mean()), float(right[best].mean())
    won, lost = int(np.sum(right[best] & ~before)), int(np.sum(before & ~right[best]))
    more = won > lost and binomtest(won, won + lost).pvalue < P / len(others)
    no_worse = -comparison.gain < max(comparison.error, MARGIN * (1 - comparison.before))
    more = more and accuracies[1] - accuracies[0] > GAIN and no_worse
    knows = comparison.after - SURE * comparison.error_after > KNOWS
    knows = knows and (accuracies[0] - accuracies[1] < GAIN or comparison.gain > LARGE)
    if knows and (more or comparison.is_clear(MARGIN * (1 - comparison.before))):
        return Contest(best, best, comparison, accuracies, others[best])
    return Contest(None, best, comparison, accuracies, given)


def input_scale(model, photos, labels, value_range=(0, 255), output=None, given=None):
    """A Contest of debugcnn.VALUE_RANGES, of lighter photos and of negatives, with what the net is
    given.

    In all checks `photos` are (n, h, w, c) from 0 to 255 and `given` the logits for them, if they
    are known.
    """
    kinds = debugcnn.VALUE_RANGES if photos.shape[3] == 3 else debugcnn.VALUE_RANGES[:3]
    forms = {k: (photos, k) for k in kinds if k != value_range}
    given = ask(model, photos, value_range, output) if given is None else given
    forms |= {form: (change(photos), value_range) for form, change in VALUES.items()}
    if skill(given, labels) <= CHANCE:  # then the classes are in another order, rather
        del forms[NEGATIVE]
    return _held(model, (photos, value_range), forms, labels, output, given)


def channel_order(model, photos, labels, value_range=(0, 255), output=None, given=None):
    """A Contest of the photos with red and blue exchanged, of grey ones, and of what they are if
    their channels are others than red, green and blue, where they look like that.
    """
    forms = {
        form: (change(photos), value_range)
        for form, change in COLOURS.items()
        if form not in CODES or CODES[form](photos)
    }
    return _held(model, (photos, value_range), forms, labels, output, given)


def flipped_or_rotated(model, photos, labels, value_range=(0, 255), output=None, given=None):
    """A Contest of the photos upside down, on either side, and mirrored."""
    forms = {form: (change(photos), value_range) for form, change in TURNS.items()}
    return _held(model, (photos, value_range), forms, labels, output, given)


def resize(model, photos, ways, labels, value_range=(0, 255), output=None, given=None):
    """A Contest of the same photos resized in other ways, {way: photos}, without the bars at their
    edges, if they have such, shrunk, as if they were cut out of larger ones, and stretched, as if
    they had been squeezed.
    """
    given = ask(model, photos, value_range, output) if given is None else given
    others = resized_otherwise(photos, ways)
    others |= {way: change(photos) for way, change in (SIZES | PROPORTIONS).items()}
    forms = {way: (resized, value_range) for way, resized in others.items()}
    held = _held(model, (photos, value_range), forms, labels, output, given)
    if held.best in PROPORTIONS:
        other = TALLER if held.best == WIDER else WIDER
        against = ask(model, others[other], value_range, output)
        margin = MARGIN * (1 - held.comparison.before)
        better = compare(against, held.logits, labels)
        if not (held.comparison.is_clear(margin) and better.is_clear(0)):
            del forms[WIDER], forms[TALLER]  # it sees better what is larger, or by chance
            return _held(model, (photos, value_range), forms, labels, output, given)
    return held


def resized_otherwise(photos, ways):
    """{way: photos}: the `ways`, and, where many photos have bars, one without these."""
    inner = [_without_bars(photo) for photo in photos]
    if np.mean([part.shape != photos[0].shape for part in inner]) <= BARRED:
        return ways
    size = photos.shape[2], photos.shape[1]
    whole = np.stack([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in inner])
    return ways | {"cutting off their bars": whole.reshape(photos.shape)}


def _without_bars(photo):
    """What lies inside the rows and columns at each edge that are of the colour of the edge."""
    inside = []
    for rows in (photo, photo.swapaxes(0, 1)):
        first, last = (
            np.argmin([*(np.abs(some - some[0].mean(0)).max((1, 2)) < PLAIN), False])
            for some in (rows, rows[::-1])
        )
        inside.append(slice(first, len(rows) - last))
    found = photo[tuple(inside)]
    return photo if min(np.divide(found.shape, photo.shape)[:2]) < 1 / 4 else found


def batch_statistics(model, photos, labels, value_range=(0, 255), output=None, given=None):
    """A Contest of the statistics of the photos that are asked together with those that batch
    normalisation stored, or None if the model has none.
    """
    if not batch_normalisations(model):
        return None

    def ask_together(model, photos, value_range, output):
        return with_batch_statistics(model, debugcnn.from_pixels(photos, value_range), output)

    as_given = photos, value_range
    forms = {"its own statistics": as_given}
    return _held(model, as_given, forms, labels, output, given, ask_together)


def no_activation(model, photos, labels, value_range=(0, 255), output=None, given=None):
    """A Contest of the net with an activation behind one of its `linear_layers`, if there are few,
    and behind all of them, or None if it has none.
    """
    missing = linear_layers(model)
    if not missing:
        return None
    places = {linear.layer: [linear] for linear in missing if len(missing) <= FORGOTTEN}
    if len(missing) > 1:
        places[f"each of {len(missing)} layers"] = missing

    def ask_with(model, photos, values, output):
        value_range, some = values
        return with_activation(model, some, debugcnn.from_pixels(photos, value_range), output)

    forms = {place: (photos, (value_range, some)) for place, some in places.items()}
    return _held(model, (photos, value_range), forms, labels, output, given, ask_with)


def _held(model, as_given, forms, labels, output, given, asking=None):
    """A Contest of {form: (photos, value range)}. Forms that are clearly worse on a few of the
    photos, or bring nothing on some, are not asked about the others; where none brings anything, it
    is a contest on those. With a function `asking` of their own all begin with some.
    """
    if given is None:
        given = ask(model, *as_given, output)
    few, some = (screened(labels, every) for every in SCREENS)
    every = np.ones(len(labels), bool)
    asked, found = np.zeros(len(labels), bool), {form: np.zeros_like(given) for form in forms}
    for stage in (some, every) if asking else (few, some, every):
        new = stage & ~asked
        for form in found if new.any() else ():
            photos, values = forms[form]
            found[form][new] = (asking or ask)(model, photos[new], values, output)
        asked = stage
        hopes = {
            form: logits
            for form, logits in found.items()
            if asked.all() or _hopes(given[asked], logits[asked], labels[asked], stage is few)
        }
        if asked.all() or not hopes:
            break
        found = hopes
    others = {form: logits[asked] for form, logits in found.items()}
    held = contest(given[asked], others, labels[asked])
    return held if asked.all() else held._replace(logits=given)


def screened(labels, every=SCREENS[-1]):
    """(n,) bool: the photos that are asked first, so many of each class; all, if few."""
    some = np.full(len(labels), len(labels) < MANY)
    for k in np.unique(labels):
        some[np.flatnonzero(labels == k)[::every]] = True
    return some


def _hopes(before, after, labels, first):
    """Whether another form may be better: it is at least as right, or its skill as high, or, on the
    `first` photos, not clearly worse.
    """
    won = np.float64(after.argmax(1) == labels) - (before.argmax(1) == labels)
    more = max(won.mean(), skill(after, labels) - skill(before, labels))
    error = np.sqrt(np.mean(won**2) / len(won))
    return more >= -HOPELESS * error if first else more > 0


def ask(model, photos, value_range, output=None):
    """Logits (n, classes) for photos from 0 to 255."""
    return debugcnn.logits(model, debugcnn.from_pixels(photos, value_range), output)
