"""What the weights and the graph of a model show: causes of the stage "model"."""

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
    red_beside_blue,
    three_colours,
    two_classes,
    variation_reader,
    verdict,
)

import debugcnn
from debugcnn.diagnosis.causes.missing_activation import count_without_any, linear_layers
from debugcnn.diagnosis.causes.not_finite import layers_not_finite
from debugcnn.diagnosis.causes.output_head import mistake_in_head
from debugcnn.diagnosis.layers import (
    batch_normalizations,
    logits_with_activations,
    logits_with_batch_statistics,
)
from debugcnn.diagnosis.registry import CAUSES
from debugcnn.diagnosis.repeatability import repeatability

Conv, Norm, Pool, Flat = (
    layers.Conv2D,
    layers.BatchNormalization,
    layers.MaxPooling2D,
    layers.Flatten,
)
Dense, ReLU, Act = layers.Dense, layers.ReLU, layers.Activation


# -------------------------------------------------------------------------------------- not_finite


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


# ------------------------------------------------------------------------------------- output_head


# Keras warns of this mistake itself, where it is the whole of a layer.
single_unit = pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")


@single_unit
@pytest.mark.parametrize(
    ("head", "mistake"),
    [
        ([Dense(1, "softmax")], "a softmax on a single unit"),
        ([Dense(3, "softmax"), layers.Softmax()], "softmax on top of a softmax"),
        ([Dense(3, "softmax"), Act("sigmoid")], "sigmoid on top of a softmax"),
        ([Dense(1, "relu")], "ends in relu,"),
        ([Dense(3, "relu")], "ends in relu,"),
        ([Dense(1, "tanh")], "ends in tanh,"),
        ([Dense(3, "leaky_relu")], "ends in leakyrelu,"),
        ([Dense(2, "elu"), layers.Reshape((2, 1))], "ends in elu,"),
        ([Dense(1), layers.ReLU(6)], "ends in relu6,"),
        ([keras.Sequential([Dense(2, "relu")])], "ends in relu,"),
        ([Dense(2), layers.ReLU()], "ends in relu,"),
        ([Dense(1), layers.LeakyReLU()], "ends in leakyrelu,"),
        ([Dense(2), Act("tanh")], "ends in tanh,"),
        ([Dense(2), Act("linear")], None),
        ([Dense(1, "linear")], None),
        ([Dense(3)], None),
        ([Dense(1, "sigmoid")], None),
        ([Dense(3, "sigmoid")], None),
        ([Dense(3, "softmax")], None),
        ([Dense(3, "relu"), layers.Softmax()], None),
        ([Dense(3, "relu"), Dense(1)], None),
    ],
)
def test_heads(head, mistake):
    clause = mistake_in_head(model_of(Flat(), *head))
    assert clause is None if mistake is None else mistake in clause


@single_unit
def test_a_mistake_in_the_head_is_a_fault():
    images, labels = colours(40)
    case = case_of(model_of(Flat(), Dense(1, "softmax")), images, labels)
    finding = finding_of(examined(case, "output_head:output_head"), "output_head")
    assert (finding.verdict, finding.value, finding.limit) == ("fault", 1, 0)
    assert "single unit" in finding.message


@pytest.mark.parametrize(
    ("head", "said", "words"),
    [
        (Dense(1, "sigmoid"), "fine", "fits"),
        (Dense(2, "softmax"), "fine", "fits"),
        (Dense(1), "suspicious", "the threshold is 0"),
        (Dense(2), "fine", "fits"),
        (Dense(2, "sigmoid"), "suspicious", "a sigmoid for each class"),
    ],
)
def test_heads_that_may_be_meant_so_are_suspicious(head, said, words):
    case = case_of(model_of(Flat(), head), *colours(40))
    finding = finding_of(examined(case, "output_head:output_head"), "output_head")
    assert finding.verdict == said and words in finding.message


def test_two_softmaxes_beside_each_other_are_no_fault():
    inputs = keras.Input((SIDE, SIDE, 3))
    x = Flat()(inputs)
    heads = [Dense(3, "softmax")(x) for _ in range(2)]
    assert mistake_in_head(keras.Model(inputs, layers.Average()(heads))) is None


def test_an_output_beside_the_prediction_is_no_head():
    inputs = keras.Input((SIDE, SIDE, 3))
    x = Flat()(inputs)
    model = keras.Model(inputs, [Dense(3, "softmax")(x), Dense(5, "relu")(x)])
    assert mistake_in_head(model, 0) is None
    assert "ends in relu," in mistake_in_head(model, 1)
    images, labels = colours(40)
    for output, said in ((0, "fine"), (1, "fault")):
        case = case_of(model, images, labels, output=output)
        assert verdict(case, "output_head:output_head") == said


@pytest.mark.parametrize("axis", [-1, 0])
def test_a_softmax_over_the_batch_does_not_add_up(axis):
    images, labels = colours(60)
    model = model_of(
        Conv(2, 1, activation="relu", name="conv"),
        layers.GlobalAveragePooling2D(),
        Dense(2, name="head"),
        layers.Softmax(axis=axis),
    )
    model.get_layer("conv").set_weights([np.eye(3)[None, None, :, ::2], np.full(2, 0.01)])
    model.get_layer("head").set_weights([20 * np.eye(2)[::-1], np.zeros(2)])
    case = case_of(model, images, labels)
    report = examined(case, "output_head:output_head", "output_head:sum_of_probabilities")
    finding = finding_of(report, "output_head")
    assert finding.verdict == ("fault" if axis == 0 else "fine")
    if axis == 0:  # 32 images of a batch share a sum of 1 in each class
        sums = model.predict(images / 255, verbose=0).sum(1)
        assert f"add up to {np.median(sums):.2g} (median)" in finding.message


