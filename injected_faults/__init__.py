"""Models with faults injected on purpose, on which the accuracy of the diagnosis is measured."""

from debugcnn import quiet as quiet  # before any module here imports TensorFlow
