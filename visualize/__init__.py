"""Three views of a convolutional network: activations, filter patterns and heatmaps.

Plain functions on arrays, for any Keras 3 image classifier on the TensorFlow backend. Nothing is
rebuilt: the model runs as it is, in inference mode, and what its layers return is recorded on the
way. So Sequential, functional, subclassed and nested models all work, and none is changed. The
first call compiles, as that of Keras' `predict` does, and later ones on images of that shape reuse
what it compiled.

`images` are always (n, height, width, channels), uint8 or float, with the values that the model
takes. Every function returns NumPy arrays. What cannot be done raises ValueError with a sentence.
"""

from . import quiet  # noqa: F401  # first, before anything imports TensorFlow
from .activations import activations, convolution_layers
from .answers import (
    VALUE_RANGES,
    Answer,
    Found,
    Trial,
    answers,
    find_value_range,
    from_pixels,
    probabilities,
    to_pixels,
)
from .figures import grid, montage, overlay, show
from .files import class_folders, load_labelled_photos, load_model, load_photos
from .heatmaps import default_layer, evidence, grad_cam, occlusion
from .patterns import Objective, filter_patterns, objective, receptive_field, responses
from .recording import CONVOLUTIONS, NORMALISATIONS, POOLINGS, LayerFacts, digest, layer_table

__all__ = [
    "CONVOLUTIONS",
    "NORMALISATIONS",
    "POOLINGS",
    "VALUE_RANGES",
    "Answer",
    "Found",
    "LayerFacts",
    "Objective",
    "Trial",
    "activations",
    "answers",
    "class_folders",
    "convolution_layers",
    "default_layer",
    "digest",
    "evidence",
    "filter_patterns",
    "find_value_range",
    "from_pixels",
    "grad_cam",
    "grid",
    "layer_table",
    "load_labelled_photos",
    "load_model",
    "load_photos",
    "montage",
    "objective",
    "occlusion",
    "overlay",
    "probabilities",
    "receptive_field",
    "responses",
    "show",
    "to_pixels",
]
