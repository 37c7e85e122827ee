"""What accuracy costs when one thing is taken away from all images."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from ..statistics import Z_ONE_IN_2000, binary_auc
from .forms import SCREENS, Feed, screen

# Origin of these: set by hand on injected shortcuts and healthy models of the development half.
CUE_AUC = 0.75  # with which a property of the images alone separates classes, or sets of images
OTHER_CLASSES = 0.2  # of what it tells about one class it may tell about the others, at most
FRAME = 0.15  # of the sides: the outer part of an image, on which properties are measured
CHEAP = 0.05  # accuracy: what costs less on some images is not tried on all
BORDER, CORNER = 0.08, 0.22  # of the sides, covered
JPEG_QUALITY = 15

# The covered region that a covered place is compared with: as large, and in the middle.
CONTROL_REGION = {"border covered": "middle covered"} | {
    f"{corner} corner covered": "centre covered"
    for corner in ("top left", "top right", "bottom left", "bottom right")
}


class Loss(NamedTuple):
    """What an intervention costs."""

    name: str  # what was done to the images, after "with the"
    accuracy: float  # mean over the classes
    left: float  # accuracy after it
    low: float  # of the loss, at one in 2,000
    worst: tuple[int, float]  # (class, its loss): the class that loses most
    cue: float | None  # AUC with which the property alone separates the classes; None: unmeasured

    @property
    def drop(self) -> float:
        return self.accuracy - self.left


def interventions(pixels: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """{what is done: a function of pixels that does it}, each of which removes one thing that a
    model may rely on.

    `pixels` (n, height, width, channels), 0 to 255, determine the mean colour, which covers what is
    covered, and the brightness and contrast that are made equal.
    """
    height, width, channels = pixels.shape[1:]
    mean = pixels.mean((0, 1, 2))
    y, x = max(1, round(height * BORDER)), max(1, round(width * BORDER))
    border = np.s_[:, :y], np.s_[:, -y:], np.s_[:, :, :x], np.s_[:, :, -x:]
    changes = {
        "border covered": _covering(mean, *border),
        "middle covered": _covering(mean, _middle(height, width, 0.54)),  # as large as the border
        "centre covered": _covering(mean, _middle(height, width, CORNER)),
    }
    y, x = max(1, round(height * CORNER)), max(1, round(width * CORNER))
    corners = {
        "top left": np.s_[:, :y, :x],
        "top right": np.s_[:, :y, -x:],
        "bottom left": np.s_[:, -y:, :x],
        "bottom right": np.s_[:, -y:, -x:],
    }
    changes |= {f"{name} corner covered": _covering(mean, place) for name, place in corners.items()}
    level, contrast = pixels.mean(), pixels.std((1, 2, 3)).mean()
    changes["brightness equalised"] = lambda p: _equalised(p, level, contrast)
    if channels >= 3:
        changes["tint equalised"] = _without_tint
        changes["colour taken away"] = lambda p: less_colourful(p, 0)
    small = max(8, height // 2), max(8, width // 2)
    changes["sharpness taken away"] = lambda p: np.stack([blurred(image, small) for image in p])
    changes["file quality equalised"] = lambda p: np.stack([compressed(image) for image in p])
    return changes


def _covering(colour, *places):
    def cover(pixels):
        pixels = pixels.copy()
        for place in places:
            pixels[place] = colour
        return pixels

    return cover


def _middle(height, width, share):
    y, x = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return np.s_[:, y : height - y, x : width - x]


def _equalised(pixels, level, contrast):
    each = dict(axis=(1, 2, 3), keepdims=True)
    standardized = (pixels - pixels.mean(**each)) / np.maximum(pixels.std(**each), 1)
    return np.clip(level + contrast * standardized, 0, 255)


def _without_tint(pixels):
    colours = pixels[..., :3].mean((1, 2), keepdims=True)
    tint = colours - colours.mean(-1, keepdims=True)
    return np.clip(pixels - np.pad(tint, [(0, 0)] * 3 + [(0, pixels.shape[3] - 3)]), 0, 255)


def less_colourful(pixels: np.ndarray, share: float) -> np.ndarray:
    """Pixels with a share of their colour left, 0 to 1; further channels stay."""
    colours, rest = pixels[..., :3], pixels[..., 3:]
    grey = colours.mean(-1, keepdims=True)
    colours = grey + share * (colours - grey) if share else np.repeat(grey, 3, -1)
    return np.concatenate([colours, rest], -1)


def blurred(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (h, w, channels) reduced to `size`, (height, width), and enlarged again."""
    height, width, _ = image.shape
    reduced = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR).reshape(image.shape)


def compressed(image: np.ndarray, quality: int = JPEG_QUALITY) -> np.ndarray:
    """An image (h, w, 1 or 3) after JPEG compression; others stay as they are."""
    pixels = np.uint8(np.clip(np.rint(image), 0, 255))
    if pixels.shape[-1] not in (1, 3):
        return image
    flag = cv2.IMREAD_COLOR if pixels.shape[-1] == 3 else cv2.IMREAD_GRAYSCALE
    data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.float32(cv2.imdecode(data, flag).reshape(image.shape)[..., ::-1])


