"""Layers with weights that follow each other without an activation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tiny_classifiers import (
    SIDE,
    case_of,
    colours,
    examined,
    faults_of,
    fresh,
    model_of,
    red_beside_blue,
    variation_reader,
    verdict,
)

import debugcnn
from debugcnn.diagnosis.causes.missing_activation import count_without_any, linear_layers
from debugcnn.diagnosis.layers import (
    logits_with_activations,
)
from debugcnn.diagnosis.registry import CAUSES

Conv, Norm, Pool = layers.Conv2D, layers.BatchNormalization, layers.MaxPooling2D
Flat, Dense, ReLU, Act = layers.Flatten, layers.Dense, layers.ReLU, layers.Activation


@pytest.mark.parametrize(
    ("inner", "count"),
    [
        (lambda: [Conv(4, 3), Pool(), Flat()], 2),
        (lambda: [Conv(4, 3, activation=keras.activations.linear), Norm(), Flat()], 2),
        (lambda: [Conv(4, 3), Flat(), Dense(5)], 3),
        (lambda: [Conv(4, 3), Flat(), Dense(5, "relu")], 0),  # only one convolution
        (lambda: [Conv(4, 3), ReLU(), Flat()], 0),
        (lambda: [Conv(4, 3), Act("tanh"), Flat()], 0),
        (lambda: [Flat()], 0),  # a single layer is meant to be linear
        (lambda: [Conv(4, 3), Conv(4, 3), Flat(), Dense(5, "relu")], 2),
        (lambda: [Conv(4, 3), Conv(4, 3), Conv(4, 3), Flat(), Dense(5, "relu")], 3),
        (lambda: [Conv(4, 3), Pool(), Conv(4, 3), Flat(), Dense(5, "relu")], 2),
        (lambda: [Conv(4, 3), Conv(4, 3), Flat(), Dense(5), ReLU()], 2),
        (lambda: [Conv(4, 3), ReLU(), Conv(4, 3), Flat(), Dense(5, "relu")], 0),
        (lambda: [Conv(4, 3), Conv(4, 3), ReLU(), Flat(), Dense(5, "relu")], 0),
        (lambda: [Conv(4, 3, activation="relu"), Conv(4, 3), Flat(), Dense(5)], 0),
        (lambda: [Conv(4, 3, activation="relu"), Conv(4, 3), Flat(), Dense(5, "relu")], 0),
        (lambda: [Conv(4, 3), layers.LayerNormalization(), Conv(4, 3), Flat()], 0),
        (lambda: [Conv(4, 3), Conv(4, 3), Flat(), Dense(5)], 4),
    ],
)
def test_layers_in_a_row_without_any_activation(inner, count):
    assert count_without_any(model_of(*inner(), Dense(2), layers.Softmax())) == count


@pytest.mark.parametrize("head", [Dense(2, "softmax"), Dense(2), Dense(1, "sigmoid")])
def test_the_head_does_not_count_as_an_activation(head):
    assert count_without_any(model_of(Conv(4, 3), Pool(), Flat(), head)) == 2


def test_convolutions_only_without_an_activation():
    pooled = layers.GlobalAveragePooling2D
    for inner, count in (
        ([Conv(4, 3), Conv(2, 3), pooled(), layers.Softmax()], 2),
        ([Conv(2, 3), pooled(), layers.Softmax()], 0),
        ([Conv(4, 3, activation="relu"), Conv(2, 3), pooled(), layers.Softmax()], 0),
    ):
        assert count_without_any(model_of(*inner)) == count


def test_a_model_without_any_activation_is_a_fault():
    case = case_of(model_of(Conv(4, 3), Pool(), Flat(), Dense(2, "softmax")), *colours(40))
    report = examined(case, "missing_activation:missing_activation")
    (finding,) = report.findings
    assert (finding.verdict, finding.value) == ("fault", 2)
    assert "2 layers with weights are followed by another" in finding.message


class OwnModel(keras.Model):
    """Does something between its layers that is no layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.dense = Conv(4, 3), Dense(2)

    def call(self, images):
        return self.dense(tf.reduce_mean(tf.nn.relu(self.conv(images)), (1, 2)))


class OwnSequence(keras.Model):
    """Runs a list of layers."""

    def __init__(self):
        super().__init__()
        self.parts = [Conv(4, 3, activation="relu"), Conv(4, 3), Flat(), Dense(2)]

    def call(self, images):
        for part in self.parts:
            images = part(images)
        return images


@pytest.mark.parametrize("own", [OwnModel, OwnSequence])
def test_what_a_model_of_its_own_class_does_between_layers_is_not_known(own):
    model = own()
    model(np.zeros((1, SIDE, SIDE, 3), np.float32))
    assert count_without_any(model) == 0 and linear_layers(model) == []


def test_an_activation_that_is_no_layer_counts():
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.ops.relu(Conv(4, 3)(inputs))
    assert count_without_any(keras.Model(inputs, Dense(2)(Flat()(x)))) == 0


