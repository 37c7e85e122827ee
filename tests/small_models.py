"""Small models with random weights, and images for them."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from debugcnn.views.tracing import all_layers

SIDE = 16


def randomise(model, seed=0):
    """Weights that no initializer would draw, with normalizations that scale both ways."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.name == "moving_variance":
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        elif variable.dtype == "float32":
            variable.assign(rng.normal(0, 0.5, variable.shape))
    return model


def noise(count=3, side=SIDE, channels=3, seed=1):
    """Images of noise, (count, side, side, channels) float32, 0 to 255."""
    return np.random.default_rng(seed).uniform(0, 255, (count, side, side, channels)).astype("f4")


def trunk():
    return [
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, padding="same", use_bias=False, name="first"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
        layers.MaxPooling2D(name="pool"),
        layers.Conv2D(5, 3, padding="same", activation="relu", name="last"),
    ]


HEADS = {
    "sigmoid": lambda: [layers.Dense(1, activation="sigmoid", name="dense")],
    "logit": lambda: [layers.Dense(1, name="dense")],
    "separate sigmoid": lambda: [layers.Dense(1, name="dense"), layers.Activation("sigmoid")],
    "softmax": lambda: [layers.Dense(3, activation="softmax", name="dense")],
    "logits": lambda: [layers.Dense(3, name="dense")],
    "separate softmax": lambda: [layers.Dense(3, name="dense"), layers.Activation("softmax")],
    "softmax layer": lambda: [layers.Dense(3, name="dense"), layers.Softmax()],
    "tensorflow's softmax": lambda: [layers.Dense(3, activation=tf.nn.softmax, name="dense")],
    "tensorflow's sigmoid": lambda: [layers.Dense(1, activation=tf.nn.sigmoid, name="dense")],
    "log softmax": lambda: [layers.Dense(3, activation="log_softmax", name="dense")],
    "cast softmax": lambda: [
        layers.Dense(3, activation="softmax", name="dense"),
        layers.Activation("linear", dtype="float32"),
    ],
}


class Subclassed(keras.Model):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def call(self, images):
        for part in self.parts:
            images = part(images)
        return images


def functional(parts, side=SIDE):
    images = outputs = keras.Input((side, side, 3))
    for part in parts:
        outputs = part(outputs)
    return keras.Model(images, outputs)


def sequential(parts, side=SIDE):
    return keras.Sequential([keras.Input((side, side, 3)), *parts])


def subclassed(parts):
    model = Subclassed(parts)
    model(noise(1))
    return model


BUILDS = {
    "sequential": sequential,
    "functional": functional,
    "subclassed": subclassed,
    "sequential in sequential": lambda parts: sequential([sequential(parts[:6]), *parts[6:]]),
    "functional in functional": lambda parts: functional([functional(parts[:6]), *parts[6:]]),
    "subclassed in functional": lambda parts: functional([subclassed(parts[:6]), *parts[6:]]),
    "whole classifier inside": lambda parts: sequential([functional(parts)]),
    "pooling that keeps a map of one": lambda parts: functional(
        [*parts[:6], layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten(), *parts[7:]]
    ),
    "operations": lambda parts: functional(
        [*parts[:6], lambda maps: keras.ops.mean(maps + 0, (1, 2)), *parts[7:]]
    ),
}


def classifier(head="sigmoid", build="functional"):
    return randomise(BUILDS[build]([*trunk(), layers.GlobalAveragePooling2D(), *HEADS[head]()]))


def layer_of(model, name):
    return next(layer for layer in all_layers(model) if layer.name == name)
