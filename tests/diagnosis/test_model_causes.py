"""What is not finite, not repeatable, or normalized by statistics that do not fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tiny_classifiers import (
    SIDE,
    AlwaysDropout,
    case_of,
    colours,
    examined,
    faults_of,
    finding_of,
    fresh,
    mean_colour_reader,
    model_of,
    normalized_reader,
    verdict,
)

import debugcnn
from debugcnn.diagnosis.causes.not_finite import layers_not_finite
from debugcnn.diagnosis.layers import (
    batch_normalizations,
    logits_with_activations,
    logits_with_batch_statistics,
)
from debugcnn.diagnosis.repeatability import repeatability

Conv, Norm, Flat = layers.Conv2D, layers.BatchNormalization, layers.Flatten
Dense = layers.Dense


# --------------------------------------------------------------------------------------- not_finite


def with_weight(model, layer, value):
    kernel, bias = model.get_layer(layer).get_weights()
    kernel[(0,) * (kernel.ndim - 1)] = value
    model.get_layer(layer).set_weights([kernel, bias])
    return model


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_layer_with_a_nan_is_named(value):
    model, (images, labels) = fresh(mean_colour_reader), colours(40)
    with_weight(model, "conv", value)
    not_finite = layers_not_finite(model, images[:4])
    assert not_finite[0] == ("conv", 4, "weights")
    # Before the ReLU, which turns NaN or minus infinity into 0, all of its outputs.
    assert not_finite[1] == ("conv", 4 * 4 * SIDE * SIDE, "activations")
    report = examined(case_of(model, images, labels), "not_finite")
    finding = finding_of(report, "not_finite")
    assert finding.verdict == "fault" and finding.message.startswith("4 weights of conv are NaN")
    assert "and more in later layers" in finding.message


def test_weights_that_overflow_only_on_images_are_found():
    model, (images, labels) = fresh(mean_colour_reader), colours(40)
    model.get_layer("conv").set_weights([np.full((1, 1, 3, 4), 3e38), np.zeros(4)])
    not_finite = layers_not_finite(model, images[:4])
    assert [(layer.layer, layer.where) for layer in not_finite][:1] == [("conv", "activations")]
    assert verdict(case_of(model, images, labels), "not_finite") == "fault"


def test_finite_models_are_fine():
    images, labels = colours(40)
    assert layers_not_finite(mean_colour_reader(), images) == []
    assert verdict(case_of(mean_colour_reader(), images, labels), "not_finite") == "fine"


# ------------------------------------------------------------ random_answer and batch normalization


@keras.saving.register_keras_serializable("tests")
class AlwaysTraining(layers.BatchNormalization):
    """Batch normalization that was called with training=True."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=True, mask=mask)


def convolved(*inner):
    """A model, with trained biases, whose activation maps run through `inner`."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = Conv(4, 3, activation="relu")(inputs)
    for layer in inner:
        x = layer(x)
    model = keras.Model(inputs, Dense(2)(Flat()(x)))
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(layer.bias + 0.01)
    return model


@pytest.mark.parametrize(
    ("inner", "again", "alone", "random", "batch"),
    [
        ([layers.Dropout(0.5), Norm()], 0, 0, "fine", "fine"),
        ([AlwaysDropout(0.5)], 1, 1, "fault", "not examined"),
        ([AlwaysTraining()], 0, 1, "fine", "fault"),
    ],
)
def test_predictions_that_change_when_run_again_or_alone(inner, again, alone, random, batch):
    model, (images, labels) = convolved(*inner), colours(40)
    repeated = repeatability(model, images / 255)
    for difference, expected in zip(repeated, (again, alone)):
        assert difference > 0.1 if expected else difference < 1e-4
    case = case_of(model, images, labels)
    report = examined(case, "random_answer", "batch_statistics:depends_on_batch")
    assert finding_of(report, "random_answer").verdict == random
    assert finding_of(report, "batch_statistics").verdict == batch
    assert case.is_random is (random == "fault") and case.depends_on_batch is (batch == "fault")


def test_differences_are_measured_in_standard_deviations_of_the_logits():
    images = np.random.default_rng(0).uniform(size=(5, SIDE, SIDE, 3)).astype(np.float32)

    class Counting(keras.Model):
        """Its logit grows with the number of images in the batch."""

        def call(self, inputs):
            mean = tf.reduce_mean(inputs, (1, 2, 3))[:, None]
            return mean + tf.cast(tf.shape(inputs)[0], tf.float32)

    model = Counting()
    model(images)
    repeated = repeatability(model, images)
    spread = debugcnn.logits(model, images).std()
    assert repeated.again == 0 and repeated.alone == pytest.approx(4 / spread, rel=1e-3)


@pytest.mark.parametrize(("center", "scale"), [(True, True), (False, True), (True, False)])
def test_batch_statistics_are_those_of_training(center, scale):
    norm = Norm(center=center, scale=scale)
    model = model_of(Conv(4, 3), norm, Flat(), Dense(2))
    images, _ = colours(20)
    before = [np.array(w) for w in model.get_weights()]
    logits = logits_with_batch_statistics(model, images)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert "call" not in vars(norm) and batch_normalizations(model) == [norm]
    np.testing.assert_allclose(logits, model(images, training=True), rtol=1e-3, atol=1e-3)
    assert np.abs(logits - debugcnn.logits(model, images)).max() > 1


def test_the_model_is_left_alone_where_it_fails(monkeypatch):
    model, (images, _) = normalized_reader(), colours(20)

    def fails(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("debugcnn.diagnosis.layers.logits_in_graph", fails)
    with pytest.raises(MemoryError):
        logits_with_batch_statistics(model, images)
    with pytest.raises(MemoryError):
        logits_with_activations(model, {"conv": keras.activations.relu}, images)
    assert not any("call" in vars(layer) for layer in model.layers)


@pytest.mark.parametrize(("mean", "said"), [(0.0, "fine"), (3.0, "fault")])
def test_stored_statistics_that_do_not_fit_the_images(mean, said):
    images, labels = colours()
    report = debugcnn.diagnose(normalized_reader(mean), images, labels, value_range=(0, 1))
    finding = finding_of(report, "batch_statistics")
    if said == "fault":
        assert report.faults[0] is finding
        contest = finding.evidence.details
        assert contest.tried.name == "each batch normalized by its own statistics"
        assert contest.accuracies[0] == 0.5 < contest.accuracies[1] and contest.gain > 0.5
        together = logits_with_batch_statistics(normalized_reader(mean), images / 255)
        np.testing.assert_allclose(contest.logits, together, rtol=1e-4, atol=1e-4)
    else:
        assert "batch_statistics" not in faults_of(report)


def test_a_model_without_batch_normalization_has_no_statistics():
    case = case_of(mean_colour_reader(), *colours(40))
    report = examined(case, "batch_statistics:statistics_of_these_images")
    finding = finding_of(report, "batch_statistics")
    assert finding.verdict == "not examined"
