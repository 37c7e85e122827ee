"""Small nets and the photos that they are trained on, for planting faults."""

import functools  # noqa: I001
from pathlib import Path

import debugcnn.quiet
import cv2
import keras
import numpy as np
from keras import layers

from examples import shapes

SIDE = 64
CLASSES = ("cats", "dogs")


@functools.lru_cache(4)
def read(data, split, each, skip=0, side=SIDE):
    """Photos (n, side, side, 3) uint8 and labels (n,), `each` of each class after `skip` others."""
    files, labels = [], []
    for label, name in enumerate(CLASSES):
        some = debugcnn.image_files(Path(data, split, name))[skip : skip + each]
        files += some
        labels += [label] * len(some)
    photos = np.empty((len(files), side, side, 3), np.uint8)
    for photo, file in zip(photos, files):
        full = cv2.imread(str(file))[..., ::-1]
        photo[:] = cv2.resize(full, (side, side), interpolation=cv2.INTER_AREA)
    return photos, np.array(labels)


def drawn(split, count, skip=0):
    """Pictures of shapes as examples/shapes.py draws them, and their labels."""
    generator = np.random.default_rng([shapes.SEED, list(shapes.SPLITS).index(split)])
    pictures, labels = shapes.draw_many(skip + count, generator)
    return pictures[skip:], labels[skip:]


def digits(count, skip=0):
    """Handwritten digits (count, 32, 32, 1) uint8, white on black, and labels: those that come with
    scikit-learn (Alpaydin and Kaynak 1998), enlarged from 8 x 8.
    """
    from sklearn.datasets import load_digits  # only this control needs it

    found = load_digits()
    some = np.random.default_rng(0).permutation(len(found.images))[skip : skip + count]
    small = np.float32(found.images[some]) * 255 / 16
    large = [cv2.resize(one, (32, 32), interpolation=cv2.INTER_CUBIC) for one in small]
    return np.uint8(np.clip(np.stack(large), 0, 255))[..., None], found.target[some]


def normalised(filters=(24, 48, 96, 96), head="sigmoid", units=1, **options):
    """Convolutions with batch normalisation, and the mean of the last maps."""
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


def ten_digits():
    return keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def original():
    """The net of the tutorial that this one grew from: 3.6 million parameters, for pixels from 0 to
    255. Four poolings, as its number of parameters tells.
    """
    x = photos = keras.Input((150, 150, 3))
    x = layers.Rescaling(1 / 255)(x)
    for filters, pooled in ((32, 0), (32, 1), (64, 0), (64, 1), (128, 1), (128, 1)):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D()(x) if pooled else x
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    x = layers.Dense(512, activation="relu")(x)
    x = layers.Dense(256, activation="relu")(x)
    return keras.Model(photos, layers.Dense(1, activation="sigmoid")(x))


def train(
    model,
    photos,
    labels,
    epochs,
    rate=2e-3,
    mirrored=True,
    scale=255,
    seed=0,
    held=None,
):
    """Train on photos from 0 to 255, divided by `scale`, with a cosine schedule.

    `held` are other photos, as they are fed, and labels. The curve: {"loss", "accuracy",
    "val_loss", "val_accuracy": a number for each epoch, "learning_rate": the first one}.
    """
    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    single = model.output_shape[-1] == 1
    loss = "binary_crossentropy" if single else "sparse_categorical_crossentropy"
    steps = epochs * (len(photos) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps) if rate < 1 else rate
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"], jit_compile=False)
    curve = {}
    for _ in range(epochs):
        taken = generator.permutation(len(photos))
        some = np.float32(photos[taken]) / scale
        if mirrored:
            flip = generator.random(len(some)) < 0.5
            some[flip] = some[flip, :, ::-1]
        options = dict(batch_size=64, epochs=1, verbose=0, shuffle=False, validation_data=held)
        for name, (value,) in model.fit(some, labels[taken], **options).history.items():
            curve.setdefault(name, []).append(value)
    return curve | {"learning_rate": rate}
