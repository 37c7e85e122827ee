"""Which heatmap is true? All methods, compared on a model and images of yours."""

from .command import main as main