@pytest.mark.parametrize(
    ("inner", "missing"),
    [
        (lambda: [Conv(4, 3, name="a"), ReLU(), Conv(4, 3, name="b")], ["b"]),
        (lambda: [Conv(4, 3, name="a"), ReLU(), Conv(4, 3, name="b"), ReLU()], []),
        (lambda: [Conv(4, 3, name="a"), Pool(), Conv(4, 3, activation="relu", name="b")], ["a"]),
        (
            lambda: [
                *(Conv(4, 3, name="a"), Norm(name="n"), Act("linear")),
                Conv(4, 3, activation="relu", name="b"),
            ],
            ["n"],
        ),
        (lambda: [Conv(4, 3, name="a"), layers.GroupNormalization(2), Conv(4, 3), ReLU()], []),
        (lambda: [Conv(4, 3, name="a"), Conv(4, 3, name="b")], []),  # no other has any
        (lambda: [Conv(4, 3, activation="tanh", name="a"), Conv(4, 3, name="b")], ["b"]),
        (lambda: [Conv(4, 3, name="a"), layers.PReLU(), Conv(4, 3, name="b")], []),  # with weights
    ],
)
def test_places_where_an_activation_is_missing(inner, missing):
    model = model_of(*inner(), layers.GlobalAveragePooling2D(), Dense(2, name="head"))
    assert [linear.layer for linear in linear_layers(model)] == missing


def test_the_head_is_no_activation_of_others():
    model = model_of(Conv(4, 3), Conv(4, 3), Flat(), Dense(2, "softmax"))
    assert linear_layers(model) == []


def test_the_activation_that_is_tried_is_that_of_the_others():
    model = model_of(Conv(4, 3, activation="tanh"), Conv(4, 3, name="b"), Flat(), Dense(2))
    (linear,) = linear_layers(model)
    assert linear.activation is keras.activations.tanh
    images = np.random.default_rng(0).uniform(size=(3, SIDE, SIDE, 3)).astype(np.float32)
    whole = keras.Sequential([*model.layers[:2], Act("tanh"), *model.layers[2:]])
    whole.build((None, SIDE, SIDE, 3))
    expected = debugcnn.logits(whole, images)
    logits = logits_with_activations(model, {"b": linear.activation}, images)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.abs(debugcnn.logits(model, images) - expected).max() > 1e-3


def test_a_shared_layer_gets_its_activation_each_time_it_runs():
    shared, inputs = Conv(3, 1, name="shared"), keras.Input((SIDE, SIDE, 3))
    x = shared(shared(ReLU()(inputs)))
    model = keras.Model(inputs, Dense(2)(Flat()(x)))
    y = ReLU()(shared(ReLU()(shared(ReLU()(inputs)))))
    whole = keras.Model(inputs, model.layers[-1](Flat()(y)))
    images = np.random.default_rng(0).normal(size=(3, SIDE, SIDE, 3)).astype(np.float32)
    logits = logits_with_activations(model, {"shared": keras.activations.relu}, images)
    np.testing.assert_allclose(logits, debugcnn.logits(whole, images), atol=1e-5)


@pytest.mark.parametrize(("count", "forms"), [(2, 3), (4, 1)])
def test_few_places_are_tried_one_by_one_and_all_together(count, forms):
    linear = [Conv(4, 1, name=f"conv{i}") for i in range(count)]
    model = model_of(Conv(4, 1, activation="relu"), *linear, Flat(), Dense(2, "softmax"))
    images, labels = colours(40)
    case = case_of(model, images, labels)
    offered = CAUSES["missing_activation"].forms(case, case.given, case.given_logits)
    assert len(offered) == forms and all(form.runs_model_otherwise for form in offered)
    assert offered[-1].name == (
        "an activation behind conv0"
        if count == 1
        else f"an activation behind each of {count} layers"
    )
    acts = [part for conv in linear for part in (conv, ReLU())]
    whole = model_of(model.layers[0], *acts, *model.layers[-2:])
    logits = offered[-1].apply(case.given).logits(model)
    np.testing.assert_allclose(logits, debugcnn.logits(whole, images / 255), atol=1e-5)
    said = verdict(case, "missing_activation:missing_activation")
    assert said == ("suspicious" if count < 4 else "fine")


def test_a_forgotten_activation_is_named():
    images, labels = red_beside_blue()
    model = variation_reader()
    weights = [weight.copy() for weight in model.get_weights()]
    report = debugcnn.diagnose(model, images, labels, value_range=(0, 1))
    assert faults_of(report) == ["missing_activation"]
    assert "With an activation behind second, accuracy rises" in report.faults[0].message
    assert "to 100.0%" in report.faults[0].message
    whole = debugcnn.logits(variation_reader("relu"), images / 255)
    np.testing.assert_allclose(report.faults[0].evidence.details.logits, whole, atol=1e-4)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))
    again = debugcnn.logits(model, images / 255)
    np.testing.assert_allclose(again, report.case.given_logits, atol=1e-5)


def test_a_layer_that_needs_no_activation_is_only_suspicious():
    images, labels = colours(120)
    model = fresh(variation_reader)
    model.get_layer("head").set_weights([np.array([[30.0]]), np.array([0.0])])  # red or blue
    case = case_of(model, images, labels)
    assert np.mean(case.given_logits.argmax(1) == labels) > 0.9
    assert verdict(case, "missing_activation") == "suspicious"


def test_a_linear_projection_beside_other_branches_is_meant_so():
    inputs = keras.Input((SIDE, SIDE, 3))
    x = Conv(4, 3, padding="same", activation="relu")(inputs)
    y = Conv(4, 1)(inputs)
    x = ReLU()(layers.Add()([Conv(4, 3, padding="same", activation="relu")(x), y]))
    model = keras.Model(inputs, Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x)))
    case = case_of(model, *colours(40))
    assert verdict(case, "missing_activation:missing_activation") == "fine"
