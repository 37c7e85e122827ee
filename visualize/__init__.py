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
from .activations import (
    Channels,
    activations,
    constant_channels,
    convolution_ends,
    convolution_layers,
)
from .answers import (
    VALUE_RANGES,
    Answer,
    Found,
    Trial,
    answers,
    find_value_range,
    from_pixels,
    heads,
    last_operation,
    logits,
    logits_and_probabilities,
    logits_in,
    probabilities,
    to_pixels,
)
from .attributions import (
    filling,
    guided_backpropagation,
    integrated_gradients,
    smooth_grad,
)
from .covering import blurred, occlusion, rise, score_cam
from .figures import (
    confusion_figure,
    grid,
    in_colour,
    layers_figure,
    montage,
    overlay,
    show,
)
from .files import (
    class_folders,
    is_readable,
    labelled_files,
    load_labelled_photos,
    load_model,
    load_photos,
    photos_in,
)
from .heatmaps import (
    default_layer,
    evidence,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
)
from .judging import (
    blob,
    cascade,
    deletion_curve,
    edges,
    hottest_inside,
    learning_layers,
    peak_inside,
    product,
    rank_correlation,
    share_inside,
)
from .labels import best_pairing, classes_of_folders, confusion, interval
from .patterns import (
    Objective,
    filter_patterns,
    objective,
    pasted_responses,
    receptive_field,
    responses,
)
from .recording import (
    CONVOLUTIONS,
    NORMALISATIONS,
    POOLINGS,
    LayerFacts,
    check_images,
    digest,
    image_shape,
    layer_table,
)

__all__ = [
    "CONVOLUTIONS",
    "NORMALISATIONS",
    "POOLINGS",
    "VALUE_RANGES",
    "Answer",
    "Channels",
    "Found",
    "LayerFacts",
    "Objective",
    "Trial",
    "activations",
    "answers",
    "best_pairing",
    "blob",
    "blurred",
    "cascade",
    "check_images",
    "class_folders",
    "classes_of_folders",
    "confusion",
    "confusion_figure",
    "constant_channels",
    "convolution_ends",
    "convolution_layers",
    "default_layer",
    "deletion_curve",
    "digest",
    "edges",
    "evidence",
    "filling",
    "filter_patterns",
    "find_value_range",
    "from_pixels",
    "grad_cam",
    "grad_cam_plus_plus",
    "grid",
    "guided_backpropagation",
    "heads",
    "hires_cam",
    "hottest_inside",
    "image_shape",
    "in_colour",
    "integrated_gradients",
    "interval",
    "is_readable",
    "labelled_files",
    "last_operation",
    "layer_cam",
    "layer_table",
    "layers_figure",
    "learning_layers",
    "load_labelled_photos",
    "load_model",
    "load_photos",
    "logits",
    "logits_and_probabilities",
    "logits_in",
    "montage",
    "objective",
    "occlusion",
    "overlay",
    "pasted_responses",
    "peak_inside",
    "photos_in",
    "probabilities",
    "product",
    "rank_correlation",
    "receptive_field",
    "responses",
    "rise",
    "score_cam",
    "share_inside",
    "show",
    "smooth_grad",
    "to_pixels",
]
