"""Every heatmap that is compared, by name: the methods, products of them, and trivial heatmaps."""

from collections.abc import Callable, Iterable

import cv2
import keras
import numpy as np

from . import heatmaps, perturbation, pixel_gradients  # noqa: F401  # each registers its methods
from .methods import METHODS, Method, ValueRange

HEATMAP_METHODS: dict[str, Method] = METHODS
# What is high in all parts. The last has the order of Grad-CAM, and is only sharper.
HEATMAP_PRODUCTS: dict[str, tuple[str, ...]] = {
    "Guided Grad-CAM": ("Grad-CAM", "guided backpropagation"),
    "Grad-CAM x occlusion": ("Grad-CAM", "occlusion"),
    "Grad-CAM squared x occlusion": ("Grad-CAM", "Grad-CAM", "occlusion"),
    "Grad-CAM cubed": ("Grad-CAM", "Grad-CAM", "Grad-CAM"),
}


def product(*factors: np.ndarray) -> np.ndarray:
    """What is high in all of several heatmaps of each image: (n, height, width) float32, 0 to 1.

    Each, (n, height, width), is clipped below zero and divided by its maximum, then they are
    multiplied, as in Guided Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391, section 3).
    """
    result = 1
    for factor in factors:
        factor = np.maximum(np.asarray(factor, np.float32), 0)
        result = result * (factor / np.maximum(factor.max((1, 2), keepdims=True), 1e-9))
    return result


def center_blob(images: np.ndarray) -> np.ndarray:
    """A blob in the center of each image, whatever it shows: (n, height, width) float32."""
    y, x = (np.linspace(-1, 1, side) for side in np.shape(images)[1:3])
    blob = np.exp(-2 * (y[:, None] ** 2 + x**2)).astype(np.float32)
    return np.broadcast_to(blob, np.shape(images)[:3])


def edge_map(images: np.ndarray) -> np.ndarray:
    """The edges in each image, whatever the model: (n, height, width) float32.

    The magnitude of the Sobel gradient of the mean of the channels, blurred a little. `images` are
    (n, height, width, channels).
    """
    grey = np.mean(np.asarray(images, np.float32), -1)
    slopes = [
        np.hypot(cv2.Sobel(g, cv2.CV_32F, 1, 0), cv2.Sobel(g, cv2.CV_32F, 0, 1)) for g in grey
    ]
    return np.stack([cv2.GaussianBlur(s, (0, 0), 2) for s in slopes])


def noise_map(images: np.ndarray) -> np.ndarray:
    """Noise, the same in each call: (n, height, width) float32, 0 to 1."""
    return np.random.default_rng(0).random(np.shape(images)[:3], np.float32)


CENTER_BLOB = "blob in the middle"  # the trivial heatmap that each method is measured against
# They know nothing of the model: a score that they reach measures nothing.
TRIVIAL_HEATMAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    CENTER_BLOB: center_blob,
    "edges of the photo": edge_map,
    "random": noise_map,
}


def heatmap_names() -> list[str]:
    """The names of all methods, products and trivial heatmaps, in the order of tables."""
    return [*HEATMAP_METHODS, *HEATMAP_PRODUCTS, *TRIVIAL_HEATMAPS]


def heatmaps_by_name(
    name: str, explain: Callable[[str], np.ndarray], images: np.ndarray
) -> np.ndarray:
    """The heatmaps (n, height, width) float32 of `images` by a method, product or trivial heatmap.

    `explain` returns those of a method, given its name; it is called for each factor of a product.
    """
    if name in TRIVIAL_HEATMAPS:
        return TRIVIAL_HEATMAPS[name](images)
    if name in HEATMAP_PRODUCTS:
        return product(*(explain(factor) for factor in HEATMAP_PRODUCTS[name]))
    return explain(name)


def usable_methods(
    model: keras.Model, images: np.ndarray, target: np.ndarray, value_range: ValueRange
) -> tuple[list[str], dict[str, str]]:
    """The names of the methods and products that can explain a model, and {method: why not}.

    Each method is tried on the first of `images` (n, height, width, channels), for the first of the
    classes `target` (n,).
    """
    reasons = {}
    for name, explain in HEATMAP_METHODS.items():
        try:
            explain(model, images[:1], target[:1], value_range=value_range)
        except ValueError as error:
            reasons[name] = str(error)
    names = [name for name in HEATMAP_METHODS if name not in reasons]
    products = [
        name for name, factors in HEATMAP_PRODUCTS.items() if not reasons.keys() & set(factors)
    ]
    return names + products, reasons


def method_sources(names: Iterable[str]) -> str:
    """A line for each of the methods: the paper that it comes from, and what its sign means."""
    lines = []
    for name in names:
        method = HEATMAP_METHODS[name]
        signed = "; values below zero are evidence against the class" if method.signed else ""
        lines.append(f"{name}: {method.paper}{signed}")
    return "\n".join(lines)
