"""Colour channels in another order, or of another colour space, than in training."""

import cv2
import numpy as np

from .. import distribution_shift, pictures
from ..forms import Feed, Form
from ..registry import Evidence, NotExamined, cause


@cause(
    "channel_order",
    stage="input",
    title="the colour channels are not those of the training",
    symptom="somewhat worse than reported",
    check="draw what the model is given",
    fix="Exchange red and blue, as cv2.cvtColor(image, cv2.COLOR_BGR2RGB) does, or convert to grey "
    "if the training did.",
)
def channel_order(case) -> Evidence:
    return case.search_evidence("channel_order")


@channel_order.measurement(limit=distribution_shift.LIMIT)
def unlike_training(case) -> Evidence:
    """Whether the images are of another tint or less colourful than those trained on."""
    return distribution_shift.evidence(case, "channel_order")


@channel_order.variants
def colour_spaces(case, feed: Feed, logits) -> list[Form]:
    if feed.pixels.shape[3] != 3:
        raise NotExamined("The images do not have three channels.")
    changes = {
        "red and blue exchanged": lambda pixels: pixels[..., ::-1],
        "colour taken away": lambda pixels: np.repeat(pixels.mean(-1, keepdims=True), 3, -1),
    }
    if _may_be_ycrcb(feed.pixels):
        changes["the channels taken for YCrCb"] = lambda p: _converted(p, cv2.COLOR_YCrCb2RGB)
    if _may_be_hsv(feed.pixels):
        changes["the channels taken for HSV"] = lambda p: _converted(p, cv2.COLOR_HSV2RGB)
    return [
        Form(name, lambda feed, change=change: feed.with_pixels(change))
        for name, change in changes.items()
    ]


def _converted(pixels, code):
    whole = np.uint8(np.clip(np.rint(pixels), 0, 255))
    images = [cv2.cvtColor(np.ascontiguousarray(image), code) for image in whole]
    return np.float32(images).reshape(pixels.shape)


def _may_be_hsv(pixels):
    """Whether the first channel of most images may be a hue, which OpenCV gives in 180 steps."""
    return np.quantile(pixels[..., 0].max((1, 2)), 0.9) < 180 < np.quantile(pixels[..., 2], 0.95)


def _may_be_ycrcb(pixels):
    """Whether two channels may be differences of colours, which lie around 128."""
    means, spreads = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    around = np.abs(means[1:] - 128).max() < 25
    return bool(around and spreads[1:].max() < 0.6 * spreads[0])


@channel_order.picture
def as_fed_and_as_fixed(case, evidence):
    return distribution_shift.picture(case) or pictures.as_fed_and_as_fixed(case)
