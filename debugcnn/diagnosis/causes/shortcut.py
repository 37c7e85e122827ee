"""A mark, a border, or a property of the whole image that is read instead of the thing."""

import numpy as np

from ...views.figures import grid, to_rgb
from .. import pictures
from ..interventions import accuracy_drop, interventions, strongest
from ..patches import CONVINCES, FEW_CLASSES, paste_patches
from ..registry import Evidence, Limit, NotExamined, cause
from .label_noise import KNOWS_ENOUGH

TWINS, TWINS_OF_MANY_CLASSES = 4, 3  # of 7, and of 3, that a mark has among its class
ACCURACY = Limit(
    0.1,
    "lower bound of the accuracy that is lost",
    "set by hand on injected shortcuts and healthy models of the development half",
)
UNLESS = (
    *("not_finite", "untrained_layer", "batch_statistics", ":unlike_training"),
    *("class_order", "constant_answer", "at_chance", "shortcut:global_property"),
)


@cause(
    "shortcut",
    stage="data",
    title="the model reads something beside the thing",
    symptom="too good to be true",
    check="draw a heatmap, then cover the place and paste it elsewhere",
    fix="Remove it from the images of all classes, or put it on all, and train again.",
    needs=("finite logits", "trained weights"),
    limit=ACCURACY,
)
def global_property(case) -> Evidence:
    """Brightness, tint, colour, sharpness or file quality."""
    return _evidence(case, case.global_losses, "No property of the whole image separates classes.")


@global_property.measurement(needs=("finite predictions",), unless=UNLESS, limit=ACCURACY)
def covered_place(case) -> Evidence:
    """A border or a corner that matters more than the middle."""
    _require_knowledge(case)
    given = case.model, case.feed, case.labels, case.logits, case.output
    return _evidence(case, accuracy_drop(*given), "Covering places costs nothing.")


@global_property.measurement(
    needs=("finite predictions",),
    unless=(*UNLESS, "shortcut:covered_place"),
    limit=Limit(
        CONVINCES,
        "share of images that a patch turns",
        "set by hand: a part of an animal turns fewer",
    ),
)
def pasted_patch(case) -> Evidence:
    """A patch that turns images of other classes, and has twins in several images of its own."""
    _require_knowledge(case)
    few = len(np.unique(case.labels)) <= FEW_CLASSES
    twins = TWINS if few else TWINS_OF_MANY_CLASSES
    given = case.model, case.feed, case.labels, case.logits, case.output
    patches = paste_patches(*given, enough_twins=twins)
    marked = [patch for patch in patches if patch.twins >= twins]
    if not marked:
        return Evidence(0.0, "No patch turns images of other classes as a mark would.")
    patch = patches[0]
    name = case.class_names[patch.label]
    message = (
        f"Pasting one patch of an image of {name} (row {patch.rows.start}, column "
        f"{patch.columns.start}) into other images makes the model predict {name} for "
        f"{patch.turned:.0%} of them; {patch.twins} similar patches do the same."
    )
    with_twins = {patch.label for patch in patches if patch.twins}
    most = len(with_twins) > len({patch.label for patch in patches}) / 2
    if most:
        message += " Patches of most classes do: the things themselves may look all the same."
    # Twins beyond the limit are what counts, so a patch that turns just enough images does, too.
    value = max(patch.turned, np.nextafter(CONVINCES, 1))
    return Evidence(float(value), message, clear=not most, suspicious=True, details=patch)


def _require_knowledge(case):
    if case.auc.value < KNOWS_ENOUGH:
        raise NotExamined("The model knows too little for a shortcut to show.")


def _evidence(case, losses, nothing):
    found = strongest(losses, ACCURACY.value)
    if found is None:
        return Evidence(0.0, nothing)
    loss, control = found.loss, found.control
    worst, lost = loss.worst
    message = (
        f"With the {loss.name}, accuracy drops from {loss.accuracy:.1%} to {loss.left:.1%}, and "
        f"for {case.class_names[worst]} by {lost:.1%}."
    )
    if control:
        message += f" Covering as much of the middle costs {control.drop:.1%}."
    if loss.cue is not None:
        message += f" By itself this property separates the classes with an AUC of {loss.cue:.2f}."
    # What a property of the whole image costs counts from half the limit on.
    value = loss.low + (0.5 * ACCURACY.value if loss.cue is not None else 0)
    return Evidence(value, message, clear=found.excess > 0, details=found)


@global_property.picture
def proof(case, evidence):
    return (
        _pasted(case, evidence.details)
        if hasattr(evidence.details, "twins")
        else _taken(case, evidence.details.loss.name)
    )


def _taken(case, name):
    """Correct images above, the same without the property or place below."""
    feed, before = (case.given, case.given_logits)
    if not case.has_fault("shortcut", "global_property"):
        feed, before = case.feed, case.logits
    change = interventions(feed.pixels)[name]
    changed = feed.with_pixels(change)
    after = changed.logits(case.model, case.output)
    correct = before.argmax(1) == case.labels
    lost = np.flatnonzero(correct & (after.argmax(1) != case.labels))[: pictures.SHOWN // 2]
    tiles = np.concatenate([feed.pixels[lost], changed.pixels[lost]])
    titles = [
        f"predicted {predicted}"
        for logits in (before, after)
        for predicted in pictures.predicted_names(case, logits, lost)
    ]
    caption = f"Above, images that are classified correctly; below, the same with the {name}."
    return pictures.image_grid(tiles, titles, columns=max(1, len(lost))), caption


def _pasted(case, patch):
    """The patch in its own image, and images that it turns."""
    pixels, labels = case.feed.pixels, case.labels
    hosts = np.flatnonzero(case.correct & (labels != patch.label))
    pasted = pixels[hosts].copy()
    pasted[:, patch.rows, patch.columns] = pixels[patch.image, patch.rows, patch.columns]
    after = type(case.feed)(pasted, case.feed.value_range).logits(case.model, case.output)
    turned = np.flatnonzero(after.argmax(1) == patch.label)[: pictures.SHOWN // 2 - 1]
    alone = np.full_like(pixels[0], 128)
    alone[patch.rows, patch.columns] = pixels[patch.image, patch.rows, patch.columns]
    tiles = [pixels[patch.image], *pixels[hosts[turned]], alone, *pasted[turned]]
    name = case.class_names[patch.label]
    before = pictures.predicted_names(case, case.logits, [patch.image, *hosts[turned]])
    titles = [*before, "the patch", *[name] * len(turned)]
    caption = (
        "On the left an image, and below it the patch that its prediction depends on. On the right "
        "other images; below, the same with the patch, which turns their prediction."
    )
    figure = grid(to_rgb(np.float32(tiles)), titles, columns=len(turned) + 1, side=2.2)
    return figure, caption
