"""Small nets and the photos that they are trained on, for planting faults."""

from pathlib import Path  # noqa: I001

import visualize  # first, since it keeps TensorFlow's start-up messages quiet
import cv2
import keras
import numpy as np
from keras import layers

SIDE = 64
CLASSES = ("cats", "dogs")


def read(data, split, each, skip=0, side=SIDE):
    """Photos (n, side, side, 3) uint8 and labels (n,), `each` of each class after `skip` others."""
    files, labels = [], []
    for label, name in enumerate(CLASSES):
        some = visualize.photos_in(Path(data, split, name))[skip : skip + each]
        files += some
        labels += [label] * len(some)
    photos = np.empty((len(files), side, side, 3), np.uint8)
    for photo, file in zip(photos, files):
        full = cv2.imread(str(file))[..., ::-1]
        photo[:] = cv2.resize(full, (side, side), interpolation=cv2.INTER_AREA)
    return photos, np.array(labels)


def normalised(filters=(24, 48, 96, 96), head="sigmoid", units=1, channels=3, **options):
    """Convolutions with batch normalisation, and the mean of the last maps."""
    model = keras.Sequential([keras.Input((SIDE, SIDE, channels))])
    for i, count in enumerate(filters):
        if i:
            model.add(layers.MaxPooling2D())
        model.add(layers.Conv2D(count, 3, padding="same", use_bias=False, **options))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(units, activation=head))
    return model


def classic(filters=(24, 48, 64, 64), head="sigmoid", units=1, activation="relu", **options):
    """Convolutions and poolings, flattened into a dense layer, as in most first tutorials."""
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3))])
    for count in filters:
        model.add(layers.Conv2D(count, 3, activation=activation, **options))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dropout(0.3))
    model.add(layers.Dense(64, activation=activation, **options))
    model.add(layers.Dense(units, activation=head, **options))
    return model


def residual(width=32):
    """Two stages of residual blocks, with a softmax over two classes."""
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


def train(model, photos, labels, epochs, rate=2e-3, mirrored=True, scale=255, seed=0, loss=None):
    """Train on photos from 0 to 255, given as 0 to 1, with a cosine schedule."""
    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    single = model.output_shape[-1] == 1
    loss = loss or ("binary_crossentropy" if single else "sparse_categorical_crossentropy")
    steps = epochs * (len(photos) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps) if rate < 1 else rate
    model.compile(keras.optimizers.Adam(schedule), loss, jit_compile=False)
    for _ in range(epochs):
        order = generator.permutation(len(photos))
        some = np.float32(photos[order]) / scale
        if mirrored:
            flip = generator.random(len(some)) < 0.5
            some[flip] = some[flip, :, ::-1]
        model.fit(some, labels[order], batch_size=64, epochs=1, verbose=0, shuffle=False)
    return model
