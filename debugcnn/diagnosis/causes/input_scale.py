"""Pixel values in another range than in training."""

from dataclasses import replace

from ... import statistics
from ...views.value_ranges import VALUE_RANGES
from .. import distribution_shift, pictures
from ..forms import Feed, Form, in_words
from ..registry import Evidence, cause

NEGATIVE = "black and white exchanged"
INVERTED_AUC = 0.45  # below which the classes are in another order, rather than the pixels negative
BGR_MEANS = "caffe"  # channel order and means at once, so it has to bring more


@cause(
    "input_scale",
    stage="input",
    title="pixels are not scaled as in training",
    symptom="worse than reported, or nearly always one class",
    check="draw what the model is given; predict with 0 to 1, -1 to 1 and 0 to 255",
    fix="Scale the pixels as in training, best with a Rescaling layer inside the model.",
)
def input_scale(case) -> Evidence:
    return case.search_evidence("input_scale")


@input_scale.measurement(limit=distribution_shift.LIMIT)
def unlike_training(case) -> Evidence:
    """Whether the images are lighter, darker or of another contrast than those trained on."""
    return distribution_shift.evidence(case, "input_scale")


@input_scale.variants
def value_ranges(case, feed: Feed, logits) -> list[Form]:
    known = VALUE_RANGES if feed.pixels.shape[3] == 3 else VALUE_RANGES[:3]
    forms = [_of_range(value_range) for value_range in known if value_range != feed.value_range]
    if statistics.auc(logits, case.labels) > INVERTED_AUC:
        forms.append(Form(NEGATIVE, lambda feed: feed.with_pixels(_negative), handicap=0.05))
    gamma = "pixels to the power of 1 / 2.2 (gamma)"
    return [*forms, Form(gamma, lambda feed: feed.with_pixels(_gamma))]


def _of_range(value_range):
    errors = 1.0 if value_range == BGR_MEANS else 0.0
    handicap = 0.01 if value_range == BGR_MEANS else 0.0
    name = f"pixel values {in_words(value_range)}"
    return Form(name, lambda feed: replace(feed, value_range=value_range), handicap, errors)


def _negative(pixels):
    return 255 - pixels


def _gamma(pixels):
    return 255 * (pixels / 255) ** (1 / 2.2)


@input_scale.picture
def as_fed_and_as_fixed(case, evidence):
    return distribution_shift.picture(case) or pictures.as_fed_and_as_fixed(case)
