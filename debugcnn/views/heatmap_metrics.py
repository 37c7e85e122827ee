"""Is a heatmap true? Scores for heatmaps of any origin, and trivial ones to compare them with."""

import cv2
import numpy as np
from scipy.stats import rankdata

from .heatmaps import targets_of
from .perturbation import masked_logits
from .pixel_gradients import baseline_fill
from .tracing import check_images


def rank_correlation(heatmaps, others):
    """How far two heatmaps of each photo put its places in the same order: (n,), -1 to 1.

    Spearman's rank correlation of (n, height, width); NaN where one of the two is constant.
    """
    one, other = (
        rankdata(np.reshape(maps, (len(maps), -1)), axis=1) for maps in (heatmaps, others)
    )
    one, other = (ranks - ranks.mean(1, keepdims=True) for ranks in (one, other))
    size = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return np.divide((one * other).sum(1), size, out=np.full(len(one), np.nan), where=size > 0)


def deletion_curve(
    model,
    images,
    heatmaps,
    fractions,
    target=None,
    baseline=None,
    value_range=(0, 255),
    insertion=False,
    output=None,
    seed=0,
):
    """The logit while the hottest pixels are taken away: (n, len(fractions)) float32.

    Deletion and insertion (Petsiuk et al., BMVC 2018, arXiv:1806.07421, section 4.2). At each of
    `fractions`, 0 to 1, that share of a photo's pixels, the hottest of its heatmap first, is
    replaced by `baseline` (as in `occlusion`); with `insertion`, that share is left, and the rest
    is replaced. `heatmaps` are (n, height, width); equal values are put in a random order, drawn
    with `seed`, so that a heatmap which is zero at most places does not favour one side. The class
    is `target`, or the predicted one of the whole photo. The other parameters and errors are those
    of `grad_cam`.
    """
    images = check_images(model, images)
    heatmaps = np.asarray(heatmaps, np.float32)
    if heatmaps.shape != images.shape[:3]:
        raise ValueError(
            f"heatmaps have the shape {heatmaps.shape}, but these images need {images.shape[:3]}."
        )
    targets = targets_of(model, images, target, output)
    fill = baseline_fill(images, baseline, value_range)
    fill = np.broadcast_to(fill, images.shape)
    rank = _ranks(heatmaps, seed)
    curve = np.empty((len(images), len(fractions)), np.float32)
    for column, fraction in enumerate(fractions):
        hottest = rank < np.rint(fraction * rank[0].size)
        masks = hottest if insertion else ~hottest
        curve[:, column] = masked_logits(model, images, fill, masks, targets, output)
    return curve


def _ranks(heatmaps, seed):
    """(n, height, width): 0 for a photo's hottest pixel, 1 for the next, ties by chance."""
    rows = np.reshape(heatmaps, (len(heatmaps), -1))
    chance = np.random.default_rng(seed).random(rows.shape[1])
    ranks = np.empty(rows.shape, np.int32)
    for row, rank in zip(rows, ranks):
        rank[np.lexsort((chance, -row))] = np.arange(len(row))
    return ranks.reshape(heatmaps.shape)


def energy_pointing(heatmaps, masks):
    """Share of each photo's heat above zero that lies inside its mask: (n,), NaN without any.

    `heatmaps` are (n, height, width), `masks` the same, true inside.
    """
    heat = np.maximum(np.asarray(heatmaps, np.float64), 0)
    total = heat.sum((1, 2))
    inside = (heat * np.asarray(masks, bool)).sum((1, 2))
    return np.divide(inside, total, out=np.full(len(heat), np.nan), where=total > 0)


