"""Images that show the same as images of another set."""

import hashlib
from typing import NamedTuple

import cv2
import numpy as np
from scipy.stats import fisher_exact

from ..files.duplicates import THUMB, ImageFacts, group_duplicates

# Origin of these: the most similar of 5,000 other photos agree with 500 validation photos at a
# correlation of details of 0.51 at most, changed copies at 0.6 and more.
DETAILS = 0.6  # correlation of the details of two images that show the same
NATURAL = 0.01  # of the training images have a twin among them
CHANCE = 0.001  # that there are as many copies although no image was trained on (Fisher's test)
SAMPLE = 500  # of the training images, that are examined for twins
CANDIDATES = 3  # training images that each is compared with
COMPARED = 48  # pixels, the side at which changed copies are compared


class Copy(NamedTuple):
    """An image that is examined and was trained on."""

    examined: int
    trained: int
    mirrored: bool


def copies(pixels: np.ndarray, trained: np.ndarray) -> list[Copy]:
    """A list of Copy: images (n, h, w, c) that show the same as one of the `trained`, or its mirror
    image, from 0 to 255: found as debugcnn.separator finds duplicates, or, where an image was
    rotated a little, cropped or brightened, by `is_copy`. Where as many of the training images are
    alike among themselves, as drawings can be, only equal pixels count.
    """
    trained = np.asarray(trained)
    by_image, twins = _duplicates(pixels, trained)
    few_twins = len(twins) <= NATURAL * len(trained)
    if not (few_twins or _are_more(len(by_image), len(pixels), len(twins), len(trained))):
        equal = {
            i: [c for c in found if _is_equal(pixels, trained, c)] for i, found in by_image.items()
        }
        return [found[0] for _, found in sorted(equal.items()) if found]
    found = {i: of_image[0] for i, of_image in by_image.items()}
    others = np.setdiff1d(np.arange(len(pixels)), list(found))
    for copy in _changed_beyond_chance(pixels, trained, others, twins):
        found[copy.examined] = copy
    return [copy for _, copy in sorted(found.items())]


def _duplicates(pixels, trained):
    """{image: its copies}, and the training images that have a twin among themselves."""
    sets = [pixels, trained, trained[:, :, ::-1]]
    facts = [_facts(image) for images in sets for image in images]
    found, twins = {}, set()
    for group in group_duplicates(facts):
        examined = [i for i in group if i < len(pixels)]
        others = sorted(i - len(pixels) for i in group if i >= len(pixels))
        alike = {i % len(trained) for i in others}
        twins |= alike if len(alike) > 1 else set()
        for i in examined if others else ():
            found[i] = [Copy(i, k % len(trained), k >= len(trained)) for k in others]
    return found, twins


def _changed_beyond_chance(pixels, trained, others, twins):
    """Changed copies among `others`, if there are more than twins among the training images."""
    changed = _changed_copies(pixels[others], trained) if len(others) else []
    if not changed:
        return []
    sample = np.setdiff1d(np.arange(len(trained)), list(twins))
    sample = sample[:: max(1, len(sample) // SAMPLE)]
    alike = _changed_copies(trained[sample], trained, itself=sample) if len(sample) else []
    if not _are_more(len(changed), len(others), len(alike), len(sample)):
        return []
    return [copy._replace(examined=int(others[copy.examined])) for copy in changed]


def _are_more(copies, count, twins, trained):
    """Whether copies among `count` images are more frequent than twins among those trained on."""
    table = [[copies, count - copies], [twins, trained - twins]]
    return not twins or fisher_exact(table, "greater").pvalue < CHANCE


def _changed_copies(pixels, trained, itself=None):
    """A list of Copy: for each image the most similar training image, if it is its copy; not the
    one that it is itself.
    """
    ours, theirs = _grey(pixels), _grey(trained)
    theirs = np.concatenate([theirs, theirs[:, :, ::-1]])
    small = [_unit_vectors([_reduced(p, 16) for p in images]) for images in (ours, theirs)]
    found = []
    for i, likeness in enumerate(small[0] @ small[1].T):
        if itself is not None:
            likeness[[itself[i], itself[i] + len(trained)]] = -1
        for k in np.argsort(-likeness)[:CANDIDATES]:
            if likeness[k] > 0.5 and is_copy(ours[i], theirs[k]):
                found.append(Copy(i, int(k % len(trained)), bool(k >= len(trained))))
                break
    return found


def _grey(pixels):
    """(n, side, side) float32, small, for comparing."""
    side = min(COMPARED, *np.shape(pixels)[1:3])
    return np.stack([_reduced(np.float32(image).mean(-1), side) for image in pixels])


def _reduced(image, side):
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _unit_vectors(images):
    flat = np.reshape(images, (len(images), -1))
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def is_copy(image: np.ndarray, other: np.ndarray) -> bool:
    """Whether two grey images (side, side), 0 to 255, show the same when the first is shifted,
    rotated, stretched and brightened as it fits best (Evangelidis and Psarakis, 2008, Parametric
    image alignment using enhanced correlation coefficient maximization): their details, which are
    left when a blurred copy is subtracted, have to agree.
    """
    size, warp = image.shape[::-1], np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
    try:
        agreement, warp = cv2.findTransformECC(
            other, image, warp, cv2.MOTION_AFFINE, criteria, None, 5
        )
    except cv2.error:  # no structure to align by
        return False
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(np.ones_like(image), warp, size, flags=flags) > 0.99
    if agreement < 0.85 or seen.mean() < 0.4:
        return False
    aligned = cv2.warpAffine(image, warp, size, flags=flags)
    details = [(p - cv2.GaussianBlur(p, (0, 0), 2))[seen] for p in (aligned, other)]
    return bool(np.corrcoef(*details)[0, 1] > DETAILS)


def _is_equal(pixels, trained, copy):
    other = np.float32(trained[copy.trained])
    other = other[:, ::-1] if copy.mirrored else other
    return np.abs(np.float32(pixels[copy.examined]) - other).max() <= 2


def _facts(image):
    pixels = np.uint8(np.clip(image, 0, 255))
    colours = np.repeat(pixels, 3, -1) if pixels.shape[-1] == 1 else pixels[..., :3]
    grey = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2GRAY)
    thumb = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    means = np.array(colours[..., ::-1].mean((0, 1)))
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return ImageFacts(digest, pixels.size, "", "", thumb, means)
