"""Is an image there twice? Also resized, compressed again, shifted by a pixel or turned grey."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

THUMB = 40  # side of the thumbnails that are compared, pixels
ALIKE = 0.92  # correlation of the descriptors of two images from which they are compared closely
# Mean squared difference of two images, relative to their variance, below which they are the same.
# In Kaggle's photos it is 0.002 at most where a photo is there twice, 0.02 at most after a shift by
# a pixel, a change of size or of quality, and 0.09 at least between two shots of one cat.
SAME = 0.04
TILE = 64  # descriptors multiplied at once; OpenBLAS shares out larger products, and loses time


@dataclass
class ImageFacts:
    """What is needed to compare, split and save an intact image."""

    sha256: str  # of its file
    pixels: int  # width x height
    suffix: str  # that its file in the result needs
    note: str  # how it has to be converted; empty: its file stays as it is
    thumb: np.ndarray  # (THUMB, THUMB) uint8 luminance
    colour: np.ndarray  # (3,) float64 mean B, G, R


def group_duplicates(images: Sequence[ImageFacts]) -> list[list[int]]:
    """Lists of indices of images that show the same, also by way of a third. Most hold one index.

    Images with the same `sha256` are duplicates; others are if their thumbnails agree up to
    compression, resizing and a shift of 2.5 % of the width.
    """
    by_hash = defaultdict(list)
    for i, image in enumerate(images):
        by_hash[image.sha256].append(i)
    unique = [images[indices[0]] for indices in by_hash.values()]
    parent = list(range(len(unique)))

    def root(i):
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    if unique:
        for i, j in alike_pairs(np.stack([image.thumb for image in unique])):
            if root(i) != root(j) and same_image(unique[i], unique[j]):
                parent[root(i)] = root(j)
    groups = defaultdict(list)
    for i, indices in enumerate(by_hash.values()):
        groups[root(i)] += indices
    return list(groups.values())


def alike_pairs(thumbs: np.ndarray, tile: int = TILE) -> Iterator[tuple[int, int]]:
    """Index pairs of the thumbnails (n, THUMB, THUMB) whose descriptors correlate.

    A descriptor holds the lowest 8 x 8 frequencies of the cosine transform without the mean, scaled
    to length 1. Like the perceptual hash of Zauner 2010 (Implementation and benchmarking of
    perceptual image hash functions), it survives resizing, compression and a small shift.
    """
    small = thumbs.reshape(-1, 20, 2, 20, 2).mean((2, 4), dtype=np.float32)
    basis = np.cos(np.pi * np.arange(8)[:, None] * (np.arange(20) + 0.5) / 20) / np.sqrt(10)
    basis[0] /= np.sqrt(2)
    basis = basis.astype(np.float32)
    low = (basis @ small @ basis.T).reshape(-1, 64)[:, 1:]
    low /= np.linalg.norm(low, axis=1, keepdims=True).clip(0.1)  # 0.1: a flat image is like none
    # Two unit vectors that correlate differ by little in each coordinate: sorted by the widest one,
    # most pairs are never compared.
    widest = low.std(axis=0).argmax()
    order = np.argsort(low[:, widest])
    low = low[order]
    key = low[:, widest]
    reach = np.sqrt(2 - 2 * ALIKE)
    for i in range(0, len(low), tile):
        last = key[min(i + tile, len(key)) - 1]
        for j in range(i, np.searchsorted(key, last + reach), tile):
            alike = low[i : i + tile] @ low[j : j + tile].T > ALIKE
            for a, b in np.argwhere(np.triu(alike, 1) if i == j else alike) if alike.any() else ():
                yield order[i + a], order[j + b]


def same_image(a: ImageFacts, b: ImageFacts) -> bool:
    """Whether two thumbnails agree, pixel by pixel, at the shift of up to 2.5 % that fits best."""
    if min(np.ptp(a.colour), np.ptp(b.colour)) > 4 and np.abs(a.colour - b.colour).max() > 8:
        return False  # both have colours, and not the same
    x, y = (
        cv2.GaussianBlur(cv2.resize(image.thumb.astype(np.float32), None, fx=4, fy=4), (0, 0), 3)
        for image in (a, b)
    )
    core = x[4:-4, 4:-4]
    difference = cv2.matchTemplate(y, core, cv2.TM_SQDIFF).min() / core.size
    return bool(difference < SAME * min(x.var(), y.var()))
