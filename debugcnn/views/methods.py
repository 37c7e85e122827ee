"""The registry of heatmap methods: a method is one function with one decorator.

    @method("Grad-CAM", paper="Selvaraju et al., ICCV 2017, arXiv:1610.02391, section 3")
    def grad_cam(model, images, target=None, *, layer=None, value_range=(0, 255), output=None): ...

Whatever compares, draws or tests all methods iterates over METHODS. The modules that define methods
fill it when they are imported; `debugcnn.HEATMAP_METHODS` (in heatmap_catalogue.py) is the same
dictionary, filled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

Target = int | Sequence[int] | np.ndarray | None  # a class, one for each image, or the predicted
Layer = keras.Layer | str | None
ValueRange = tuple[float, float] | str  # of a pixel: (lowest, highest), or "caffe" or "torch"
Output = str | int | None  # which of several outputs of a model
Baseline = float | np.ndarray | None  # the values of removed pixels


@dataclass(frozen=True)
class Method:
    """A heatmap method with the settings in which it is compared with others.

    It is called as its function is: (model, images, target=None, *, layer, value_range, output, and
    the function's own options) -> (n, height, width) float32.
    """

    name: str  # in tables and figures
    function: Callable[..., np.ndarray]
    paper: str  # authors, year, identifier, section
    signed: bool  # values below zero are evidence against the class
    settings: Mapping[str, Any]  # options, or functions (model, images) that return an option

    def __call__(
        self, model: keras.Model, images: np.ndarray, target: Target = None, **options: Any
    ) -> np.ndarray:
        """The heatmaps with the method's settings, of which `options` overrule some."""
        for name in self.settings.keys() - options.keys():
            value = self.settings[name]
            options[name] = value(model, images) if callable(value) else value
        return self.function(model, images, target, **options)


METHODS: dict[str, Method] = {}


def method(
    name: str, *, paper: str, signed: bool = False, **settings: Any
) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Register the decorated function as the heatmap method `name`; the function stays as it is.

    It takes (model, images, target=None, *, layer=None, value_range=(0, 255), output=None, and
    options of its own). `settings` are the options with which it is compared, where these differ
    from its defaults; a setting may be a function of the model and the images. A function may be
    registered under several names, with other settings. Raises ValueError for a name that is taken.
    """
    if name in METHODS:
        raise ValueError(f"There is a heatmap method {name!r} already: choose another name.")

    def register(function):
        METHODS[name] = Method(name, function, paper, signed, settings)
        return function

    return register
