"""Draw small pictures of four shapes, train a small net on them, and keep both as an example.

    python examples/shapes.py

writes `examples/shapes.keras`, the net, and `examples/shapes/CLASS/*.png`, pictures that it was not
trained on, for `YourCNN.ipynb`. It takes less than a minute on two processor cores and needs no
download. The net is fed with pixels from 0 to 1 and does not say so itself, as most nets that
people save; its pictures are wider than high, so that a mix-up of the two is noticed.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import debugcnn.quiet
import cv2
import keras
import numpy as np
from keras import layers

CLASSES = ["circle", "square", "star", "triangle"]
HEIGHT, WIDTH = 48, 64
FINER = 3  # times as fine is what is drawn, and then reduced: smooth edges
SPLITS = {"training": 6000, "held out": 2000}
KEPT = 12  # pictures of each class that are written
EPOCHS, BATCH, RATE = 2, 32, 4e-3
SEED = 0


def outline(shape, centre, radius, angle):
    """Corners of a shape (k, 2), in x and y."""
    count = {"circle": 48, "square": 4, "star": 10, "triangle": 3}[shape]
    angles = angle + 2 * np.pi * np.arange(count) / count
    radii = np.full(count, float(radius))
    if shape == "star":
        radii[1::2] *= 0.45
    return centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


def background(generator):
    """A gradient between two colours, with coarse and fine stains."""
    size = FINER * WIDTH, FINER * HEIGHT
    first, second = generator.uniform(0, 255, (2, 3))
    slope = generator.normal(size=2)
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    share = 1 / (1 + np.exp(-2 * (slope[0] * x + slope[1] * y)))[..., None]
    picture = first + share * (second - first)
    for cells in ((3, 4), (12, 16)):
        stains = generator.normal(0, 12, (*cells, 3)).astype(np.float32)
        picture += cv2.resize(stains, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(picture, 0, 255)


def draw(shape, generator):
    """A picture (height, width, 3) uint8, RGB: a shape between strokes that mean nothing."""
    picture = background(generator)
    radius = FINER * generator.uniform(8, 20)
    middle = FINER * np.array([WIDTH, HEIGHT]) / 2
    room = np.maximum(FINER * np.array([WIDTH, HEIGHT]) / 2 - radius, 0)
    centre = middle + generator.uniform(-1, 1, 2) * room
    around = picture[int(centre[1]), int(centre[0])]
    colour = generator.uniform(0, 255, 3)
    while np.abs(colour - around).max() < 100:
        colour = generator.uniform(0, 255, 3)
    corners = outline(shape, centre, radius, generator.uniform(0, 2 * np.pi))
    cv2.fillPoly(picture, [np.rint(corners).astype(np.int32)], colour, cv2.LINE_AA)
    for _ in range(generator.integers(1, 4)):
        ends = generator.uniform(0, FINER * np.array([WIDTH, HEIGHT]), (2, 2)).astype(int)
        thickness = int(FINER * generator.uniform(0.6, 1.6))
        stroke = generator.uniform(0, 255, 3)
        cv2.line(picture, ends[0], ends[1], stroke, thickness, cv2.LINE_AA)
    small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def draw_many(count, generator):
    """Pictures (count, height, width, 3) uint8 and their classes (count,), the classes in turn."""
    labels = np.arange(count) % len(CLASSES)
    return np.stack([draw(CLASSES[label], generator) for label in labels]), labels


def build():
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


def train(pictures, labels):
    """The net, trained on pictures from 0 to 255, as drawn and mirrored. It gets them as 0 to 1."""
    keras.utils.set_random_seed(SEED)
    pictures = np.float32(pictures) / 255
    mirrored = [pictures[:, :, ::-1], pictures[:, ::-1], pictures[:, ::-1, ::-1]]
    pictures, labels = np.concatenate([pictures, *mirrored]), np.tile(labels, 4)
    net = build()
    steps = EPOCHS * len(pictures) // BATCH
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    net.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    net.fit(pictures, labels, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    alone = build()  # without the optimizer, which takes twice the room of the net
    alone.set_weights(net.get_weights())
    return alone


def main(folder):
    start = time.perf_counter()
    sets = {
        split: draw_many(count, np.random.default_rng([SEED, number]))
        for number, (split, count) in enumerate(SPLITS.items())
    }
    print(f"{sum(SPLITS.values()):,} pictures drawn in {time.perf_counter() - start:.0f} s")
    net = train(*sets["training"])
    pictures, labels = sets["held out"]
    right = net.predict(np.float32(pictures) / 255, verbose=0).argmax(1) == labels
    print(f"{net.count_params():,} parameters")
    print(f"{right.mean():.1%} of {len(labels):,} held-out pictures right")
    shutil.rmtree(folder / "shapes", ignore_errors=True)
    for label, name in enumerate(CLASSES):
        (folder / "shapes" / name).mkdir(parents=True)
        for number, picture in enumerate(pictures[labels == label][:KEPT], 1):
            file = folder / "shapes" / name / f"{name}-{number:02}.png"
            cv2.imwrite(str(file), picture[..., ::-1])
    net.save(folder / "shapes.keras")
    kept = right[: KEPT * len(CLASSES)]
    print(f"{kept.sum()} of the {len(kept)} kept pictures right")
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="to write to")
    main(parser.parse_args().folder)
