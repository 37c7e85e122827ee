"""A small model for drawn shapes."""

from debugcnn import quiet as quiet  # before any module here imports TensorFlow
