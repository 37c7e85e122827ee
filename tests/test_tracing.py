"""A model is recorded without a trace in Keras, in other threads or in the model."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_models import (
    SIDES,
    Subclassed,
    chain,
    classifier,
    noise,
    randomise,
    sequential,
)

import debugcnn
from debugcnn.views import tracing


class Broken(layers.Layer):
    def call(self, images):
        raise RuntimeError("broken on purpose")


def test_keras_is_left_as_it_was_after_an_error():
    call, call_function = keras.Operation.__call__, type(tf.function(len)).__call__
    convolution = layers.Conv2D(2, 3, activation="relu")
    model = Subclassed([convolution, Broken()])
    model.built = True
    with pytest.raises(RuntimeError, match="broken on purpose"):
        tracing.record(model, tf.zeros((1, 8, 8, 3)))
    assert keras.Operation.__call__ is call
    assert type(tf.function(len)).__call__ is call_function
    assert convolution.activation is keras.activations.relu
    with pytest.raises(ValueError, match="expected"):  # inputs are checked as before
        classifier()(np.zeros((1, 5, 5, 3)))


def results_of(model, images):
    yield from debugcnn.activations(model, images).values()
    yield debugcnn.probabilities(model, images)


def test_threads_do_not_see_each_other():
    models, images = [classifier("softmax"), classifier("sigmoid", "sequential")], noise()
    expected = [list(results_of(model, images)) for model in models]
    fresh = [classifier("softmax"), classifier("sigmoid", "sequential")]
    call, results = keras.Operation.__call__, {}

    def look(number):
        results[number] = list(results_of(fresh[number % 2], images))

    threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        for values, same in zip(results[number], expected[number % 2], strict=True):
            np.testing.assert_allclose(values, same, rtol=1e-5, atol=1e-5)
    assert keras.Operation.__call__ is call


def in_another_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join(1)
    return thread


class Restless(layers.Layer):
    """Does something else in another thread, as a web server may at any time."""

    def __init__(self, work, *args):
        super().__init__()
        self.work = work, *args

    def call(self, images):
        in_another_thread(*self.work)
        return images


def beside(*work):
    body = [Restless(*work), layers.Conv2D(2, 1, name="own"), layers.Flatten(), layers.Dense(1)]
    return sequential(body)


def test_what_runs_in_another_thread_is_not_recorded():
    model = beside(layers.Conv2D(1, 1, name="other"), np.zeros((1, 4, 4, 3), "f4"))
    assert list(debugcnn.activations(model, noise())) == ["own"]


def test_a_function_in_another_thread_stays_one():
    traced = []
    model = beside(lambda: tf.function(lambda: traced.append(not tf.executing_eagerly()))())
    traced.clear()
    debugcnn.activations(model, noise())
    assert traced and all(traced)


def test_an_activation_in_another_thread_is_not_recorded():
    def relu(tensor):
        if threading.current_thread() is threading.main_thread():
            in_another_thread(look, np.zeros((1, 4, 4, 3), "f4"))
        return tf.nn.relu(tensor)

    look = layers.Conv2D(2, 1, activation=relu, name="look")
    model, images = randomise(sequential([look, layers.Flatten(), layers.Dense(1)])), noise()
    sums = images @ look.kernel.numpy()[0, 0] + look.bias.numpy()
    reached = debugcnn.responses(model, images, "look")
    np.testing.assert_allclose(reached, sums.max((1, 2)), rtol=1e-4)


def test_two_threads_record_one_after_the_other():
    order, threads = [], []

    def other():
        order.append("waits")
        tracing.record(inner, tf.zeros((1, 4, 4, 3)))
        order.append("runs")

    def start():
        threads.append(in_another_thread(other))
        order.append("first is done")

    inner = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(1, 1)])
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(1, 1)])
    model.layers[0].activation = lambda tensor: start() or tensor
    tracing.record(model, tf.zeros((1, 4, 4, 3)))
    threads[0].join()
    assert order == ["waits", "first is done", "runs"]


def test_functions_of_keras_stay_compiled():
    """A convolution in groups runs on some processors only as XLA compiles it."""
    model, types = chain(layers.Conv2D(6, 3, groups=3)), set()

    def look(images):
        tracing.record(model, images)
        types.update(operation.type for operation in images.graph.get_operations())

    tracing.trace(look, (*SIDES, 3))
    assert "Conv2D" not in types and any("PartitionedCall" in name for name in types)
