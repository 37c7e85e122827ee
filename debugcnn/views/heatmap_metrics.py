"""Is a heatmap true? Scores for heatmaps of any origin."""

from collections.abc import Callable, Collection, Sequence

import keras
import numpy as np
from scipy.stats import rankdata

from .baselines import baseline_fill
from .methods import Baseline, Output, Target, ValueRange
from .perturbation import masked_logits
from .targets import targets_of
from .tracing import check_images


def rank_correlation(heatmaps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far two heatmaps of each image agree in the order of their pixels: (n,), -1 to 1.

    Spearman's rank correlation of two (n, height, width); NaN where one of them is constant.
    """
    ranks = [rankdata(np.reshape(maps, (len(maps), -1)), axis=1) for maps in (heatmaps, others)]
    first, second = (r - r.mean(1, keepdims=True) for r in ranks)
    norms = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    constant = np.full(len(first), np.nan)
    return np.divide((first * second).sum(1), norms, out=constant, where=norms > 0)


def deletion_curve(
    model: keras.Model,
    images: np.ndarray,
    heatmaps: np.ndarray,
    fractions: Sequence[float],
    target: Target = None,
    *,
    baseline: Baseline = None,
    value_range: ValueRange = (0, 255),
    insertion: bool = False,
    output: Output = None,
    seed: int = 0,
) -> np.ndarray:
    """The logit while the pixels with the highest values are removed: (n, len(fractions)) float32.

    Deletion and insertion (Petsiuk et al., BMVC 2018, arXiv:1806.07421, section 4.2). At each of
    `fractions`, 0 to 1, that fraction of an image's pixels, in the order of its heatmap from the
    highest value, is replaced by `baseline` (as in `occlusion`); with `insertion`, that fraction is
    kept, and the rest is replaced. `heatmaps` are (n, height, width); equal values are put in a
    random order, drawn with `seed`, so that a heatmap which is zero nearly everywhere does not
    favour one side. The class is `target`, or the predicted one of the whole image. The other
    parameters are those of `grad_cam`. Raises what `occlusion` raises, and ValueError for heatmaps
    of another size than the images.

    >>> import debugcnn, keras, numpy as np
    >>> inputs = keras.Input((8, 8, 1))
    >>> model = keras.Sequential(
    ...     [inputs, keras.layers.Flatten(), keras.layers.Dense(1, kernel_initializer="ones")]
    ... )
    >>> images = np.arange(64).reshape(1, 8, 8, 1)  # the logit is the sum of the pixels
    >>> heatmaps = images[..., 0]
    >>> debugcnn.deletion_curve(model, images, heatmaps, (0, 0.5, 1), target=1, baseline=0).tolist()
    [[2016.0, 496.0, 0.0]]
    """
    images = check_images(model, images)
    heatmaps = np.asarray(heatmaps, np.float32)
    if heatmaps.shape != images.shape[:3]:
        raise ValueError(
            f"heatmaps have the shape {heatmaps.shape}, but these images need {images.shape[:3]}."
        )
    targets = targets_of(model, images, target, output)
    fill = np.broadcast_to(baseline_fill(images, baseline, value_range), images.shape)
    ranks = _ranks(heatmaps, seed)
    curve = np.empty((len(images), len(fractions)), np.float32)
    for column, fraction in enumerate(fractions):
        highest = ranks < np.rint(fraction * ranks[0].size)
        masks = highest if insertion else ~highest
        curve[:, column] = masked_logits(model, images, fill, masks, targets, output)
    return curve


def _ranks(heatmaps, seed):
    """(n, height, width): 0 for an image's highest value, 1 for the next, ties in random order."""
    rows = np.reshape(heatmaps, (len(heatmaps), -1))
    random_order = np.random.default_rng(seed).random(rows.shape[1])
    ranks = np.empty(rows.shape, np.int32)
    for row, rank in zip(rows, ranks):
        rank[np.lexsort((random_order, -row))] = np.arange(len(row))
    return ranks.reshape(heatmaps.shape)


def energy_pointing(heatmaps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of each heatmap's values above zero that lies inside its mask: (n,), NaN without any.

    The energy-based pointing game (Wang et al. 2020, arXiv:1910.01279, section 4.3). `heatmaps` are
    (n, height, width), `masks` the same, true inside.
    """
    positive = np.maximum(np.asarray(heatmaps, np.float64), 0)
    total = positive.sum((1, 2))
    inside = (positive * np.asarray(masks, bool)).sum((1, 2))
    return np.divide(inside, total, out=np.full(len(positive), np.nan), where=total > 0)


def top_fraction_inside(
    heatmaps: np.ndarray, masks: np.ndarray, fraction: float = 0.1, seed: int = 0
) -> np.ndarray:
    """Share of each heatmap's highest values that lie inside its mask: (n,).

    The highest are `fraction` of all pixels, so that a heatmap gains nothing by being made sharper,
    as it does with `energy_pointing`. Equal values are put in a random order, drawn with `seed`.
    `heatmaps` are (n, height, width), `masks` the same, true inside.
    """
    highest = _ranks(np.asarray(heatmaps, np.float32), seed) < np.rint(fraction * heatmaps[0].size)
    return (highest & np.asarray(masks, bool)).sum((1, 2)) / highest.sum((1, 2))


def pointing_game(heatmaps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Whether each heatmap's highest value lies inside its mask: (n,) float, 0 or 1.

    The pointing game (Zhang et al., ECCV 2016, arXiv:1608.00507, section 4.2), without a margin. Of
    several highest values it is the share inside; NaN for a constant heatmap. `heatmaps` are (n,
    height, width), `masks` the same, true inside.
    """
    heatmaps = np.asarray(heatmaps)
    highest = heatmaps == heatmaps.max((1, 2), keepdims=True)
    count = highest.sum((1, 2))
    share = (highest & np.asarray(masks, bool)).sum((1, 2)) / count
    return np.where(count == heatmaps[0].size, np.nan, share)


def cascading_randomization(
    model: keras.Model,
    explain: Callable[[keras.Model, np.ndarray, np.ndarray], np.ndarray],
    images: np.ndarray,
    target: Target = None,
    *,
    layers: Collection[str] | None = None,
    seed: int = 0,
    output: Output = None,
) -> dict[str, np.ndarray]:
    """How far heatmaps stay the same while the layers lose what they learned: {layer: (n,)}.

    Cascading randomization (Adebayo et al. 2018, arXiv:1810.03292, section 3.1): from the last
    layer with weights to the first, one more layer at a time has its weights permuted, its moving
    averages, too, so that their distribution stays. For the name of each of `layers` (None: all)
    the result is the `rank_correlation` of `explain(model, images, targets)` then with that before;
    NaN where a heatmap is constant. The classes are `target`, or those that the trained model
    predicts. At the end the model has its own weights again, also after an error.
    """
    images = check_images(model, images)
    targets = targets_of(model, images, target, output)
    before = explain(model, images, targets)
    rng = np.random.default_rng(seed)
    randomized = layers_with_weights(model)
    own_weights = [layer.get_weights() for layer in randomized]
    agreement = {}
    try:
        for layer, weights in reversed(list(zip(randomized, own_weights))):
            layer.set_weights([rng.permutation(w.ravel()).reshape(w.shape) for w in weights])
            if layers is None or layer.name in layers:
                agreement[layer.name] = rank_correlation(before, explain(model, images, targets))
    finally:
        for layer, weights in zip(randomized, own_weights):
            layer.set_weights(weights)
    return agreement


def layers_with_weights(model: keras.Model) -> list[keras.Layer]:
    """The layers with weights, also those inside nested models and layers, from first to last."""

    def innermost(layer):
        return [leaf for part in layer._layers for leaf in innermost(part)] or [layer]

    return [layer for layer in dict.fromkeys(innermost(model)) if layer.weights]
