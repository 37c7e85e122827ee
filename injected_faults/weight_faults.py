"""Faults in the weights or layers of a healthy model.

A change is a function of a copy of the model, which it edits in place or replaces by the model that
it returns, and of a random generator.
"""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from .experiments import Arguments, Experiment, Inject

Change = Callable[[keras.Model, np.random.Generator], keras.Model | None]


def edited_copy(model: keras.Model, change: Change, seed: int = 0) -> keras.Model:
    """A copy of `model` after `change`; `model` itself stays as it is."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return change(copy, np.random.default_rng(seed)) or copy


def edit(change: Change) -> Inject:
    """The injection of a change."""

    def inject(experiment: Experiment, model: keras.Model) -> Arguments:
        return dict(model=edited_copy(model, change, experiment.seed))

    return inject


def layers_of_kind(model: keras.Model, kind: type[layers.Layer]) -> list[layers.Layer]:
    """The layers of `model` that are of a class, in their order."""
    return [layer for layer in model.layers if isinstance(layer, kind)]


def nan_in_one_filter(model: keras.Model, generator: np.random.Generator) -> None:
    convolution = layers_of_kind(model, layers.Conv2D)[1]
    kernel, *others = convolution.get_weights()
    kernel[..., 3] = np.nan
    convolution.set_weights([kernel, *others])


def zero_last_convolution(model: keras.Model, generator: np.random.Generator) -> None:
    convolution = layers_of_kind(model, layers.Conv2D)[-1]
    convolution.set_weights([0 * weight for weight in convolution.get_weights()])


def reinitialize_last_convolution(model: keras.Model, generator: np.random.Generator) -> None:
    convolution = layers_of_kind(model, layers.Conv2D)[-1]
    keras.utils.set_random_seed(int(generator.integers(2**31)))  # for the initialisers
    fresh = type(convolution).from_config(convolution.get_config())
    fresh.build(convolution.input.shape)
    convolution.set_weights(fresh.get_weights())


def shift_logit(by: float) -> Change:
    """Add a number to the bias of the last unit of the last layer."""

    def change(model: keras.Model, generator: np.random.Generator) -> None:
        kernel, bias = model.layers[-1].get_weights()
        bias[-1] += by
        model.layers[-1].set_weights([kernel, bias])

    return change


def scale_logits(factor: float) -> Change:
    """Multiply the weights of the last layer."""

    def change(model: keras.Model, generator: np.random.Generator) -> None:
        head = model.layers[-1]
        head.set_weights([factor * weight for weight in head.get_weights()])

    return change


def reset_batch_statistics(model: keras.Model, generator: np.random.Generator) -> None:
    for layer in layers_of_kind(model, layers.BatchNormalization):
        layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
        layer.moving_variance.assign(np.ones(layer.moving_variance.shape))


@keras.saving.register_keras_serializable("injected_faults")
class AlwaysTraining(layers.BatchNormalization):
    """A batch normalisation that ignores its argument `training`.

    (Keras 3 overrules a layer that was called with training=True, but not a custom layer that
    passes it on.)
    """

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=True, mask=mask)


@keras.saving.register_keras_serializable("injected_faults")
class AlwaysDropout(layers.Dropout):
    """A dropout that ignores its argument `training`."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


def training_mode(model: keras.Model, generator: np.random.Generator | None = None) -> keras.Model:
    """A copy of `model` whose batch normalisations always use the statistics of the batch."""

    def clone(layer: layers.Layer) -> layers.Layer:
        normalises = isinstance(layer, layers.BatchNormalization)
        return (AlwaysTraining if normalises else type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def dropout_always_on(model: keras.Model, generator: np.random.Generator) -> keras.Model:
    dropped = AlwaysDropout(0.5)(model.layers[-2].output)
    return keras.Model(model.inputs, model.layers[-1](dropped))


def softmax_on_top(model: keras.Model, generator: np.random.Generator) -> keras.Model:
    outputs = model.outputs[0]
    if outputs.shape[-1] == 1:
        outputs = layers.Concatenate()([1 - outputs, outputs])
    return keras.Model(model.inputs, layers.Softmax()(outputs))