def cues(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """{intervention: (n,) how much each image has of the property that it takes away}.

    Measured on the outer part of each image (FRAME), where light, tint or file quality show as
    everywhere else, while the colours of an object usually do not.
    """
    colours = pixels[..., :3] if pixels.shape[3] >= 3 else np.repeat(pixels[..., :1], 3, -1)
    height, width = pixels.shape[1:3]
    y, x = max(1, round(FRAME * height)), max(1, round(FRAME * width))
    outside = np.ones((height, width), bool)
    outside[y : height - y, x : width - x] = False
    grey = colours.mean(-1)
    steps, frame = np.abs(np.diff(grey, axis=2)), outside[:, 1:]
    grid = frame & (np.arange(1, width) % 8 == 0)  # where blocks of a JPEG meet
    mean = steps[:, frame].mean(1)
    grid = steps[:, grid].mean(1) if grid.any() else mean
    return {
        "brightness equalised": grey[:, outside].mean(1),
        "tint equalised": (colours[..., 0] - colours[..., 2])[:, outside].mean(1),
        "colour taken away": np.ptp(colours, axis=-1)[:, outside].mean(1),
        "sharpness taken away": mean / np.maximum(grey[:, outside].std(1), 1),
        "file quality equalised": grid / np.maximum(mean, 1e-6),
    }


def accuracy_drop(
    model,
    feed: Feed,
    labels: np.ndarray,
    logits: np.ndarray,
    output: str | int | None = None,
    global_only: bool = False,
) -> list[Loss]:
    """What each intervention costs; with `global_only`, those that concern the whole image.

    Healthy models lose by some of them, too. So for properties of the whole image, such as
    brightness, it is also measured how well the property alone separates the classes: only where it
    does so (CUE_AUC) can it be a shortcut, and only then is it taken away.
    """
    correct = logits.argmax(1) == labels
    amounts, losses = cues(feed.pixels), []
    for name, change in interventions(feed.pixels).items():
        cue, clear = separation(amounts[name], labels) if name in amounts else (None, True)
        if clear and not (global_only and cue is None):
            losses.append(_loss_by_stages(model, feed, labels, correct, output, name, change, cue))
    return losses


def _loss_by_stages(model, feed, labels, correct, output, name, change, cue):
    """A Loss; more images are tried only if the intervention costs something on the first ones."""
    after, tried = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
    few, more = (screen(labels, every) for every in SCREENS)
    for stage, least in ((few, 0), (more, CHEAP), (np.ones(len(labels), bool), 1)):
        new = stage & ~tried
        if new.any():
            predicted = feed.at(new).with_pixels(change).logits(model, output).argmax(1)
            after[new] = predicted == labels[new]
        tried = stage
        loss = loss_of(name, correct[tried], after[tried], labels[tried], cue)
        if loss.drop <= least:
            break
    return loss


def loss_of(
    name: str, before: np.ndarray, after: np.ndarray, labels: np.ndarray, cue: float | None = None
) -> Loss:
    """A Loss from whether each image is classified correctly, (n,) bool, before and after."""
    present = np.unique(labels)
    lost = np.float64(before) - after
    by_class = [lost[labels == k].mean() for k in present]
    errors = [lost[labels == k].var() / np.sum(labels == k) for k in present]
    means = [np.mean([right[labels == k].mean() for k in present]) for right in (before, after)]
    low = np.mean(by_class) - Z_ONE_IN_2000 * np.sqrt(np.sum(errors)) / len(present)
    worst = int(np.argmax(by_class))
    worst_class = int(present[worst]), float(by_class[worst])
    return Loss(name, *map(float, means), float(low), worst_class, cue)


class Strongest(NamedTuple):
    """The loss that comes closest to a shortcut, or exceeds it most."""

    loss: Loss
    control: Loss | None  # what covering the control region costs
    excess: float  # of the loss beyond what healthy models lose; above 0 it is a shortcut


def strongest(losses: list[Loss], limit: float) -> Strongest | None:
    """The Strongest of some losses; None where none of them can show a shortcut.

    A property of the whole image may cost half of `limit` (accuracy), since it was shown to
    separate the classes by itself. A covered place has to cost `limit`, and more than the control
    region: a model that reads the object loses more by its middle.
    """
    by_name, compared = {loss.name: loss for loss in losses}, []
    for loss in losses:
        control = by_name.get(CONTROL_REGION.get(loss.name))
        if loss.cue is not None:
            compared.append(Strongest(loss, None, loss.low - 0.5 * limit))
        elif control:
            excess = min(loss.low - limit, loss.drop - control.drop)
            compared.append(Strongest(loss, control, excess))
    return max(compared, key=lambda one: one.excess, default=None)


def separation(amounts: np.ndarray, labels: np.ndarray) -> tuple[float, bool]:
    """The best AUC, in either direction, of `amounts` (n,) for one class against the others, and
    whether it is above CUE_AUC beyond chance. With three classes or more it has to single out one
    class: where the others differ in it, too, it belongs to the things themselves.
    """
    best, clear, singled_out = 0.5, False, None
    classes = np.unique(labels)
    for k in classes:
        inside = labels == k
        area, pairs = two_sided_auc(amounts, inside), inside.sum() * (~inside).sum()
        error = np.sqrt((len(labels) + 1) / (12 * pairs)) if pairs else np.inf  # under chance
        singled_out = k if area > best else singled_out
        best = max(best, area)
        clear = clear or (area > CUE_AUC and area - 0.5 > Z_ONE_IN_2000 * error)
    if clear and len(classes) > 2:
        others = labels != singled_out
        rest = max(
            two_sided_auc(amounts[others], labels[others] == k) for k in classes if k != singled_out
        )
        clear = rest - 0.5 < OTHER_CLASSES * (best - 0.5)
    return float(best), bool(clear)


def two_sided_auc(amounts: np.ndarray, inside: np.ndarray) -> float:
    """The AUC of amounts (n,) for `inside` (n,) bool, or of their negatives, if that is higher."""
    area = binary_auc(amounts, np.int32(inside))
    return max(area, 1 - area)