def top_fraction_inside(heatmaps, masks, fraction=0.1, seed=0):
    """Share of each photo's hottest pixels that lie inside its mask: (n,).

    The hottest are `fraction` of all pixels, so that a heatmap gains nothing by being made sharper,
    as it does with `energy_pointing`. Equal values are put in a random order, drawn with `seed`.
    """
    hottest = _ranks(np.asarray(heatmaps, np.float32), seed) < np.rint(fraction * heatmaps[0].size)
    return (hottest & np.asarray(masks, bool)).sum((1, 2)) / hottest.sum((1, 2))


def pointing_game(heatmaps, masks):
    """Whether each photo's hottest pixel lies inside its mask: (n,) float, 0 or 1.

    The pointing game (Zhang et al., ECCV 2016, arXiv:1608.00507, section 4.2), without a margin. Of
    several hottest pixels it is the share inside; NaN where all pixels are equally hot.
    """
    heat = np.asarray(heatmaps)
    hottest = heat == heat.max((1, 2), keepdims=True)
    count = hottest.sum((1, 2))
    share = (hottest & np.asarray(masks, bool)).sum((1, 2)) / count
    return np.where(count == heat[0].size, np.nan, share)


def cascading_randomization(model, explain, images, target=None, layers=None, seed=0, output=None):
    """How far heatmaps stay the same while the layers lose what they learned: {layer: (n,)}.

    Cascading randomisation (Adebayo et al. 2018, arXiv:1810.03292, section 3.1): from the last
    layer with weights to the first, one more layer at a time gets its own values in a random order
    (its moving averages with them), which keeps their sizes. Beside the name of each of `layers`
    (None: all) stands the `rank_correlation` of `explain(model, images, targets)` then with that
    before; NaN where a heatmap is constant. The classes are `target`, or those that the trained
    model predicts. The model has its own weights again at the end, also after an error.
    """
    images = check_images(model, images)
    targets = targets_of(model, images, target, output)
    before = explain(model, images, targets)
    rng = np.random.default_rng(seed)
    learned = layers_with_weights(model)
    kept = [layer.get_weights() for layer in learned]
    agreement = {}
    try:
        for layer, weights in reversed(list(zip(learned, kept))):
            layer.set_weights([rng.permutation(w.ravel()).reshape(w.shape) for w in weights])
            if layers is None or layer.name in layers:
                agreement[layer.name] = rank_correlation(before, explain(model, images, targets))
    finally:
        for layer, weights in zip(learned, kept):
            layer.set_weights(weights)
    return agreement


def layers_with_weights(model):
    """The layers with weights, also those inside nested models and layers, from first to last."""

    def inside(layer):
        return [one for part in layer._layers for one in inside(part)] or [layer]

    return [layer for layer in dict.fromkeys(inside(model)) if layer.weights]


def center_blob(images):
    """A blob in the middle of each photo, which looks at none: (n, height, width) float32."""
    y, x = (np.linspace(-1, 1, side) for side in np.shape(images)[1:3])
    one = np.exp(-2 * (y[:, None] ** 2 + x**2)).astype(np.float32)
    return np.broadcast_to(one, np.shape(images)[:3])


def edge_map(images):
    """How sharply each photo changes at a pixel, whatever the net: (n, height, width) float32.

    The size of the Sobel gradient of the mean of the channels, blurred a little.
    """
    grey = np.mean(np.asarray(images, np.float32), -1)
    slopes = [
        np.hypot(cv2.Sobel(g, cv2.CV_32F, 1, 0), cv2.Sobel(g, cv2.CV_32F, 0, 1)) for g in grey
    ]
    return np.stack([cv2.GaussianBlur(s, (0, 0), 2) for s in slopes])


def product(*heatmaps):
    """What is hot in all of some heatmaps of each photo: (n, height, width) float32, 0 to 1.

    Each, (n, height, width), is cut below zero and divided by its peak, then they are multiplied.
    """
    result = 1
    for heat in heatmaps:
        heat = np.maximum(np.asarray(heat, np.float32), 0)
        result = result * (heat / np.maximum(heat.max((1, 2), keepdims=True), 1e-9))
    return result
