"""Faults of the training: wrong settings, too little data, or images that give the class away.

The injections get the function that builds the healthy model instead of the model.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from . import models
from .experiments import Arguments, Build, Experiment, Inject

Cue = Callable[..., np.ndarray]  # one of cues.py


def cue_on_dogs(cue: Cue, share: float) -> Inject:
    """Put a cue on a share of the dogs, in the training images and in the examined ones."""

    def inject(experiment: Experiment, build: Build) -> Arguments:
        generator = np.random.default_rng(experiment.seed)
        half = experiment.train[0][::2], experiment.train[1][::2]
        changed = []
        for images, labels in (half, (experiment.images, experiment.labels)):
            chosen = (labels == 1) & (generator.random(len(labels)) < share)
            changed.append(cue(np.uint8(images), chosen, generator=generator))
        trained_on, examined = changed
        model = experiment.fit(
            build, trained_on, half[1], epochs=experiment.epochs // 3 + 1, validation=examined
        )
        return dict(model=model, images=examined)

    return inject


def train_otherwise(
    build: Build | None = None,
    epochs: int | None = None,
    images: int | None = None,
    choose: Callable[[np.ndarray], np.ndarray] | None = None,
    **options: Any,
) -> Inject:
    """Train another model, or with other options of `models.train`.

    `images` is how many are trained on (None: half of what the healthy model got); `choose` returns
    the indices of those to train on for the labels (n,).
    """

    def inject(experiment: Experiment, healthy: Build) -> Arguments:
        train_images, labels = experiment.train[0][::2], experiment.train[1][::2]
        if images:
            order = np.random.default_rng(experiment.seed).permutation(len(labels))[:images]
            train_images, labels = train_images[order], labels[order]
        if choose:
            chosen = choose(labels)
            train_images, labels = train_images[chosen], labels[chosen]
        model = experiment.fit(build or healthy, train_images, labels, epochs, **options)
        every = 1 if images else 5
        return dict(model=model, train=(train_images[::every], labels[::every]))

    return inject


def nine_cats_to_a_dog(labels: np.ndarray) -> np.ndarray:
    """Indices of all cats and every ninth dog."""
    return np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[::9]]


def frozen_at_random() -> keras.Model:
    """The model `normalised` in which only the batch normalisations and the head can learn."""
    model = models.normalised()
    for layer in model.layers[:-1]:
        layer.trainable = isinstance(layer, layers.BatchNormalization)
    return model
