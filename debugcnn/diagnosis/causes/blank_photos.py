"""Images without content, or cut short."""

import numpy as np
from scipy.stats import fisher_exact

from .. import pictures
from ..case import BLANK_RANGE
from ..registry import Evidence, Limit, cause

ABRUPT = 0.2  # of the pixels above a cut, at most, have its colour; more is a plain background
CHANCE = 0.001  # that so few images cut short are correct although they are like the others
BLANK_LIMIT = Limit(
    0.01,
    "share of the images",
    "set by hand: one blank image in a hundred is tolerated",
    hint=0.0,
)


@cause(
    "blank_photos",
    stage="files",
    title="images without content, or cut short",
    symptom="worse than reported; some images get the same prediction",
    check="draw what the model is given",
    fix="Find out why these files could not be read, and leave them out.",
    limit=BLANK_LIMIT,
)
def blank_photos(case) -> Evidence:
    count, share = int(case.blank.sum()), float(case.blank.mean())
    several = len(np.unique(case.all_labels[case.blank])) > 1  # one class may be blank by nature
    message = f"{count} of {len(case.blank)} images have one colour all over"
    message += " and are left out of the examination." if case.blank_left_out else "."
    shown = np.flatnonzero(case.blank)
    return Evidence(share, message, clear=several, details=shown)


@blank_photos.measurement(
    limit=BLANK_LIMIT, needs=("finite predictions",), unless=("blank_photos",)
)
def cut_short(case) -> Evidence:
    """Files that end too early; a fault if fewer of them are classified correctly."""
    pixels, correct = case.given.pixels, case.correct
    cut = is_cut_short(pixels)
    share = float(cut.mean())
    if share <= BLANK_LIMIT.value:
        return Evidence(0.0, "The images have content.")
    counts = [[np.sum(correct & part), np.sum(~correct & part)] for part in (cut, ~cut)]
    fewer = fisher_exact(counts, "less").pvalue < CHANCE
    message = f"{cut.sum()} of {len(cut)} images have an empty lowest quarter"
    if not cut.all():
        message += f"; {correct[cut].mean():.1%} of them are classified correctly, and "
        message += f"{correct[~cut].mean():.1%} of the others"
    return Evidence(share, message + ".", clear=bool(fewer), details=np.flatnonzero(cut))


def is_cut_short(pixels: np.ndarray) -> np.ndarray:
    """(n,) bool: images (n, h, w, c) whose lowest quarter at least has one colour that ends
    abruptly all across, as where a file ends too early; a plain background does not.
    """
    flat = np.abs(pixels - pixels[:, -1:, :1]).max(-1) <= BLANK_RANGE  # (n, h, w)
    rows = np.argmin(flat.all(2)[:, ::-1], 1)  # how many at the bottom are
    above = flat[np.arange(len(pixels)), -rows - 1].mean(1)
    return (rows >= pixels.shape[1] // 4) & (above < ABRUPT)


@blank_photos.picture
def examples(case, evidence):
    chosen = evidence.details[: pictures.SHOWN]
    if case.blank_left_out:
        pixels, labels = case.blank_examples, case.all_labels
    else:
        pixels, labels = case.given.pixels[chosen], case.labels
    titles = [f"image {i + 1}\nlabel: {case.class_names[labels[i]]}" for i in chosen]
    return pictures.image_grid(pixels, titles), "Images without content, or with an empty part."
