"""What the photos have to do with it: copies, wrong labels, and marks that give a class away."""

import hashlib
from typing import NamedTuple

import cv2
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logsumexp
from scipy.stats import binomtest, fisher_exact

from debugcnn.files.intact import THUMB, Photo, group_duplicates

from .inputs import SCREENS, ask, screened
from .statistics import SURE, auc

EMPTY = 2  # of 255: what the pixels of a photo without anything on it differ by
ABRUPT = 0.2  # of the pixels beside what is cut off, at most, are of its colour
NATURAL = 0.01  # of the photos trained on have a twin among them
CHANCE = 0.001  # that there are as many copies although no photo was trained on (Fisher's test)
SAMPLE = 500  # of the photos trained on, that are looked at for twins
CANDIDATES = 3  # photos that each is compared with
DETAILS = 0.6  # correlation of the details of two photos that show the same
PATCH = 0.2  # of a photo's sides
HOSTS = 32  # photos that a patch is pasted into
TURNS_MOST = 0.8  # of them
ALIKE = 0.4  # of the pixels of two patches
SAME = 24  # values of a pixel, of 255
LITTLE = 0.05  # accuracy: what costs less on some photos is not tried on all
CUE = 0.75  # skill with which brightness and the like alone tell classes, or other photos, apart
ALONE = 0.2  # of what it tells of one class, at most, it may tell of the others
FRAME = 0.15  # of the sides: the outer part of a photo, where that is measured
SMALLER = 0.8, 0.65, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15  # times the sides of a photo
NOISES = 3, 6, 10, 15, 22, 32, 45, 65  # standard deviations, of 255
TINY = 12  # pixels, at which patches are compared


def blank(photos):
    """(n,) bool: photos (n, h, w, c) with nothing on them, as where a file could not be read."""
    return np.ptp(photos, (1, 2)).max(-1) <= EMPTY


