"""Small models with random weights, and images for them."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from debugcnn.views.tracing import all_layers, own_shape

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


# ------------------------------------------------------------- models whose sides are not the same

SIDES = 36, 48  # height and width, so that exchanged sides are noticed


def chain(*body, sides=SIDES, channels=3, head=None):
    """A Sequential model with random weights; by default it predicts three classes."""
    head = head or [layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax", name="decide")]
    return randomise_trainable(keras.Sequential([keras.Input((*sides, channels)), *body, *head]))


def randomise_trainable(model, seed=0):
    """Smaller weights than those of `randomise`, with normalizations that keep the sign."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        values = rng.normal(0, 0.3, variable.shape)
        variable.assign(np.abs(values) if variable.name == "gamma" else values)
    return model


def images_for(model, count=3, seed=1):
    """Images of noise of the model's own size, 0 to 255."""
    sides = [side or 40 for side in own_shape(model)]
    return np.random.default_rng(seed).uniform(0, 255, (count, *sides)).astype(np.float32)


def with_two_outputs(named):
    """A model with the outputs kind (softmax) and young (sigmoid), and one with kind alone."""
    images = keras.Input((*SIDES, 3))
    maps = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="look")(images))
    kind = layers.Dense(3, "softmax", name="kind")(maps)
    young = layers.Dense(1, "sigmoid", name="young")(maps)
    outputs = {"kind": kind, "young": young} if named else [kind, young]
    return randomise_trainable(keras.Model(images, outputs)), keras.Model(images, kind)


def two_streams():
    """A fine and a coarse stream of convolutions, whose layers run in turn."""
    images = keras.Input((64, 64, 3))
    fine = layers.Conv2D(3, 3, name="fine")(layers.Conv2D(3, 3)(images))
    coarse = images
    for name in ("coarse1", "coarse2", "coarse3"):
        coarse = layers.Conv2D(3, 7, strides=2, name=name)(coarse)
    pooled = [layers.GlobalAveragePooling2D()(maps) for maps in (fine, coarse)]
    return randomise_trainable(keras.Model(images, layers.Dense(3)(layers.Concatenate()(pooled))))


def ensemble():
    """The mean of two models, each of which ends in a layer of a fixed size."""
    images = keras.Input((32, 40, 3))
    predictions = []
    for i in range(2):
        body = [layers.Conv2D(3, 3, activation="relu", name="look"), layers.MaxPooling2D()]
        head = [layers.Flatten(), layers.Dense(3, "softmax")]
        member = keras.Sequential([keras.Input((32, 40, 3)), *body, *head], name=f"net{i}")
        predictions.append(member(images))
    return randomise_trainable(keras.Model(images, layers.Average()(predictions)))


def colour_means(kernel, bias, activation, normalised=False, sides=(4, 6)):
    """A model whose logits are the mean colours of an image, (n, 3), @ kernel + bias."""
    body = [layers.Conv2D(3, 1, use_bias=False, name="same")]
    body += [layers.BatchNormalization(name="norm")] if normalised else []
    head = [layers.GlobalAveragePooling2D(), layers.Dense(len(bias), activation, name="decide")]
    model = keras.Sequential([keras.Input((*sides, 3)), *body, *head])
    model.get_layer("same").kernel.assign(np.eye(3)[None, None])
    model.get_layer("decide").set_weights([np.float32(kernel), np.float32(bias)])
    return model


def plain(*colours):
    """Images of one colour each."""
    return np.ones((len(colours), 4, 6, 3), "f4") * np.float32(colours)[:, None, None]
