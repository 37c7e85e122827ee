"""Patches that decide: pasted into other images, they turn the prediction into their own class."""

from typing import NamedTuple

import cv2
import numpy as np

from .forms import Feed

# Origin of these: set by hand on painted marks and healthy models of the development half.
PATCH = 0.2  # of an image's sides
HOSTS = 32  # images of other classes that a patch is pasted into
CONVINCES = 0.8  # of them have to be turned
ALIKE = 0.4  # of the pixels that two patches have in common
SAME_COLOUR = 24  # of 255, by which such pixels differ at most
TINY = 12  # pixels, at which patches are compared
MAX_CLASSES = 8  # whose images are looked at
FEW_CLASSES = 4  # up to which more images of each class are looked at


class Patch(NamedTuple):
    """The part of an image that its prediction depends on, and what it does to other images."""

    image: int
    label: int
    rows: slice
    columns: slice
    turned: float  # share of images of other classes that it turns into its class
    twins: int  # others of this class that turn as many, and look alike or lie at the same place


def paste_patches(
    model,
    feed: Feed,
    labels: np.ndarray,
    logits: np.ndarray,
    output: str | int | None = None,
    enough_twins: int = 0,
) -> list[Patch]:
    """A list of Patch, the one with the most twins first.

    Of each class the most confident correct images are taken, and of each of these the square
    (PATCH of the sides) that costs the prediction most when it is covered. This square is pasted at
    the same place into HOSTS images of other classes. A part of an animal turns some of them; a
    mark turns nearly all, and looks alike in several images (more than what else lies there), or
    lies at the same place or edge, as a date does. A class is given up once none of its patches can
    have `enough_twins`, and a patch once it cannot turn enough images.
    """
    correct = logits.argmax(1) == labels
    classes = np.unique(labels[correct])
    recall = [correct[labels == k].mean() for k in classes]
    classes = classes[np.argsort(recall)[::-1][:MAX_CLASSES]]
    per_class = 8 if len(classes) <= FEW_CLASSES else 4
    patches = []
    for k in classes:
        margin = margins(logits, k)
        others = np.flatnonzero((labels != k) & correct)
        hosts = np.random.default_rng(0).permutation(others)[:HOSTS]
        own = np.flatnonzero((labels == k) & correct)
        own = own[np.argsort(-margin[own])][: per_class if len(hosts) else 0]
        convincing = 0
        for position, i in enumerate(own):
            if position and convincing + len(own) - position <= enough_twins:
                break
            patch = _patch_of(model, feed, output, int(i), int(k), hosts, bool(enough_twins))
            convincing += patch.turned >= CONVINCES
            patches.append(patch)
    return sorted(
        _with_twins(patches, feed.pixels, labels), key=lambda patch: (-patch.twins, -patch.turned)
    )


def margins(logits: np.ndarray, k: int) -> np.ndarray:
    """(n,) how far the logit of class k lies above the highest other."""
    return logits[:, k] - np.delete(logits, k, 1).max(1)


def _patch_of(model, feed, output, i, k, hosts, may_stop):
    """The decisive Patch of an image, and what share of the hosts it turns."""
    pixels = feed.pixels

    def logits_of(changed):
        return Feed(changed, feed.value_range, predict=feed.predict).logits(model, output)

    mean = pixels.mean((0, 1, 2))
    rows, columns = _decisive_square(pixels[i], mean, lambda p: margins(logits_of(p), k))
    turned = []
    for some_hosts in np.array_split(hosts, 2):
        pasted = pixels[some_hosts].copy()
        pasted[:, rows, columns] = pixels[i, rows, columns]
        if len(some_hosts):
            turned.extend(logits_of(pasted).argmax(1) == k)
        if may_stop and turned.count(False) > (1 - CONVINCES) * len(hosts):
            break
    return Patch(i, k, rows, columns, float(np.mean(turned)), 0)