@pytest.mark.parametrize(
    ("shift", "knows", "said"),
    [(0.0, True, "suspicious"), (0.5, True, "fault"), (0.5, False, "suspicious")],
)
def test_several_sigmoids_that_say_yes_to_more_than_one_class(shift, knows, said):
    images, labels = three_colours()
    model = model_of(layers.GlobalAveragePooling2D(), Dense(3, "sigmoid"))
    truth = labels if knows else np.random.default_rng(0).integers(0, 3, len(labels))
    yes = np.clip(np.eye(3)[truth] + shift, 0.001, 0.999)
    case = case_of(model, images, labels, np.log(yes / (1 - yes)))
    case.given_outputs = case.given_logits, yes
    report = examined(case, "output_head:output_head", "output_head:sum_of_sigmoids")
    finding = finding_of(report, "output_head")
    assert finding.verdict == said
    if said == "fault":
        assert f"add up to {yes.sum(1).mean():.2f}" in finding.message


PROBABILITY = "output_head:trained_as_probability"
LINEAR_UNIT = model_of(layers.GlobalAveragePooling2D(), Dense(1))


def scores_of(labels, change, separate=True):
    """Scores (n,) change(u) of evenly spread u from 0 to 1, class 1 above class 0."""
    u = np.empty(len(labels))
    ranks = np.argsort(np.argsort(labels, kind="stable")) if separate else np.arange(len(labels))
    u[:] = ranks / (len(labels) - 1)
    return change(u)


@pytest.mark.parametrize(
    ("change", "ones", "said"),
    [
        (lambda u: u, 0.5, "fault"),  # from 0 to 1
        (lambda u: 1.15 * u - 0.075, 0.5, "fault"),
        (lambda u: 0.5 + 0.1 * u, 0.5, "fine"),  # all at one place
        (lambda u: 12 * u - 6, 0.5, "fine"),  # logits
        (lambda u: 12 * u - 3, 0.5, "fine"),  # logits whose threshold is off
        (lambda u: 1.8 * u - 0.4, 0.5, "fault"),  # half inside, the best threshold at one half
        (lambda u: 1.8 * u - 0.4, 0.82, "fine"),  # the best threshold is 0
    ],
)
def test_a_linear_unit_that_was_trained_as_a_probability(change, ones, said):
    labels = np.int64(np.arange(200) >= 200 * (1 - ones))
    images = np.random.default_rng(0).uniform(0, 255, (200, SIDE, SIDE, 3))
    case = case_of(LINEAR_UNIT, images, labels, two_classes(scores_of(labels, change)))
    assert verdict(case, PROBABILITY) == said


def test_small_scores_of_a_sigmoid_are_no_probabilities():
    images, labels = colours(200)
    scores = two_classes(scores_of(labels, lambda u: u))
    assert verdict(case_of(mean_colour_reader(), images, labels, scores), PROBABILITY) == "fine"


@pytest.mark.parametrize("root", ["untrained_layer", "at_chance", "leak"])
def test_small_scores_of_a_model_that_knows_nothing_are_no_probabilities(root):
    images, labels = colours(200)
    scores = two_classes(scores_of(labels, lambda u: u))
    case = case_of(LINEAR_UNIT, images, labels, scores)
    case.faults.add((root, root))
    assert verdict(case, PROBABILITY) == ("fault" if root == "leak" else "not examined")


def test_a_unit_trained_as_a_probability_explains_its_threshold():
    images, labels = colours(200)
    model = mean_colour_reader((5, 0, -5), bias=0.5, head="linear")
    report = debugcnn.diagnose(model, images, labels, value_range=(0, 1))
    assert report.faults[0].cause == "output_head"
    assert "its threshold is one half, not 0" in report.faults[0].message
    assert finding_of(report, "threshold").verdict == "suspicious"
    logit = mean_colour_reader(head="linear")
    report = debugcnn.diagnose(logit, images, labels, value_range=(0, 1))
    assert finding_of(report, "output_head").verdict == "suspicious"  # it returns a logit
    assert finding_of(report, "threshold").verdict == "fine"


def test_several_sigmoids_are_judged_by_the_highest():
    images, labels = colours(200)
    single = mean_colour_reader()
    kernel, bias = single.get_layer("head").get_weights()
    head = Dense(2, "sigmoid", name="two")
    model = keras.Model(single.inputs, head(single.layers[-2].output))
    head.set_weights([np.concatenate([-kernel, kernel], 1), np.concatenate([-bias, bias])])
    report = examined(case_of(model, images, labels), "output_head", "threshold:threshold")
    assert not report.faults and finding_of(report, "output_head").verdict == "suspicious"
    np.testing.assert_array_equal(
        report.case.logits.argmax(1), debugcnn.logits(single, images / 255).argmax(1)
    )


# ------------------------------------------------------------------------------ missing_activation


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


# ----------------------------------------------------------- random_answer and batch normalization


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
