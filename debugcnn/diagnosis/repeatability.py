"""Does a model predict the same for the same image?"""

from typing import NamedTuple

import numpy as np

from ..views.predictions import logits


class Repeated(NamedTuple):
    """By how much logits of the same images differ, in standard deviations of all logits."""

    again: float  # when they are predicted twice
    alone: float  # when each is predicted alone


def repeatability(
    model, images: np.ndarray, output: str | int | None = None, count: int = 16
) -> Repeated:
    """A Repeated of the first `count` images: a model in inference mode gives (nearly) 0 and 0.

    Dropout that stays on predicts at random; batch normalization that stays in training mode makes
    a prediction depend on the other images of the batch.
    """
    images = images[:count]
    first, again = (logits(model, images, output) for _ in range(2))
    alone = [logits(model, images[i : i + 1], output) for i in range(len(images))]
    spread = float(np.std(first)) or 1.0
    differences = (np.abs(other - first).max() for other in (again, np.concatenate(alone)))
    return Repeated(*(float(difference / spread) for difference in differences))