def _decisive_square(image, mean, margin):
    """(rows, columns): the square of an image whose covering leaves the lowest `margin`.

    Squares lie half of their sides apart; those are tried that lie in the best of larger squares of
    twice their sides, one of which holds each of them.
    """
    sides = [max(2, round(side * PATCH)) for side in image.shape[:2]]
    starts = [
        np.unique(np.linspace(0, whole - side, round(2 / PATCH) - 1).round().astype(int))
        for whole, side in zip(image.shape, sides)
    ]
    single = [[slice(start, start + side) for start in s] for s, side in zip(starts, sides)]
    larger = [[slice(p[0].start, p[-1].stop) for p in _overlapping_threes(s)] for s in single]

    def best(rows, columns):
        places = [(y, x) for y in rows for x in columns]
        covered = np.repeat(image[None], len(places), 0)
        for copy, place in zip(covered, places):
            copy[place] = mean
        return places[int(margin(covered).argmin())]

    around = best(*larger)
    return best(
        *(
            [part for part in parts if whole.start <= part.start and part.stop <= whole.stop]
            for parts, whole in zip(single, around)
        )
    )


def _overlapping_threes(parts):
    """Three neighbours each, every second one a start; the last three, too."""
    starts = {*range(0, max(1, len(parts) - 2), 2), max(0, len(parts) - 3)}
    return [parts[start : start + 3] for start in sorted(starts)]


def _with_twins(patches, pixels, labels):
    convincing = [patch for patch in patches if patch.turned >= CONVINCES]
    squares = {patch.image: pixels[patch.image, patch.rows, patch.columns] for patch in convincing}
    least = {patch.image: _alike_by_chance(patch, pixels, labels) for patch in convincing}

    def are_twins(patch, other):
        if other.label != patch.label or other.image == patch.image:
            return False
        if _at_same_place(patch, other, pixels.shape[1:3]):
            return True
        return likeness(squares[patch.image], squares[other.image]) >= least[patch.image]

    return [
        patch._replace(twins=sum(are_twins(patch, other) for other in convincing))
        if patch in convincing
        else patch
        for patch in patches
    ]


def _alike_by_chance(patch, pixels, labels):
    """How alike twins have to be: more than nine of ten of the same places in other classes are, so
    that a background which all images share does not count.
    """
    others = np.random.default_rng(0).permutation(np.flatnonzero(labels != patch.label))[:HOSTS]
    own, place = pixels[patch.image, patch.rows, patch.columns], np.s_[patch.rows, patch.columns]
    return max(ALIKE, float(np.quantile([likeness(own, pixels[i][place]) for i in others], 0.9)))


def _at_same_place(patch, other, size):
    """Whether two patches lie at (nearly) the same place, or both at the same edge of an image."""
    pairs = list(zip(size, (patch.rows, patch.columns), (other.rows, other.columns)))
    near = all(abs(a.start - b.start) <= (a.stop - a.start) // 4 for _, a, b in pairs)
    return near or any(a.start == b.start == 0 or a.stop == b.stop == side for side, a, b in pairs)


def likeness(patch: np.ndarray, other: np.ndarray) -> float:
    """The share of pixels, 0 to 1, that two patches (h, w, channels) have in common at the best
    shift of up to half of their sides: they differ by less than SAME_COLOUR in every channel.
    """
    small = [cv2.resize(p, (TINY, TINY), interpolation=cv2.INTER_AREA) for p in (patch, other)]
    first, second = (np.reshape(p, (TINY, TINY, -1)) for p in small)
    shifts, best = range(-TINY // 2, TINY // 2 + 1), 0.0
    for y in shifts:
        for x in shifts:
            a = first[max(0, y) : TINY + min(0, y), max(0, x) : TINY + min(0, x)]
            b = second[max(0, -y) : TINY + min(0, -y), max(0, -x) : TINY + min(0, -x)]
            same = np.sum(np.abs(a - b).max(-1) < SAME_COLOUR)
            best = max(best, float(same / TINY**2))
    return best
