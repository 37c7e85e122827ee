"""Small models, and how they are trained."""

from typing import Any

import keras
import numpy as np
from keras import layers

from .datasets import SIDE, Labelled

Curve = dict[str, Any]  # {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}


def normalised(
    filters: tuple[int, ...] = (24, 48, 96, 96),
    head: str = "sigmoid",
    units: int = 1,
    **options: Any,
) -> keras.Model:
    """Convolutions with batch normalisation, and global average pooling.

    `options` go to the convolutions.
    """
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3))])
    for i, count in enumerate(filters):
        if i:
            model.add(layers.MaxPooling2D())
        model.add(layers.Conv2D(count, 3, padding="same", use_bias=False, **options))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(units, activation=head))
    return model


def classic(
    filters: tuple[int, ...] = (24, 48, 64, 64),
    head: str = "sigmoid",
    units: int = 1,
    activation: str | None = "relu",
    **options: Any,
) -> keras.Model:
    """Convolutions and poolings, flattened into a dense layer, as in most first tutorials.

    `options` go to the convolutions and dense layers.
    """
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3))])
    for count in filters:
        model.add(layers.Conv2D(count, 3, activation=activation, **options))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dropout(0.3))
    model.add(layers.Dense(64, activation=activation, **options))
    model.add(layers.Dense(units, activation=head, **options))
    return model


def residual(width: int = 32) -> keras.Model:
    """Three residual blocks, with a softmax over two classes."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(width, 5, 2, padding="same")(inputs)
    for count in (width, 2 * width, 3 * width):
        x = layers.MaxPooling2D()(x) if count > width else x
        x = layers.Conv2D(count, 1, use_bias=False)(x)
        branch = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        branch = layers.Conv2D(count, 3, padding="same")(branch)
        x = layers.Add()([x, branch])
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def digit_classifier() -> keras.Model:
    """Two strided convolutions and a softmax over ten digits, for images of 32 x 32 pixels."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def original() -> keras.Model:
    """The model of the tutorial that this repository grew from, for pixels from 0 to 255.

    It has four poolings, the number that gives the 3.6 million parameters of that tutorial.
    """
    x = images = keras.Input((150, 150, 3))
    x = layers.Rescaling(1 / 255)(x)
    for filters, pooled in ((32, 0), (32, 1), (64, 0), (64, 1), (128, 1), (128, 1)):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D()(x) if pooled else x
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    x = layers.Dense(512, activation="relu")(x)
    x = layers.Dense(256, activation="relu")(x)
    return keras.Model(images, layers.Dense(1, activation="sigmoid")(x))


def train(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    epochs: int,
    rate: float = 2e-3,
    flip: bool = True,
    scale: float = 255,
    seed: int = 0,
    validation: Labelled | None = None,
) -> Curve:
    """Train `model` in place with Adam and a cosine schedule; return its training curve.

    `images` have values from 0 to 255, which are divided by `scale`; with `flip`, half of them are
    flipped horizontally in each epoch. A learning rate of 1 or more stays constant. `validation`
    are images as the model takes them, and labels. The curve has a number for each epoch under
    "loss", "accuracy", "val_loss" and "val_accuracy", and the first learning rate.
    """
    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    single = model.output_shape[-1] == 1
    loss = "binary_crossentropy" if single else "sparse_categorical_crossentropy"
    steps = epochs * (len(images) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps) if rate < 1 else rate
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"], jit_compile=False)
    options = dict(batch_size=64, epochs=1, verbose=0, shuffle=False, validation_data=validation)
    curve: Curve = {}
    for _ in range(epochs):
        order = generator.permutation(len(images))
        inputs = np.float32(images[order]) / scale
        if flip:
            flipped = generator.random(len(inputs)) < 0.5
            inputs[flipped] = inputs[flipped, :, ::-1]
        for name, (value,) in model.fit(inputs, labels[order], **options).history.items():
            curve.setdefault(name, []).append(value)
    return curve | {"learning_rate": rate}


def without_optimizer(model: keras.Model) -> keras.Model:
    """A copy of `model` whose file holds no state of an optimizer."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