def cut_short(photos):
    """(n,) bool: photos (n, h, w, c) whose lowest quarter at least is of one colour, which ends at
    once all across, as where a file ends too early; a plain ground behind a thing does not.
    """
    flat = np.abs(photos - photos[:, -1:, :1]).max(-1) <= EMPTY  # (n, h, w)
    rows = np.argmin(flat.all(2)[:, ::-1], 1)  # how many at the bottom are
    above = flat[np.arange(len(photos)), -rows - 1].mean(1)
    return (rows >= photos.shape[1] // 4) & (above < ABRUPT)


def fewer(right, some):
    """The chance that as few of `some` photos are right, if they are like the others (Fisher)."""
    counts = [[np.sum(right & part), np.sum(~right & part)] for part in (some, ~some)]
    return float(fisher_exact(counts, "less").pvalue)


class Copy(NamedTuple):
    """A photo that is examined and was trained on."""

    examined: int
    trained: int
    mirrored: bool


def leak(photos, trained):
    """A list of Copy: photos (n, h, w, c) that show the same as one of the `trained`, or its mirror
    image, from 0 to 255: found as data_separator.py finds duplicates, or, where a photo was turned
    a little, cropped or brightened, by `is_copy`. Where as many of the trained ones are alike among
    themselves, as drawings can be, only the same pixels count.
    """
    trained = np.asarray(trained)
    sets = [photos, trained, trained[:, :, ::-1]]
    marks = [_fingerprint(photo) for some in sets for photo in some]
    found, twins = {}, set()
    for group in group_duplicates(marks):
        examined = [i for i in group if i < len(photos)]
        others = sorted(i - len(photos) for i in group if i >= len(photos))
        alike = {i % len(trained) for i in others}
        twins |= alike if len(alike) > 1 else set()
        for i in examined if others else ():
            found[i] = [Copy(i, k % len(trained), k >= len(trained)) for k in others]
    natural = len(twins) <= NATURAL * len(trained)
    if not (natural or _more(len(found), len(photos), len(twins), len(trained))):
        found = {
            i: [c for c in copies if _is_same(photos, trained, c)] for i, copies in found.items()
        }
        return [copies[0] for _, copies in sorted(found.items()) if copies]
    others = np.setdiff1d(np.arange(len(photos)), list(found))
    changed = _changed_copies(photos[others], trained) if len(others) else []
    if changed:
        some = np.setdiff1d(np.arange(len(trained)), list(twins))
        some = some[:: max(1, len(some) // SAMPLE)]
        alike = _changed_copies(trained[some], trained, itself=some) if len(some) else []
        if _more(len(changed), len(others), len(alike), len(some)):
            for copy in changed:
                i = int(others[copy.examined])
                found[i] = [copy._replace(examined=i)]
    return [copies[0] for _, copies in sorted(found.items())]


def _more(copies, count, twins, trained):
    """Whether there are more copies among `count` photos than twins among those trained on."""
    table = [[copies, count - copies], [twins, trained - twins]]
    return not twins or fisher_exact(table, "greater").pvalue < CHANCE


def _changed_copies(photos, trained, itself=None):
    """A list of Copy: for each photo the most similar of the trained ones, if it is its copy; not
    the one that it is itself.
    """
    own, others = _grey(photos), _grey(trained)
    others = np.concatenate([others, others[:, :, ::-1]])
    small = [_unit(np.stack([_reduced(p, 16) for p in some])) for some in (own, others)]
    found = []
    for i, likeness in enumerate(small[0] @ small[1].T):
        if itself is not None:
            likeness[[itself[i], itself[i] + len(trained)]] = -1
        for k in np.argsort(-likeness)[:CANDIDATES]:
            if likeness[k] > 0.5 and is_copy(own[i], others[k]):
                found.append(Copy(i, int(k % len(trained)), bool(k >= len(trained))))
                break
    return found


def _grey(photos):
    """(n, side, side) float32, small, for comparing."""
    side = min(48, *np.shape(photos)[1:3])
    return np.stack([_reduced(np.float32(photo).mean(-1), side) for photo in photos])


def _reduced(picture, side):
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def _unit(pictures):
    """Flat, less their means, of length 1."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def is_copy(one, other):
    """Whether two grey pictures (side, side), from 0 to 255, show the same when the one is shifted,
    turned, stretched and brightened as it fits best (Evangelidis and Psarakis 2008, enhanced
    correlation): their details, what is left when they are blurred and the blurred is taken off,
    have to agree.

    Of 500 validation photos and the three most similar of 5,000 others, the best agree at 0.51.
    """
    shape, moved = one.shape[::-1], np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
    try:
        agreed, moved = cv2.findTransformECC(
            other, one, moved, cv2.MOTION_AFFINE, criteria, None, 5
        )
    except cv2.error:  # nothing to hold on to
        return False
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(np.ones_like(one), moved, shape, flags=flags) > 0.99
    if agreed < 0.85 or seen.mean() < 0.4:
        return False
    aligned = cv2.warpAffine(one, moved, shape, flags=flags)
    details = [(p - cv2.GaussianBlur(p, (0, 0), 2))[seen] for p in (aligned, other)]
    return bool(np.corrcoef(*details)[0, 1] > DETAILS)


def _is_same(photos, trained, copy):
    other = np.float32(trained[copy.trained])
    other = other[:, ::-1] if copy.mirrored else other
    return np.abs(np.float32(photos[copy.examined]) - other).max() <= 2


def _fingerprint(photo):
    pixels = np.uint8(np.clip(photo, 0, 255))
    colour = np.repeat(pixels, 3, -1) if pixels.shape[-1] == 1 else pixels[..., :3]
    thumb = cv2.resize(
        cv2.cvtColor(np.ascontiguousarray(colour), cv2.COLOR_RGB2GRAY),
        (THUMB, THUMB),
        interpolation=cv2.INTER_AREA,
    )
    means = np.array(colour[..., ::-1].mean((0, 1)))
    return Photo(hashlib.sha256(pixels.tobytes()).hexdigest(), pixels.size, "", "", thumb, means)


class Memory(NamedTuple):
    """Accuracy on the photos that were trained on, each class counting as among the others, and on
    these.
    """

    trained: float
    others: float
    low: float  # of the difference, at SURE standard errors


def memorised(right_trained, labels_trained, right_others, labels_others):
    """A Memory, from whether each photo is right (n,) and the labels (n,). A class that was not
    trained on, or is not among the others, does not count.
    """
    sets = (right_trained, labels_trained), (right_others, labels_others)
    classes = np.intersect1d(labels_trained, labels_others)
    counts = np.array([np.sum(labels_others == k) for k in classes])
    weights, means, squares = counts / counts.sum(), [], 0
    for right, labels in sets:
        parts = [np.asarray(right, float)[labels == k] for k in classes]
        means.append(float(sum(w * part.mean() for w, part in zip(weights, parts))))
        squares += sum(w**2 * part.var() / len(part) for w, part in zip(weights, parts))
    low = means[0] - means[1] - SURE * np.sqrt(squares + 1e-6)
    return Memory(*means, float(low))


class Noise(NamedTuple):
    """Mistakes among the photos of which the net is surest, and of which it is least sure, and what
    share of wrong labels explains them best.
    """

    count: int  # photos in the surest third
    wrong: int  # of them
    low: float  # of that share, at SURE standard errors
    ratio: float  # of the two shares of mistakes
    near: float  # photos whose margin is less than a quarter of the median one
    share: float  # of labels that are wrong, if the answers are as sure as they should be
    gain: float  # in log-likelihood, by that share
    surest: list  # the mistakes, the surest first


def label_noise(logits, labels):
    """A Noise. A good net's own mistakes have small margins; wrong labels have any.

    Only of a net that seldom hesitates (`near`) can that be said: many mistakes with large margins
    are also what a weak net makes. The scale of the logits does not matter (compare Northcutt,
    Jiang and Chuang 2021, Confident learning, section 3, which takes the probabilities).

    Of any net: however its answers are softened (Guo et al. 2017, temperature), those of which it
    is surest are right nearly always; where a share of the labels is wrong, they are not.
    """
    ordered = np.sort(logits, 1)
    margin = ordered[:, -1] - ordered[:, -2]
    order = np.argsort(-margin)
    wrong = logits.argmax(1) != labels
    third = max(1, len(labels) // 3)
    top, bottom = order[:third], order[-third:]
    count = int(wrong[top].sum())
    low = binomtest(count, third).proportion_ci(0.999, "wilson").low
    ratio = wrong[top].mean() / max(wrong[bottom].mean(), 1 / third)
    near = np.mean(margin < 0.25 * np.median(margin))
    surest = [int(i) for i in order if wrong[i]]
    share, gain = _wrong_share(np.float64(logits), labels)
    return Noise(third, count, float(low), float(ratio), float(near), share, gain, surest)


def _wrong_share(logits, labels):
    """(share, gain): the most probable share of wrong labels, any other class being as likely as
    the next, and by how much that and a temperature explain the labels better than one alone.
    """
    classes = logits.shape[1]
    given = logits / (logits.std() or 1)

    def unlikely(weights):
        scores = given * np.exp(weights[0])
        right = scores[np.arange(len(labels)), labels] - logsumexp(scores, axis=1)
        drawn = expit(weights[1]) if len(weights) > 1 else 0  # at random, some of them right
        return -np.sum(np.log(np.maximum((1 - drawn) * np.exp(right) + drawn / classes, 1e-12)))

    starts = [(scale, drawn) for scale in (0, 1.5, 3) for drawn in (-4, -1.5)]
    alone = min(minimize(unlikely, [s], method="Nelder-Mead").fun for s, _ in starts[::2])
    best = min((minimize(unlikely, s, method="Nelder-Mead") for s in starts), key=lambda f: f.fun)
    share = expit(best.x[1]) * (classes - 1) / classes
    return float(share), float(max(0.0, alone - best.fun))


class Loss(NamedTuple):
    """What an intervention on the photos costs."""

    accuracy: float  # mean over the classes
    left: float  # after it
    low: float  # of the loss, at SURE standard errors
    worst: tuple  # (class, its loss): the class that loses most
    cue: float | None  # how well what is taken away tells the classes apart; None: not measured


def interventions(photos):
    """{what is done: a function of photos that does it}, each of which takes one thing away that a
    net may cling to.

    Photos are (n, h, w, c) from 0 to 255. What is covered gets the mean colour of all `photos`, to
    whose mean brightness and contrast, too, others are brought.
    """
    height, width, channels = photos.shape[1:]
    mean = photos.mean((0, 1, 2))
    border = max(1, round(height * 0.08)), max(1, round(width * 0.08))
    y, x = max(1, round(height * 0.22)), max(1, round(width * 0.22))
    corners = {
        "top left": np.s_[:, :y, :x],
        "top right": np.s_[:, :y, -x:],
        "bottom left": np.s_[:, -y:, :x],
        "bottom right": np.s_[:, -y:, -x:],
    }
    small = max(8, height // 2), max(8, width // 2)

    def covering(*places):
        def cover(some):
            some = some.copy()
            for place in places:
                some[place] = mean
            return some

        return cover

    level, contrast = photos.mean(), photos.std((1, 2, 3)).mean()

    def of_equal_brightness(some):
        each = dict(axis=(1, 2, 3), keepdims=True)
        equal = (some - some.mean(**each)) / np.maximum(some.std(**each), 1)
        return np.clip(level + contrast * equal, 0, 255)

    def of_equal_tint(some):
        colours = some[..., :3].mean((1, 2), keepdims=True)
        tint = colours - colours.mean(-1, keepdims=True)
        return np.clip(some - np.pad(tint, [(0, 0)] * 3 + [(0, channels - 3)]), 0, 255)

    def without_colour(some):
        grey = np.repeat(some[..., :3].mean(-1, keepdims=True), 3, -1)
        return np.concatenate([grey, some[..., 3:]], -1)

    y, x = border
    done = {
        "border covered": covering(np.s_[:, :y], np.s_[:, -y:], np.s_[:, :, :x], np.s_[:, :, -x:]),
        "middle covered": covering(_middle(height, width, 0.54)),  # as much as of the border
        "centre covered": covering(_middle(height, width, 0.22)),  # as much as of a corner
    }
    done |= {f"{corner} corner covered": covering(place) for corner, place in corners.items()}
    done["brightness equalised"] = of_equal_brightness
    if channels >= 3:
        done["tint equalised"] = of_equal_tint
        done["colour taken away"] = without_colour
    done["sharpness taken away"] = lambda some: np.stack([_blurred(p, small) for p in some])
    done["file quality equalised"] = lambda some: np.stack([_compressed(p) for p in some])
    return done


# What a covered place is compared with: a net that sees the object loses more by its middle.
INSTEAD = {"border covered": "middle covered"} | {
    f"{corner} corner covered": "centre covered"
    for corner in ("top left", "top right", "bottom left", "bottom right")
}


def _middle(height, width, share):
    y, x = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return np.s_[:, y : height - y, x : width - x]


def cues(photos):
    """{what is taken from the photos: how much of it each photo has, (n,)}, for `interventions`.

    It is measured on the outer part of each photo (FRAME of the sides), where the light, a tint, or
    the quality of the file show as everywhere else, and the colours of the object as a rule do not.
    """
    colours = photos[..., :3] if photos.shape[3] >= 3 else np.repeat(photos[..., :1], 3, -1)
    height, width = photos.shape[1:3]
    y, x = max(1, round(FRAME * height)), max(1, round(FRAME * width))
    outside = np.ones((height, width), bool)
    outside[y : height - y, x : width - x] = False
    grey = colours.mean(-1)
    steps, frame = np.abs(np.diff(grey, axis=2)), outside[:, 1:]
    grid = frame & (np.arange(1, width) % 8 == 0)
    mean = steps[:, frame].mean(1)
    grid = steps[:, grid].mean(1) if grid.any() else mean
    return {
        "brightness equalised": grey[:, outside].mean(1),
        "tint equalised": (colours[..., 0] - colours[..., 2])[:, outside].mean(1),
        "colour taken away": np.ptp(colours, axis=-1)[:, outside].mean(1),
        "sharpness taken away": mean / np.maximum(grey[:, outside].std(1), 1),
        "file quality equalised": grid / np.maximum(mean, 1e-6),
    }


class Unlike(NamedTuple):
    """What tells photos from those that were trained on, and what that costs."""

    what: str  # in LOOKS
    told: float  # area under the curve
    alike: object  # a function that makes photos that were trained on as these are
    loss: Loss  # of accuracy on photos trained on, when they are made so


# What photos look like: the mean of their pixels, their standard deviation, red less blue, the
# range of colours in a pixel, and steps between neighbours over that deviation.
LOOKS = "light", "contrast", "tint", "colour", "sharpness"


def unlike_training(model, photos, labels, train, value_range=(0, 255), output=None):
    """A list of Unlike, what costs most first: how `photos` (n, h, w, c) differ from those that
    were trained on, `train`, (photos, labels), of which as many of each class are taken as are
    among the others. What cannot be told of most photos is left out, and so are more colours, which
    cannot be added to those trained on.
    """
    some = _as_frequent(train[1], labels)
    trained, labels = np.float32(train[0][some]), train[1][some]
    if not len(trained):
        return []
    own, theirs = _looks(photos), _looks(trained)
    right, found = ask(model, trained, value_range, output).argmax(1) == labels, []
    for look, alike in _as_these_are(photos, trained).items():
        both = np.concatenate([own[look], theirs[look]])
        told = _area(both, np.arange(len(both)) < len(photos))
        if told > CUE:
            after = ask(model, alike(trained), value_range, output).argmax(1) == labels
            found.append(Unlike(look, float(told), alike, _loss(right, after, labels, None)))
    return sorted(found, key=lambda one: -one.loss.low)


def _as_frequent(trained, labels, most=SAMPLE):
    """Indices of the `trained` labels: of each class the first ones, with the same share as among
    the `labels`, as many as there are; a class that is in one of them only does not count.
    """
    classes = np.intersect1d(trained, labels)
    shares = np.array([np.mean(labels == k) for k in classes])
    counts = np.array([np.sum(trained == k) for k in classes])
    total = min([most / max(shares.sum(), 1e-9), *(counts / shares)])
    parts = [np.flatnonzero(trained == k)[: int(s * total)] for k, s in zip(classes, shares)]
    return np.sort(np.concatenate([*parts, np.zeros(0, int)]))


def _looks(photos):
    """{look: (n,)} for LOOKS."""
    colours = photos[..., :3] if photos.shape[3] >= 3 else photos[..., :1]
    grey = colours.mean(-1)
    spread = grey.std((1, 2))
    steps = np.abs(np.diff(grey, axis=2)).mean((1, 2))
    values = (
        *(grey.mean((1, 2)), spread, (colours[..., 0] - colours[..., -1]).mean((1, 2))),
        *(np.ptp(colours, -1).mean((1, 2)), steps / np.maximum(spread, 1)),
    )
    return dict(zip(LOOKS, values))


def _as_these_are(photos, trained):
    """{look: a function that gives the `trained` photos that of the others}."""
    own, theirs = ({k: np.median(v) for k, v in _looks(p).items()} for p in (photos, trained))
    middle = theirs["light"]

    def with_contrast(some):
        return (some - middle) * own["contrast"] / max(theirs["contrast"], 1) + own["light"]

    changes = dict.fromkeys(
        ("light", "contrast"), lambda some: np.clip(with_contrast(some), 0, 255)
    )
    if photos.shape[3] >= 3:
        means = (np.median(p.mean((1, 2)), 0)[:3] for p in (photos, trained))
        shift = np.subtract(*means)
        shift = np.r_[shift - shift.mean(), np.zeros(photos.shape[3] - 3)]
        changes["tint"] = lambda some: np.clip(some + shift, 0, 255)
        if own["colour"] < theirs["colour"]:
            less = own["colour"] / max(theirs["colour"], 1)
            changes["colour"] = lambda some: _less_colourful(some, less)
    # Blurred, or with noise, which makes steps between neighbours, too: as much as fits best.
    if own["sharpness"] < theirs["sharpness"]:
        sizes = [[max(2, round(s * side)) for side in photos.shape[1:3]] for s in SMALLER]
        ways = [
            lambda p, size=size: np.stack([_blurred(photo, size) for photo in p]) for size in sizes
        ]
    else:
        ways = [lambda p, spread=spread: _noisy(p, spread) for spread in NOISES]
    sharp = [np.median(_looks(way(trained[:64]))["sharpness"]) for way in ways]
    changes["sharpness"] = ways[int(np.argmin(np.abs(np.subtract(sharp, own["sharpness"]))))]
    return changes


def _noisy(photos, spread):
    noise = np.random.default_rng(0).normal(0, spread, photos.shape)
    return np.float32(np.clip(photos + noise, 0, 255))


def _less_colourful(photos, share):
    colours, rest = photos[..., :3], photos[..., 3:]
    grey = colours.mean(-1, keepdims=True)
    return np.concatenate([grey + share * (colours - grey), rest], -1)


def _blurred(photo, small):
    height, width, channels = photo.shape
    reduced = cv2.resize(photo, small[::-1], interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR).reshape(photo.shape)


def _compressed(photo, quality=15):
    pixels = np.uint8(np.clip(np.rint(photo), 0, 255))
    if pixels.shape[-1] not in (1, 3):
        return photo
    flag = cv2.IMREAD_COLOR if pixels.shape[-1] == 3 else cv2.IMREAD_GRAYSCALE
    data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(data, flag).reshape(photo.shape)
    return np.float32(decoded[..., ::-1])


def shortcut(
    model, photos, labels, value_range=(0, 255), output=None, given=None, whole_only=False
):
    """{intervention: Loss}: how much accuracy goes with each thing that is taken away; with
    `whole_only` of those that the whole photo has, no covered places.

    Sound nets lose by some of them, too. So of what the whole photo has, such as brightness, it is
    also measured how well it tells the classes apart by itself: only where it does so, with a skill
    above CUE, can it be a shortcut, and only then is it taken away.
    """
    given = ask(model, photos, value_range, output) if given is None else given
    before = given.argmax(1) == labels
    amounts, losses = cues(photos), {}
    few, some = (screened(labels, every) for every in SCREENS)
    for what, change in interventions(photos).items():
        cue, clear = _tells(amounts[what], labels) if what in amounts else (None, True)
        if not clear or (whole_only and cue is None):
            continue
        after, asked = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
        # The next photos only if it costs something on those before.
        for stage, least in ((few, 0), (some, LITTLE), (np.ones(len(labels), bool), 1)):
            new = stage & ~asked
            if new.any():
                answers = ask(model, change(photos[new]), value_range, output).argmax(1)
                after[new] = answers == labels[new]
            asked = stage
            losses[what] = loss = _loss(before[asked], after[asked], labels[asked], cue)
            if loss.accuracy - loss.left <= least:
                break
    return losses


def _tells(amounts, labels):
    """The best area under the curve of one class against the others, in either direction, and
    whether it is above CUE, also for as few photos as there are. Of three classes or more it has to
    be one that is told: where the others differ in it, too, it belongs to the things themselves.
    """
    best, clear, told = 0.5, False, None
    classes = np.unique(labels)
    for k in classes:
        one = labels == k
        area, count = _area(amounts, one), one.sum() * (~one).sum()
        error = np.sqrt((len(labels) + 1) / (12 * count)) if count else np.inf  # of chance
        told = k if area > best else told
        best, clear = max(best, area), clear or (area > CUE and area - 0.5 > SURE * error)
    if clear and len(classes) > 2:
        others = labels != told
        rest = max(_area(amounts[others], labels[others] == k) for k in classes if k != told)
        clear = rest - 0.5 < ALONE * (best - 0.5)
    return float(best), bool(clear)


def _area(amounts, one):
    area = auc(amounts, np.int32(one))
    return max(area, 1 - area)


def _loss(before, after, labels, cue):
    present = np.unique(labels)
    lost = np.float64(before) - after
    of_class = [lost[labels == k].mean() for k in present]
    errors = [lost[labels == k].var() / np.sum(labels == k) for k in present]
    mean = [np.mean([right[labels == k].mean() for k in present]) for right in (before, after)]
    low = np.mean(of_class) - SURE * np.sqrt(np.sum(errors)) / len(present)
    worst = int(np.argmax(of_class))
    return Loss(*map(float, mean), float(low), (int(present[worst]), float(of_class[worst])), cue)


class Patch(NamedTuple):
    """The part of a photo that its answer stands on, and what it does to other photos."""

    photo: int
    label: int
    rows: slice
    columns: slice
    turned: float  # share of the photos of other classes that it turns into its class
    twins: int  # others of this class that turn as many, and show the same or lie there, too


def transplant(model, photos, labels, value_range=(0, 255), output=None, given=None, twins=0):
    """A list of Patch, the one with the most twins first.

    Of each class the surest right photos are taken, and of each of them the square (PATCH of the
    sides) whose covering costs the answer most. This square is pasted at the same place into HOSTS
    photos of other classes. A part of an animal turns some of them; a mark turns nearly all, and
    looks the same in several photos (more than what else lies there), or lies at the same place or
    edge, as a date does. Where it is
    does not matter, nor how many photos have it. A class is left once none of its patches can have
    as many as `twins`, and a patch once it cannot turn TURNS_MOST.
    """
    given = ask(model, photos, value_range, output) if given is None else given
    right = given.argmax(1) == labels
    classes = np.unique(labels[right])
    recall = [right[labels == k].mean() for k in classes]
    classes = classes[np.argsort(recall)[::-1][:8]]
    each = 8 if len(classes) <= 4 else 4
    mean, found = photos.mean((0, 1, 2)), []
    for k in classes:
        margin = _margin(given, k)
        others = np.flatnonzero((labels != k) & right)
        hosts = np.random.default_rng(0).permutation(others)[:HOSTS]
        own = np.flatnonzero((labels == k) & right)
        own, strong = own[np.argsort(-margin[own])][: each if len(hosts) else 0], 0
        for turn, i in enumerate(own):
            if turn and strong + len(own) - turn <= twins:
                break
            rows, columns = _stands_on(
                photos[i], mean, lambda some, k=k: _margin(ask(model, some, value_range, output), k)
            )
            turned = []
            for some in np.array_split(hosts, 2):
                pasted = photos[some].copy()
                pasted[:, rows, columns] = photos[i, rows, columns]
                if len(some):
                    turned.extend(ask(model, pasted, value_range, output).argmax(1) == k)
                if twins and turned.count(False) > (1 - TURNS_MOST) * len(hosts):
                    break
            strong += np.mean(turned) >= TURNS_MOST
            found.append(Patch(int(i), int(k), rows, columns, float(np.mean(turned)), 0))
    strong = [patch for patch in found if patch.turned >= TURNS_MOST]
    pixels = {patch.photo: photos[patch.photo, patch.rows, patch.columns] for patch in strong}
    least = {patch.photo: _alike_by_chance(patch, photos, labels) for patch in strong}
    found = [
        patch._replace(
            twins=sum(
                other.label == patch.label
                and other.photo != patch.photo
                and (
                    _same_place(patch, other, photos.shape[1:3])
                    or alike(pixels[patch.photo], pixels[other.photo]) >= least[patch.photo]
                )
                for other in strong
            )
        )
        if patch in strong
        else patch
        for patch in found
    ]
    return sorted(found, key=lambda patch: (-patch.twins, -patch.turned))


def _stands_on(photo, mean, margin):
    """(rows, columns): the square of a photo whose covering leaves the lowest `margin`. Squares lie
    half of their sides apart; those are tried that lie in the best of larger ones, of twice their
    sides, of which one holds each of them.
    """
    sides = [max(2, round(side * PATCH)) for side in photo.shape[:2]]
    starts = [
        np.unique(np.linspace(0, whole - side, round(2 / PATCH) - 1).round().astype(int))
        for whole, side in zip(photo.shape, sides)
    ]
    single = [[slice(start, start + side) for start in s] for s, side in zip(starts, sides)]
    larger = [[slice(p[0].start, p[-1].stop) for p in _threes(parts)] for parts in single]

    def best(rows, columns):
        spots = [(y, x) for y in rows for x in columns]
        covered = np.repeat(photo[None], len(spots), 0)
        for one, spot in zip(covered, spots):
            one[spot] = mean
        return spots[int(margin(covered).argmin())]

    around = best(*larger)
    return best(
        *(
            [one for one in parts if whole.start <= one.start and one.stop <= whole.stop]
            for parts, whole in zip(single, around)
        )
    )


def _threes(parts):
    """Three neighbours each, two of them on; the last three, too."""
    starts = {*range(0, max(1, len(parts) - 2), 2), max(0, len(parts) - 3)}
    return [parts[start : start + 3] for start in sorted(starts)]


def _alike_by_chance(patch, photos, labels):
    """How alike a twin of a patch has to be: ALIKE, and more than nine of ten places of photos of
    other classes, as where most of it is a ground that all photos have.
    """
    others = np.random.default_rng(0).permutation(np.flatnonzero(labels != patch.label))[:HOSTS]
    own, there = photos[patch.photo, patch.rows, patch.columns], np.s_[patch.rows, patch.columns]
    return max(ALIKE, float(np.quantile([alike(own, photos[i][there]) for i in others], 0.9)))


def _same_place(one, other, size):
    """Whether two patches lie at (nearly) the same place, or both at the same edge of a photo."""
    places = list(zip(size, (one.rows, one.columns), (other.rows, other.columns)))
    near = all(abs(a.start - b.start) <= (a.stop - a.start) // 4 for _, a, b in places)
    return near or any(a.start == b.start == 0 or a.stop == b.stop == side for side, a, b in places)


def _margin(logits, k):
    """(n,) how far the logit of class k lies above the highest other."""
    return logits[:, k] - np.delete(logits, k, 1).max(1)


def alike(one, other):
    """The share of pixels that two patches (h, w, c) have in common, at the best shift up to half
    of their sides: those that differ by less than SAME in every channel.
    """
    small = [cv2.resize(p, (TINY, TINY), interpolation=cv2.INTER_AREA) for p in (one, other)]
    first, second = (np.reshape(patch, (TINY, TINY, -1)) for patch in small)
    shifts, best = range(-TINY // 2, TINY // 2 + 1), 0.0
    for y in shifts:
        for x in shifts:
            a = first[max(0, y) : TINY + min(0, y), max(0, x) : TINY + min(0, x)]
            b = second[max(0, -y) : TINY + min(0, -y), max(0, -x) : TINY + min(0, -x)]
            same = np.sum(np.abs(a - b).max(-1) < SAME)
            best = max(best, float(same / TINY**2))
    return best
