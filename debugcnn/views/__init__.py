"""What a convolutional network computes: activations, filter patterns and heatmaps."""

from .. import quiet  # noqa: F401  # before anything in here imports TensorFlow
