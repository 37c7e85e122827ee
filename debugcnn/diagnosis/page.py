"""One page of HTML that shows what was found."""

import base64
import html
import io

import matplotlib.pyplot as plt
import numpy as np

import debugcnn.quiet

from . import inputs, photos

SHOWN = 8  # photos a picture
INPUTS = {"input_scale", "channel_order", "flipped_or_rotated", "resize"}
MARGINS = {
    *("class_order", "threshold", "at_chance", "constant_answer", "overconfident"),
    *("saturated_answer", "batch_statistics"),
}
STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse }
td { padding: .3em .8em; vertical-align: top }
tr.fault td:first-child { color: #b00020; font-weight: bold }
tr.fine { color: #666 }
img { max-width: 100% }
"""


def page(case, report, classes, train=None):
    """A page of HTML, as text, that fetches nothing; `classes` are their names."""
    faults = [f for f in report["findings"] if f.verdict == "fault"]
    count = f"{len(faults)} faults" if len(faults) > 1 else "One fault"
    title = f"{count} found" if faults else "No fault found"
    right = "" if report["accuracy"] is None else f", {report['accuracy']:.1%} right"
    rows = [
        f'<tr class="{f.verdict}"><td>{f.verdict}<td>{f.cause}<td>{html.escape(f.message)}'
        + (f"<br><b>{html.escape(f.remedy)}</b>" if f.remedy else "")
        for f in report["findings"]
    ]
    shown = [_section(case, finding, classes, train) for finding in faults]
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><h1>{title}</h1><p>{report['photos']} photos{right}</p>"
        f"<table>{''.join(rows)}</table>{''.join(shown)}</html>\n"
    )


def _section(case, finding, classes, train):
    figure, words = _figure(case, finding.cause, classes, train)
    if figure is None:
        return ""
    file = io.BytesIO()
    figure.savefig(file, format="jpeg", dpi=100, pil_kwargs={"quality": 80})
    plt.close(figure)
    data = base64.b64encode(file.getvalue()).decode()
    picture = f'<img src="data:image/jpeg;base64,{data}" alt="{html.escape(words)}">'
    return f"<h2>{finding.cause}</h2><p>{html.escape(words)}</p>{picture}"


def _figure(case, cause, classes, train):
    """A figure that shows a fault, and what is to be seen in it; (None, "") where there is none."""
    if cause in INPUTS:
        return _unlike(case) if case.alike else _fed(case, classes)
    if cause in MARGINS and len(classes) == 2 and np.isfinite(case.logits).all():
        return _margins(case, classes)
    if cause == "shortcut":
        return (_pasted if case.patch else _intervention)(case, classes)
    if cause == "label_noise":
        some = case.mislabelled
        titles = [
            f"{_answer(case.logits[i], classes)}, label: {classes[case.labels[i]]}" for i in some
        ]
        words = "The photos of which the net is surest and whose label is another."
        return _grid(case.photos[some], titles), words
    if cause == "leak":
        pairs = case.copies[: SHOWN // 2]
        tiles = [tile for c in pairs for tile in (case.photos[c.examined], train[0][c.trained])]
        titles = ["examined", "trained on"] * len(pairs)
        return _grid(np.stack(tiles), titles), "Photos that were trained on, too, side by side."
    return None, ""


def _grid(tiles, titles):
    return debugcnn.grid(debugcnn.to_rgb(np.float32(tiles)), titles, columns=4, side=2.2)


def _answer(logits, classes):
    return classes[int(np.argmax(logits))]


def _fed(case, classes):
    given, value_range = case.given
    before = inputs.ask(case.model, given, value_range, case.output)
    changed = np.flatnonzero(before.argmax(1) != case.logits.argmax(1))
    some = (changed if len(changed) else np.arange(len(given)))[:SHOWN]
    titles = [
        f"{_answer(before[i], classes)}, then {_answer(case.logits[i], classes)}\n"
        f"label: {classes[case.labels[i]]}"
        for i in some
    ]
    words = "Photos as the net should be given them, with its answer before and after the cure."
    return _grid(case.photos[some], titles), words


def _unlike(case):
    """Photos, photos that were trained on, and these as the others are."""
    trained = np.float32(case.train[0][: SHOWN // 2])
    given = case.photos[: SHOWN // 2]
    titles = ["examined"] * len(given) + ["trained on"] * len(trained)
    tiles = np.concatenate([given, trained, case.alike(trained)])
    words = (
        "Above, photos as the net is given them; then photos that it was trained on, and below the "
        "same, made as those above are."
    )
    return _grid(tiles, [*titles, *["made so"] * len(trained)]), words


def _margins(case, classes):
    figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
    margin = case.logits[:, 1] - case.logits[:, 0]
    edges = np.histogram_bin_edges(margin, 40)
    for label, colour in ((0, "tab:blue"), (1, "tab:orange")):
        some = margin[case.labels == label]
        axis.hist(some, edges, alpha=0.6, color=colour, label=f"photos of {classes[label]}")
    axis.axvline(0, color="black", linewidth=1)
    axis.set(xlabel=f"logit of {classes[1]} less that of {classes[0]}", ylabel="photos")
    axis.legend(frameon=False)
    words = f"Right of the line the net answers {classes[1]}, left of it {classes[0]}."
    return figure, words


def _intervention(case, classes):
    changed = photos.interventions(case.photos)[case.intervention](case.photos)
    after = inputs.ask(case.model, changed, case.value_range, case.output)
    right = case.logits.argmax(1) == case.labels
    lost = np.flatnonzero(right & (after.argmax(1) != case.labels))[: SHOWN // 2]
    tiles = np.concatenate([case.photos[lost], changed[lost]])
    titles = [_answer(logits[i], classes) for logits in (case.logits, after) for i in lost]
    words = f"Above, photos that the net gets right; below, the same with the {case.intervention}."
    return _grid(tiles, titles), words


def _pasted(case, classes):
    """The patch in the photo that it is from, and photos that it turns."""
    patch, right = case.patch, case.logits.argmax(1) == case.labels
    before = np.flatnonzero(right & (case.labels != patch.label))
    after = case.photos[before].copy()
    after[:, patch.rows, patch.columns] = case.photos[patch.photo, patch.rows, patch.columns]
    answered = inputs.ask(case.model, after, case.value_range, case.output)
    turned = np.flatnonzero(answered.argmax(1) == patch.label)[: SHOWN // 2 - 1]
    alone = np.full_like(case.photos[0], 128)
    alone[patch.rows, patch.columns] = case.photos[patch.photo, patch.rows, patch.columns]
    tiles = [case.photos[patch.photo], *case.photos[before[turned]], alone, *after[turned]]
    titles = [
        *[_answer(case.logits[i], classes) for i in (patch.photo, *before[turned])],
        *["the square", *[_answer(answered[i], classes) for i in turned]],
    ]
    words = (
        "On the left a photo, and below it the square that its answer stands on. On the right "
        "other photos; below, the same with the square, which turns their answer."
    )
    return debugcnn.grid(
        debugcnn.to_rgb(np.stack(tiles)), titles, columns=len(turned) + 1, side=2.2
    ), words
