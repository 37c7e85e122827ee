"""Are weights as an initializer draws them, before any training?"""

from typing import NamedTuple

import keras
import numpy as np
from scipy.stats import kstest, norm, truncnorm, uniform

from ..views import kinds
from .layers import leaf_layers

RARE = 1e-4  # chance that drawn weights are taken for trained ones; training also breaks the bound
DOUBTFUL = 0.01  # the same for distributions without a hard bound
MIN_WEIGHTS = 50  # of a kernel that is tested
TRUNCATED_SPREAD = 0.87962566  # standard deviation of a normal distribution cut at two of its own
# The largest eigenvalue of a random covariance matrix: mean and standard deviation of the
# Tracy-Widom distribution of order 1 (Johnstone, 2001, On the distribution of the largest
# eigenvalue in principal components analysis, section 1).
TRACY_WIDOM = -1.2065, 1.268
SPREADS_BEYOND = 5  # standard deviations of that, beyond which a direction has grown by training


class Drawn(NamedTuple):
    """A layer that has weights as they are drawn before training."""

    layer: str
    weights: int  # parameters of its kernels
    initializer: str
    certain: bool  # its biases are all 0, or its filters equal: more than a distribution shows


def drawn_layers(model: keras.Model) -> list[Drawn]:
    """The layers whose biases are exactly 0, or absent, and whose kernels cannot be distinguished
    from what their initializer, or Keras' default, draws; also layers with equal filters, which
    no training distinguishes.
    """
    drawn = []
    for name, layer in leaf_layers(model):
        kernels = kinds.kernels_of(layer)
        if not all(np.isfinite(kernel).all() for kernel, _ in kernels):
            continue
        bias = getattr(layer, "bias", None)
        moved = bias is not None and np.any(np.asarray(bias))
        verdicts = set() if moved else {_is_drawn_by_any(*pair) for pair in kernels}
        constant = any(_has_equal_filters(*pair) for pair in kernels)
        if verdicts in ({True}, {True, None}) or constant:
            size = sum(kernel.size for kernel, _ in kernels)
            initializer = type(kernels[-1][1]).__name__
            drawn.append(Drawn(name, size, initializer, constant or bias is not None))
    return drawn


def _has_equal_filters(kernel, initializer):
    """Where all weights are 0, only if they were initialized so."""
    equal = kernel.shape[-1] > 1 and not np.ptp(kernel, -1).any()
    return bool(equal and (kernel.any() or isinstance(initializer, keras.initializers.Zeros)))


def _is_drawn_by_any(kernel, initializer):
    drawn, default = is_drawn(kernel, initializer), keras.initializers.GlorotUniform
    return drawn if drawn or isinstance(initializer, default) else is_drawn(kernel, default())


def is_drawn(kernel: np.ndarray, initializer) -> bool | None:
    """Whether an initializer may have drawn a kernel; None where the kernel is too small to tell.

    Training of any length leaves traces that the spread of the weights does not show: some pass the
    bound of a bounded initializer, columns are no longer orthogonal, and a few directions grow
    (large singular values).
    """
    if kernel.size < MIN_WEIGHTS:
        return None
    if isinstance(initializer, keras.initializers.Orthogonal):
        return bool(np.ptp(kernel)) and _is_orthogonal(kernel, initializer.gain)
    kind, spread = _distribution(initializer, kernel.shape)
    if kind is None or not np.ptp(kernel) or not spread:
        return False
    if abs(kernel.std() / spread - 1) > 4 / np.sqrt(2 * kernel.size):  # standard errors
        return False
    weights, largest = kernel.ravel(), np.abs(kernel).max()
    if kind == "uniform":
        bound = np.sqrt(3) * spread
        shape = uniform(-bound, 2 * bound)
        return bool(largest <= bound * 1.0001 and kstest(weights, shape.cdf).pvalue > RARE)
    if kind == "truncated_normal":
        scale = spread / TRUNCATED_SPREAD
        fits = kstest(weights, truncnorm(-2, 2, scale=scale).cdf).pvalue > DOUBTFUL
        return bool(fits and largest <= 2 * scale * 1.0001)
    fits = kstest(weights, norm(scale=spread).cdf).pvalue > DOUBTFUL
    return bool(fits and not _has_grown(kernel, spread))


def _distribution(initializer, shape):
    """("uniform", "truncated_normal" or "normal", standard deviation); (None, None) if unknown."""
    if isinstance(initializer, keras.initializers.VarianceScaling):
        window = int(np.prod(shape[:-2])) if len(shape) > 2 else 1
        inputs, outputs = window * shape[-2], window * shape[-1]
        fan = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}
        spread = np.sqrt(initializer.scale / max(1.0, fan[initializer.mode]))
        kind = initializer.distribution
        return ("normal" if kind == "untruncated_normal" else kind), float(spread)
    if isinstance(initializer, keras.initializers.RandomUniform):
        centred = np.isclose(initializer.minval, -initializer.maxval)
        return ("uniform", initializer.maxval / np.sqrt(3)) if centred else (None, None)
    if isinstance(initializer, keras.initializers.TruncatedNormal):
        return "truncated_normal", TRUNCATED_SPREAD * initializer.stddev
    if isinstance(initializer, keras.initializers.RandomNormal):
        return "normal", initializer.stddev
    return None, None


def _has_grown(kernel, spread):
    """Whether the largest singular value is larger than that of independent normal weights."""
    matrix = np.float64(kernel.reshape(-1, kernel.shape[-1]))
    gram = matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T
    rows, columns = np.sqrt(max(matrix.shape) - 1 or 1), np.sqrt(min(matrix.shape))
    scale = (rows + columns) * (1 / rows + 1 / columns) ** (1 / 3)
    mean, deviation = TRACY_WIDOM
    bound = (rows + columns) ** 2 + scale * (mean + SPREADS_BEYOND * deviation)
    return bool(np.linalg.eigvalsh(gram)[-1] > spread**2 * bound)


def _is_orthogonal(kernel, gain):
    matrix = np.float64(kernel.reshape(-1, kernel.shape[-1])) / gain
    matrix = matrix if matrix.shape[0] > matrix.shape[1] else matrix.T
    return bool(np.abs(matrix.T @ matrix - np.eye(matrix.shape[1])).max() < 1e-4)
