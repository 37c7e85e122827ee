"""A head that does not fit the classes or the loss."""

import keras
import numpy as np
import pytest
from keras import layers
from tiny_classifiers import (
    SIDE,
    case_of,
    colours,
    examined,
    finding_of,
    mean_colour_reader,
    model_of,
    three_colours,
    two_classes,
    verdict,
)

import debugcnn
from debugcnn.diagnosis.causes.output_head import mistake_in_head

Conv, Flat, Dense = layers.Conv2D, layers.Flatten, layers.Dense
Act = layers.Activation


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
