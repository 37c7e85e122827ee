"""Draw images of four shapes, train a small model on them, and keep both as an example.

    python -m examples.shapes

This writes `examples/shapes.keras`, the model, and `examples/shapes/CLASS/*.png`, images that it
was not trained on, for `YourCNN.ipynb`. It takes less than a minute on two processor cores and
needs no download. The model takes pixels from 0 to 1, which its file does not say, as with most
models that people save; its images are wider than high, so that a mix-up of the two shows.
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import layers

CLASSES = ["circle", "square", "star", "triangle"]
HEIGHT, WIDTH = 48, 64
SUPERSAMPLING = 3  # shapes are drawn so many times larger and then reduced, for smooth edges
SPLITS = {"training": 6000, "held out": 2000}
KEPT = 12  # images of each class that are written
EPOCHS, BATCH, RATE = 2, 32, 4e-3
SEED = 0


def outline(shape: str, center: np.ndarray, radius: float, angle: float) -> np.ndarray:
    """Corners of a shape (k, 2), in x and y."""
    count = {"circle": 48, "square": 4, "star": 10, "triangle": 3}[shape]
    angles = angle + 2 * np.pi * np.arange(count) / count
    radii = np.full(count, float(radius))
    if shape == "star":
        radii[1::2] *= 0.45
    return center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


def background(generator: np.random.Generator) -> np.ndarray:
    """A gradient between two colours with coarse and fine stains, SUPERSAMPLING times as large as
    an image, from 0 to 255.
    """
    size = SUPERSAMPLING * WIDTH, SUPERSAMPLING * HEIGHT
    first, second = generator.uniform(0, 255, (2, 3))
    slope = generator.normal(size=2)
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    share = 1 / (1 + np.exp(-2 * (slope[0] * x + slope[1] * y)))[..., None]
    image = first + share * (second - first)
    for cells in ((3, 4), (12, 16)):
        stains = generator.normal(0, 12, (*cells, 3)).astype(np.float32)
        image += cv2.resize(stains, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255)


def draw(shape: str, generator: np.random.Generator) -> np.ndarray:
    """An image (HEIGHT, WIDTH, 3) uint8, RGB: a shape among strokes that have no meaning."""
    image = background(generator)
    size = SUPERSAMPLING * np.array([WIDTH, HEIGHT])
    radius = SUPERSAMPLING * generator.uniform(8, 20)
    room = np.maximum(size / 2 - radius, 0)
    center = size / 2 + generator.uniform(-1, 1, 2) * room
    behind = image[int(center[1]), int(center[0])]
    colour = generator.uniform(0, 255, 3)
    while np.abs(colour - behind).max() < 100:
        colour = generator.uniform(0, 255, 3)
    corners = outline(shape, center, radius, generator.uniform(0, 2 * np.pi))
    cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], colour, cv2.LINE_AA)
    for _ in range(generator.integers(1, 4)):
        ends = generator.uniform(0, size, (2, 2)).astype(int)
        thickness = int(SUPERSAMPLING * generator.uniform(0.6, 1.6))
        cv2.line(image, ends[0], ends[1], generator.uniform(0, 255, 3), thickness, cv2.LINE_AA)
    small = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def draw_many(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, HEIGHT, WIDTH, 3) uint8 and their classes (count,), the classes in turn."""
    labels = np.arange(count) % len(CLASSES)
    return np.stack([draw(CLASSES[label], generator) for label in labels]), labels


def build() -> keras.Model:
    """A residual model with a softmax over the four shapes."""

    def convolve(x, filters, number, size=3, strides=1):
        options = dict(padding="same", use_bias=False, name=f"conv{number}")
        x = layers.Conv2D(filters, size, strides, **options)(x)
        return layers.BatchNormalization(name=f"norm{number}")(x)

    def relu(x, number):
        return layers.ReLU(name=f"relu{number}")(x)

    inputs = keras.Input((HEIGHT, WIDTH, 3), name="picture")
    x = relu(convolve(inputs, 12, 1, size=5, strides=2), 1)
    x = relu(convolve(x, 24, 2), 2)
    x = layers.MaxPooling2D(name="pool1")(x)
    branch = relu(convolve(x, 24, 3), 3)
    branch = convolve(branch, 24, 4)
    x = relu(layers.Add(name="add")([x, branch]), 4)
    x = layers.MaxPooling2D(name="pool2")(x)
    x = relu(convolve(x, 48, 5), 5)
    x = layers.GlobalMaxPooling2D(name="highest")(x)
    outputs = layers.Dense(len(CLASSES), activation="softmax", name="answer")(x)
    return keras.Model(inputs, outputs, name="shapes")


def train(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """The model, trained on images from 0 to 255 as they are and flipped either way.

    It takes pixels from 0 to 1.
    """
    keras.utils.set_random_seed(SEED)
    images = np.float32(images) / 255
    flipped = [images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1]]
    images, labels = np.concatenate([images, *flipped]), np.tile(labels, 4)
    model = build()
    steps = EPOCHS * len(images) // BATCH
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    small = build()  # without the state of the optimizer, which would triple the file
    small.set_weights(model.get_weights())
    return small


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.shapes", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="to write to")
    folder = parser.parse_args(arguments).folder
    start = time.perf_counter()
    sets = {
        split: draw_many(count, np.random.default_rng([SEED, number]))
        for number, (split, count) in enumerate(SPLITS.items())
    }
    print(f"{sum(SPLITS.values()):,} images drawn in {time.perf_counter() - start:.0f} s")
    model = train(*sets["training"])
    images, labels = sets["held out"]
    correct = model.predict(np.float32(images) / 255, verbose=0).argmax(1) == labels
    print(f"{model.count_params():,} parameters")
    print(f"{correct.mean():.1%} of {len(labels):,} held-out images classified correctly")
    shutil.rmtree(folder / "shapes", ignore_errors=True)
    for label, name in enumerate(CLASSES):
        (folder / "shapes" / name).mkdir(parents=True)
        for number, image in enumerate(images[labels == label][:KEPT], 1):
            file = folder / "shapes" / name / f"{name}-{number:02}.png"
            cv2.imwrite(str(file), image[..., ::-1])
    model.save(folder / "shapes.keras")
    kept = correct[: KEPT * len(CLASSES)]
    print(f"{kept.sum()} of the {len(kept)} kept images classified correctly")
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
