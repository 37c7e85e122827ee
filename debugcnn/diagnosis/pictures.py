"""Figures that several causes share."""

import matplotlib.pyplot as plt
import numpy as np

from ..views.figures import grid, to_rgb

SHOWN = 8  # images in a picture


def image_grid(tiles, titles: list[str], columns: int = 4):
    """A figure of images (k, h, w, channels), 0 to 255, each under its title."""
    return grid(to_rgb(np.float32(tiles)), titles, columns=columns, side=2.2)


def predicted_names(case, logits: np.ndarray, indices) -> list[str]:
    """The names of the classes that logits (n, classes) predict for some images."""
    return [case.class_names[int(k)] for k in logits[indices].argmax(1)]


def margins_by_class(case):
    """Histograms of how far each image's own class leads or trails, and what to see in them."""
    logits, labels = case.logits, case.labels
    figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
    two = logits.shape[1] == 2
    if two:
        margin = logits[:, 1] - logits[:, 0]
        groups = {f"images of {case.class_names[k]}": margin[labels == k] for k in (0, 1)}
        label = f"logit of {case.class_names[1]} minus logit of {case.class_names[0]}"
        caption = (
            f"Right of the line the model predicts {case.class_names[1]}, left of it "
            f"{case.class_names[0]}. A good model separates the two colours at the line."
        )
    else:
        own = logits[np.arange(len(labels)), labels]
        rest = np.where(np.eye(logits.shape[1], dtype=bool)[labels], -np.inf, logits).max(1)
        groups = {"all images": own - rest}
        label = "logit of the labelled class minus the highest other logit"
        caption = "Right of the line an image is classified correctly, left of it incorrectly."
    values = np.concatenate(list(groups.values()))
    spread = max(float(np.ptp(values)), 1e-6)
    edges = np.linspace(values.min() - 0.05 * spread, values.max() + 0.05 * spread, 41)
    for (name, group), colour in zip(groups.items(), ("tab:blue", "tab:orange")):
        axis.hist(group, edges, alpha=0.6, color=colour, label=name)
    if edges[0] <= 0 <= edges[-1]:
        axis.axvline(0, color="black", linewidth=1)
    axis.set(xlabel=label, ylabel="images")
    axis.legend(frameon=False)
    return figure, caption


def as_fed_and_as_fixed(case):
    """Images as they are given and as the search would feed them, with both predictions."""
    before, after = case.given_logits, case.logits
    repaired = (before.argmax(1) != case.labels) & (after.argmax(1) == case.labels)
    changed = before.argmax(1) != after.argmax(1)
    order = np.argsort(~repaired * 2 + ~changed, kind="stable")  # repaired ones first
    chosen = _one_of_each_class(order, case.labels)[: SHOWN // 2]
    tiles = np.concatenate([case.given.pixels[chosen], case.feed.pixels[chosen]])
    titles = [
        f"{case.class_names[case.labels[i]]}, {way}:\npredicted {name}"
        for way, logits in (("as fed", before), ("fixed", after))
        for i, name in zip(chosen, predicted_names(case, logits, chosen))
    ]
    caption = (
        f"Above, images as they are fed, with values from {_low_high(case.given.images)}; below, "
        f"the same in the form that fits, with values from {_low_high(case.feed.images)}."
    )
    return image_grid(tiles, titles), caption


def _one_of_each_class(order, labels):
    """Indices in the given order, reordered so that the classes take turns."""
    turn = np.zeros(len(order), int)
    for k in np.unique(labels):
        own = labels[order] == k
        turn[own] = np.arange(own.sum())
    return order[np.argsort(turn, kind="stable")]


def _low_high(images):
    return f"{images.min():.3g} to {images.max():.3g}"


def bars(values: dict[str, float], xlabel: str, limit: float | None = None):
    """A figure of horizontal bars, with a line at the limit."""
    figure, axis = plt.subplots(figsize=(8, 0.8 + 0.3 * len(values)), layout="constrained")
    axis.barh(list(values), list(values.values()), color="tab:blue")
    axis.invert_yaxis()
    axis.set(xlabel=xlabel)
    if limit is not None:
        axis.axvline(limit, color="tab:red", linewidth=1, label="limit")
        axis.legend(frameon=False)
    return figure
