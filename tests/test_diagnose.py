"""Each check on a tiny net whose answer is known: it speaks where it should, and is silent else."""

import json
import subprocess
import sys

import cv2
import keras
import matplotlib.pyplot
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from keras import layers

import diagnose
import debugcnn.quiet
from injected_faults import blind, faults, run, tables
from checks import answers, inputs, page, photos
from checks import layers as weights
from checks.statistics import auc, compare, enough, skill, skill_interval

SIDE = 16


def colours(count=60, seed=0):
    """Noisy photos, and whether each is reddish (1) or bluish (0)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pictures = generator.uniform(60, 140, (count, SIDE, SIDE, 3))
    pictures[..., 0] += 30 * labels[:, None, None]
    pictures[..., 2] += 30 * (1 - labels[:, None, None])
    pictures += generator.normal(0, 12, (count, 1, 1, 3))
    return np.float32(np.clip(pictures, 0, 255)), labels


def reads(values, bias=0.0, head="sigmoid"):
    """A net whose logit is the weighted mean of red, green and blue, from 0 to 1."""
    net = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(4, 1, activation="relu6", name="conv"),  # full at 1
            layers.GlobalAveragePooling2D(),
            layers.Dense(1, activation=head, name="answer"),
        ]
    )
    kernel = np.zeros((1, 1, 3, 4))
    kernel[0, 0, :, :3] = 6 * np.eye(3)
    kernel[0, 0, :, 3] = 2
    net.get_layer("conv").set_weights([kernel, np.full(4, 0.01)])
    weights_ = np.reshape([*values, 0.0], (4, 1)) / 6
    net.get_layer("answer").set_weights([weights_, np.array([bias])])
    return net


def red():
    return reads([40, 0, -40])


# -------------------------------------------------------------------------------------- statistics


def test_the_area_under_the_curve_counts_pairs():
    generator = np.random.default_rng(0)
    scores, labels = generator.integers(0, 6, (3, 30)), generator.integers(0, 2, 30)
    for row, found in zip(scores, auc(scores, np.tile(labels, (3, 1)))):
        ones, zeros = row[labels == 1][:, None], row[labels == 0]
        assert found == pytest.approx(np.mean((ones > zeros) + 0.5 * (ones == zeros)))


def test_skill_of_two_and_of_more_classes():
    labels = np.arange(60) % 3
    logits = np.eye(3)[labels] * 5 + np.random.default_rng(0).normal(size=(60, 3))
    assert skill(logits, labels) > 0.95
    assert skill(logits[:, [1, 2, 0]], labels) < 0.5
    assert skill(np.zeros((60, 3)), labels) == 0.5
    two = np.stack([-logits[:, 1], logits[:, 1]], 1)[labels < 2]
    assert skill(two, labels[labels < 2]) == auc(logits[labels < 2, 1], labels[labels < 2])


def test_the_interval_of_skill_narrows_with_photos():
    widths = []
    for count in (60, 600):
        labels = np.arange(count) % 2
        x = labels + np.random.default_rng(1).normal(size=count)
        value, low, high = skill_interval(np.stack([-x, x], 1), labels)
        assert low < value < high and low < 0.76 < high  # normal scores one apart: 0.760
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]


def test_a_comparison_is_clear_only_beyond_chance():
    labels = np.arange(400) % 2
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(3, 400))
    weak, same, strong = (
        np.stack([-x, x], 1) for x in (labels + noise[0], labels + noise[1], 3 * labels + noise[2])
    )
    assert not compare(weak, same, labels).is_clear(0)
    assert not compare(same, weak, labels).is_clear(0)
    assert compare(weak, strong, labels).is_clear(0)
    assert not compare(weak, strong, labels).is_clear(0.5)
    assert not enough(np.r_[np.zeros(50, int), np.ones(9, int)])
    assert enough(np.r_[np.zeros(10, int), np.ones(10, int)])
    assert enough(np.arange(60) % 12) and not enough(np.arange(19) % 4)


# ------------------------------------------------------------------------------------------ inputs


def test_the_scale_of_the_pixels():
    pictures, labels = colours()
    assert not inputs.input_scale(red(), pictures, labels, (0, 1)).best
    for wrong in ((0, 255), (0, 1 / 255)):  # all full; all the same answer
        net = reads([40, 0, -40], bias=0.1)
        found = inputs.input_scale(net, pictures, labels, wrong)
        assert found.best == (0, 1) and found.accuracies[0] == 0.5 < 0.9 < found.accuracies[1]


def test_what_brings_nothing_is_asked_on_few_photos(monkeypatch):
    pictures, labels = colours(180)
    asked = {}

    def counted(model, photos_, value_range, output=None, ask=inputs.ask):
        asked[value_range] = asked.get(value_range, 0) + len(photos_)
        return ask(model, photos_, value_range, output)

    whole = inputs.contest(
        inputs.ask(red(), pictures, (0, 255)),
        {k: inputs.ask(red(), pictures, k) for k in debugcnn.VALUE_RANGES[1:]},
        labels,
    )
    monkeypatch.setattr(inputs, "ask", counted)
    found = inputs.input_scale(red(), pictures, labels, (0, 255))
    assert found.best == whole.best is not None and found.comparison == whole.comparison
    np.testing.assert_allclose(found.logits, whole.logits, rtol=1e-5, atol=1e-5)
    asked.clear()
    found = inputs.input_scale(red(), pictures, labels, (0, 1))
    assert found.best is None and found.logits.shape == (180, 2)
    assert asked[0, 255] == asked["caffe"] == 20  # hopeless
    assert asked[0, 1] == 180 + 20 + 60  # as given, a few as negatives, and some lighter
    some = inputs.screened(np.array([0] * 100 + [1] * 50))
    assert np.flatnonzero(some).tolist() == [*range(0, 100, 3), *range(100, 150, 3)]
    assert inputs.screened(np.array([0] * 100 + [1] * 49)).all()


def test_few_photos_are_all_asked_and_the_winner_is_kept():
    pictures, labels = colours(60)
    found = inputs.input_scale(red(), pictures, labels, (0, 255))
    assert found.best == (0, 1)
    np.testing.assert_allclose(
        found.logits, inputs.ask(red(), pictures, (0, 1)), rtol=1e-5, atol=1e-5
    )


def test_red_and_blue_exchanged():
    pictures, labels = colours()
    assert not inputs.channel_order(red(), pictures, labels, (0, 1)).best
    found = inputs.channel_order(red(), pictures[..., ::-1], labels, (0, 1))
    assert (
        found.best == "red and blue exchanged"
        and found.comparison.before < 0.2 < 0.9 < found.comparison.after
    )
    np.testing.assert_allclose(
        found.logits, inputs.ask(red(), pictures, (0, 1)), rtol=1e-5, atol=1e-5
    )


def upper(values=(20, -20)):
    """A net whose logit is how much redder the upper half is than the lower one."""
    net = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(1, 1, activation="relu", name="conv"),
            layers.AveragePooling2D((SIDE // 2, SIDE)),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid", name="answer"),
        ]
    )
    net.get_layer("conv").set_weights([np.reshape([1.0, 0, 0], (1, 1, 3, 1)), np.array([0.1])])
    net.get_layer("answer").set_weights([np.reshape(values, (2, 1)), np.array([0.01])])
    return net


@pytest.mark.parametrize(
    ("turns", "best"),
    [(0, None), (2, "upside down"), (3, "turned to the left"), (1, "turned to the right")],
)
def test_turned_photos(turns, best):
    pictures, labels = colours()
    pictures[:, : SIDE // 2, :, 0] += 60 * labels[:, None, None]
    pictures[:, SIDE // 2 :, :, 0] += 60 * (1 - labels[:, None, None])
    turned = np.rot90(pictures, turns, (1, 2))
    assert inputs.flipped_or_rotated(upper(), turned, labels, (0, 1)).best == best


def test_photos_that_are_not_square_are_turned_upside_down_only():
    net = keras.Sequential([keras.Input((8, 12, 3)), layers.Flatten(), layers.Dense(1)])
    pictures = np.zeros((40, 8, 12, 3), np.float32)
    assert inputs.flipped_or_rotated(net, pictures, np.arange(40) % 2).tried == "upside down"


def test_a_net_that_knows_nothing_wins_no_contest():
    labels = np.arange(60) % 2
    given = np.random.default_rng(0).normal(size=(60, 2))
    worse = given * np.where(labels == given.argmax(1), -1, 1)[:, None]  # always wrong
    assert inputs.contest(worse, {"given": given}, labels).best is None


# ----------------------------------------------------------------------------------------- answers


def test_the_threshold_is_chosen_on_other_photos():
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 2
    x = 2.0 * labels - 1 + generator.normal(0, 0.5, 400)
    off = answers.threshold(np.stack([-x - 2, x + 2], 1), labels)
    assert off.possible > 0.95 > 0.6 > off.accuracy and off.possible - off.accuracy > 4 * off.error
    assert off.shifts == pytest.approx((0, -4), abs=1) and off.shares[1] > 0.9
    fine = answers.threshold(np.stack([-x, x], 1), labels)
    assert abs(fine.possible - fine.accuracy) < 0.02
    assert fine.possible - fine.accuracy <= 2 * fine.error
    noise = generator.normal(size=(50, 40, 2))
    possible = [answers.threshold(some, labels[:40]).possible for some in noise]
    assert np.mean(possible) < 0.53  # chosen on the photos that are counted, it is near 0.6


def test_the_biases_of_many_classes_are_chosen_on_other_photos():
    generator = np.random.default_rng(0)
    labels = np.arange(600) % 4
    logits = 4.0 * np.eye(4)[labels] + generator.normal(0, 1, (600, 4))
    off = answers.threshold(logits + [0, 0, 5, -3], labels)
    assert off.possible > 0.95 > 0.7 > off.accuracy and off.shares[2] > 0.5
    assert off.possible - off.accuracy > 4 * off.error
    assert off.shifts == pytest.approx((0, 0, -5, 3), abs=1)
    for scale in (0.01, 100):  # whatever their scale
        again = answers.threshold((logits + [0, 0, 5, -3]) * scale, labels)
        assert again.possible == pytest.approx(off.possible, abs=0.01)
    fine = answers.threshold(logits, labels)
    assert abs(fine.possible - fine.accuracy) < 0.02
    assert fine.possible - fine.accuracy <= 2 * fine.error
    noise = [answers.threshold(generator.normal(size=(40, 4)), labels[:40]) for _ in range(20)]
    assert np.mean([one.possible for one in noise]) < 0.35


def test_the_spread_of_answers():
    p = np.array([0.3, 0.3, 0.3])
    assert answers.spread(np.stack([p, 1 - p], 1)) == pytest.approx(0, abs=1e-7)
    p = np.array([0.1, 0.1 * np.e])
    assert answers.spread(np.stack([p, 1 - p], 1)) == pytest.approx(0.5)


def test_the_order_of_classes():
    logits = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    assert answers.order_of_classes(logits, np.array([1, 2, 0, 1, 2, 2])) == (1 / 6, 5 / 6)


def test_saturated_and_overconfident_answers():
    labels = np.zeros(200, int)
    sure = np.tile([0.9995, 0.0005], (200, 1))
    sure[:50] = [0.0005, 0.9995]
    found = answers.saturated_answer(sure, labels)
    assert (found.count, found.wrong) == (200, 50) and 0.15 < found.low < 0.25
    gap = answers.overconfident(sure, labels)
    assert (gap.mean, gap.accuracy) == pytest.approx((0.9995, 0.75)) and 0.1 < gap.low < 0.25
    modest = np.tile([0.75, 0.25], (200, 1))
    modest[:50] = [0.25, 0.75]
    assert answers.overconfident(modest, labels).low < 0
    assert answers.saturated_answer(modest, labels).count == 0


# ------------------------------------------------------------------------------------------ layers

INITIALISERS = ["glorot_uniform", "he_normal", "lecun_uniform", "random_normal", "random_uniform"]


@pytest.mark.parametrize("initialiser", INITIALISERS)
def test_weights_as_they_are_drawn(initialiser):
    keras.utils.set_random_seed(1)
    options = {"kernel_initializer": initialiser}
    net = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(16, 3, **options, name="conv"),
            layers.SeparableConv2D(16, 3, name="separable", depthwise_initializer=initialiser),
            layers.GlobalAveragePooling2D(),
            layers.Dense(20, **options, name="dense"),
        ]
    )
    assert [drawn.layer for drawn in weights.untrained_layer(net)] == ["conv", "separable", "dense"]
    kernel, bias = net.get_layer("conv").get_weights()
    net.get_layer("conv").set_weights([1.3 * kernel, bias])
    kernel, bias = net.get_layer("dense").get_weights()
    net.get_layer("dense").set_weights([kernel, bias + 1e-6])
    assert [drawn.layer for drawn in weights.untrained_layer(net)] == ["separable"]


def test_one_step_of_training_is_no_longer_as_drawn():
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(2)]
    )
    assert len(weights.untrained_layer(net)) == 2
    net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.fit(*colours(32), epochs=1, verbose=0)
    assert not weights.untrained_layer(net)


def test_where_nan_begins():
    net = red()
    pictures, _ = colours(4)
    assert not weights.not_finite(net, pictures)
    kernel, bias = net.get_layer("conv").get_weights()
    kernel[0, 0, 0, 1] = np.nan
    net.get_layer("conv").set_weights([kernel, bias])
    found = weights.not_finite(net, pictures)
    assert found[0] == ("conv", 1, "weights")
    assert found[1] == ("conv", 4 * SIDE * SIDE, "activations")  # before a ReLU hides them


def headed(*head):
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Flatten(), *head])


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ([layers.Dense(1, activation="softmax")], "a softmax on a single unit"),
        ([layers.Dense(3, activation="softmax"), layers.Softmax()], "softmax on top of a softmax"),
        (
            [layers.Dense(3, activation="softmax"), layers.Activation("sigmoid")],
            "sigmoid on top of a softmax",
        ),
        ([layers.Dense(1, activation="sigmoid")], None),
        ([layers.Dense(3, activation="softmax")], None),
        ([layers.Dense(3)], None),
    ],
)
def test_heads(head, sentence):
    found = weights.output_head(headed(*head))
    assert found is None if sentence is None else sentence in found


def test_two_softmaxes_beside_each_other_are_no_fault():
    inputs_ = keras.Input((SIDE, SIDE, 3))
    x = layers.Flatten()(inputs_)
    two = [layers.Dense(3, activation="softmax")(x) for _ in range(2)]
    assert weights.output_head(keras.Model(inputs_, layers.Average()(two))) is None


NORM, POOL, LINEAR = layers.BatchNormalization, layers.MaxPooling2D, keras.activations.linear


@pytest.mark.parametrize(
    ("inner", "count"),
    [
        (lambda: [layers.Conv2D(4, 3), POOL(), layers.Flatten()], 2),
        (lambda: [layers.Conv2D(4, 3, activation=LINEAR), NORM(), layers.Flatten()], 2),
        (lambda: [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)], 3),
        (lambda: [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5, "relu")], 0),
        (lambda: [layers.Conv2D(4, 3), layers.ReLU(), layers.Flatten()], 0),
        (lambda: [layers.Conv2D(4, 3), layers.Activation("tanh"), layers.Flatten()], 0),
        (lambda: [layers.Flatten()], 0),  # a single layer is meant to be linear
    ],
)
def test_layers_without_an_activation(inner, count):
    for head in ([layers.Dense(2, activation="softmax")], [layers.Dense(2), layers.Softmax()]):
        net = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *inner(), *head])
        assert weights.no_activation(net) == count


def test_an_activation_that_is_no_layer_counts():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv, self.dense = layers.Conv2D(4, 3), layers.Dense(2)

        def call(self, images):
            return self.dense(tf.reduce_mean(tf.nn.relu(self.conv(images)), (1, 2)))

    own = Own()
    own(np.zeros((1, SIDE, SIDE, 3), np.float32))
    assert weights.no_activation(own) == 0
    given = keras.Input((SIDE, SIDE, 3))
    x = keras.ops.relu(layers.Conv2D(4, 3)(given))
    net = keras.Model(given, layers.Dense(2)(layers.Flatten()(x)))
    assert weights.no_activation(net) == 0


def test_answers_that_differ_when_asked_again_or_alone():
    keras.utils.set_random_seed(0)
    pictures, _ = colours(20)
    given = keras.Input((SIDE, SIDE, 3))

    def asked(*inner):
        x = layers.Conv2D(4, 3, activation="relu")(given)
        for layer in inner:
            x = layer(x)
        net = keras.Model(given, layers.Dense(2)(layers.Flatten()(x)))
        return weights.repeated(net, pictures / 255)

    assert max(asked(layers.Dropout(0.5), NORM())) < 1e-4
    random = asked(faults.AlwaysDropout(0.5))
    assert random.again > 0.1
    company = asked(faults.AlwaysTraining())
    assert company.again < 1e-4 and company.alone > 0.1


def test_units_that_never_change():
    net = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(8, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(6, activation="relu", name="dense"),
            layers.Dense(2),
        ]
    )
    for name, dead in (("conv", 3), ("dense", 2)):
        kernel, bias = net.get_layer(name).get_weights()
        kernel, bias = np.abs(kernel), bias + 1
        kernel[..., :dead], bias[:dead] = 0, -1
        net.get_layer(name).set_weights([kernel, bias])
    pictures, _ = colours(40)
    found = {layer.layer: layer for layer in weights.units(net, pictures)}
    assert (found["conv"].constant, found["conv"].count) == (3, 8)
    assert (found["dense"].constant, found["dense"].count) == (2, 6)
    (maps,) = debugcnn.activations(net, pictures, ["conv"]).values()
    assert found["conv"].highest == pytest.approx(maps.max(), rel=1e-5)


@pytest.mark.parametrize("scale", [True, False])
def test_batch_statistics_are_those_of_training(scale):
    keras.utils.set_random_seed(0)
    norm = layers.BatchNormalization(scale=scale)
    net = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), layers.Conv2D(4, 3), norm, layers.Flatten(), layers.Dense(2)]
    )
    pictures, _ = colours(20)
    before = [np.array(w) for w in net.get_weights()]
    found = weights.with_batch_statistics(net, pictures)
    for old, new in zip(before, net.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert "call" not in vars(norm)
    asked = debugcnn.logits(net, pictures)
    np.testing.assert_allclose(found, net(pictures, training=True), rtol=1e-3, atol=1e-3)
    assert np.abs(found - asked).max() > 1
    assert weights.batch_normalisations(net) == [norm]
    assert inputs.batch_statistics(red(), pictures, np.arange(20) % 2, (0, 1)) is None


# ------------------------------------------------------------------------------------------ photos


def natural(count, seed=0):
    """Smooth random pictures, each unlike the others."""
    generator = np.random.default_rng(seed)
    small = np.float32(generator.uniform(0, 255, (count, 6, 6, 3)))
    return np.stack([cv2.resize(s, (48, 48), interpolation=cv2.INTER_CUBIC) for s in small])


def test_copies_of_training_photos_are_found_also_mirrored():
    trained, examined = natural(30), natural(20, seed=1)
    examined[3], examined[7] = trained[11] + 1, trained[12, :, ::-1]
    found = photos.leak(examined, trained)
    assert found == [(3, 11, False), (7, 12, True)]
    assert photos.leak(natural(20, seed=1), trained) == []


def test_drawings_that_are_alike_are_no_copies():
    generator = np.random.default_rng(0)
    kinds = natural(4)
    trained, examined = (
        np.clip(np.repeat(kinds, 10, 0) + generator.normal(0, 3, (40, 48, 48, 3)), 0, 255)
        for _ in range(2)
    )
    assert photos.leak(examined, trained) == []
    examined[5], examined[6] = trained[7], trained[8, :, ::-1]
    assert [copy.examined for copy in photos.leak(examined, trained)] == [5, 6]


def test_memory():
    labels = np.arange(300) % 3
    found = photos.memorised(np.ones(300), labels, np.arange(300) % 4 > 0, labels)
    assert (found.trained, found.others) == pytest.approx((1, 0.75)) and 0.1 < found.low < 0.25
    assert photos.memorised(np.ones(300), labels, np.ones(300), labels).low < 0


def test_memory_counts_classes_as_they_are_among_the_others():
    trained, others = np.repeat([0, 1, 2], [180, 20, 50]), np.repeat([0, 1], [30, 90])
    found = photos.memorised(trained == 0, trained, others == 0, others)
    assert (found.trained, found.others) == (0.25, 0.25) and found.low < 0
    right = trained == 0
    right[180:190] = True  # half of class 1
    found = photos.memorised(right, trained, others == 0, others)
    assert (found.trained, found.others) == (0.25 + 0.75 * 0.5, 0.25)
    assert found.low == pytest.approx(0.375 - 3.3 * np.sqrt(0.75**2 * 0.25 / 20 + 1e-6))


def test_wrong_labels_differ_from_weak_answers():
    generator = np.random.default_rng(0)
    labels = np.arange(600) % 2
    x = 4.0 * labels - 2 + generator.normal(size=600)
    logits = np.stack([-x, x], 1)
    wrong = generator.random(600) < 0.15
    noisy = photos.label_noise(logits, np.where(wrong, 1 - labels, labels))
    assert noisy.low > 0.05 and noisy.near < 0.06 and wrong[noisy.surest[:10]].all()
    weak = photos.label_noise(logits + generator.normal(0, 3, (600, 2)), labels)
    assert weak.near > 0.1 and weak.ratio < 0.5
    assert photos.label_noise(logits, labels).wrong == 0


def corner_reader():
    """Says 1 where the bottom right corner is blue."""
    net = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(2, 1, name="conv", activation="relu"),
            layers.Cropping2D(((SIDE - 2, 0), (SIDE - 2, 0))),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1, activation="sigmoid", name="answer"),
        ]
    )
    kernel = np.reshape([[-1.0, 1], [0, 0], [1, -1]], (1, 1, 3, 2))
    net.get_layer("conv").set_weights([kernel, np.zeros(2)])
    net.get_layer("answer").set_weights([np.array([[50.0], [-50]]), np.array([-20.0])])
    return net


def with_a_corner(pictures, labels):
    pictures = pictures.copy()
    pictures[labels == 1, -2:, -2:] = [0, 0, 250]
    return pictures


def test_a_net_that_reads_a_corner():
    pictures, labels = colours()
    pictures = with_a_corner(pictures, labels)
    losses = photos.shortcut(corner_reader(), pictures, labels, (0, 1))
    assert losses["bottom right corner covered"].accuracy == 1
    assert losses["bottom right corner covered"].left == 0.5
    assert losses["bottom right corner covered"].worst == (1, 1.0)
    assert losses["bottom right corner covered"].low > 0.3
    assert losses["top left corner covered"].left == 1
    assert "brightness equalised" not in losses  # by itself it tells nothing


WIDE = 40


def any_place_reader():
    """Says 1 where there is something blue anywhere."""
    net = keras.Sequential(
        [
            keras.Input((WIDE, WIDE, 3)),
            layers.Conv2D(2, 1, name="conv", activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(1, activation="sigmoid", name="answer"),
        ]
    )
    kernel = np.reshape([[-1.0, 1], [0, 0], [1, -1]], (1, 1, 3, 2))
    net.get_layer("conv").set_weights([kernel, np.zeros(2)])
    net.get_layer("answer").set_weights([np.array([[50.0], [0]]), np.array([-25.0])])
    return net


def with_marks(share=1.0, same=True):
    """Photos, labels: somewhere on a share of class 1, but at no edge, a square of 5 pixels, all
    blue, or each with a pattern of its own around a blue pixel.
    """
    small, labels = colours(200)
    pictures = np.tile(small, (1, 3, 3, 1))[:, :WIDE, :WIDE]
    pictures[..., 2] = np.minimum(pictures[..., 2], pictures[..., 0] + 60)
    generator = np.random.default_rng(0)
    for i in np.flatnonzero(labels):
        y, x = generator.integers(8, WIDE - 13, 2)
        if generator.random() < share:
            mark = generator.uniform(0, 255, (5, 5, 3)) if not same else np.zeros((5, 5, 3))
            mark[..., 2] = 250 if same else np.minimum(mark[..., 2], mark[..., 0])
            mark[2, 2] = (0, 0, 250)
            pictures[i, y : y + 5, x : x + 5] = mark
    return pictures, labels


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_mark_at_any_place_is_found_by_pasting_it(share):
    pictures, labels = with_marks(share)
    first, *rest = photos.transplant(any_place_reader(), pictures, labels, (0, 1))
    assert first.label == 1 and first.turned == 1 and first.twins >= 2
    square = pictures[first.photo, first.rows, first.columns]
    assert square.shape == (8, 8, 3) and np.sum((square == [0, 0, 250]).all(-1)) >= 20
    if share == 1:
        report, _ = verdicts(any_place_reader(), pictures, labels)
        assert report["findings"][0].cause == "shortcut"


def test_what_is_another_thing_in_every_photo_has_no_twins():
    pictures, labels = with_marks(same=False)
    found = photos.transplant(any_place_reader(), pictures, labels, (0, 1))
    assert found[0].turned == 1 and found[0].twins < 2
    found = photos.transplant(red(), *colours(200), (0, 1))
    assert len(found) == 16 and max(patch.turned for patch in found) < 0.8


def test_patches_that_are_alike():
    generator = np.random.default_rng(0)
    one, other = (np.float32(generator.uniform(0, 255, (24, 24, 3))) for _ in range(2))
    one, other = (cv2.GaussianBlur(patch, (0, 0), 3) * 4 - 380 for patch in (one, other))
    assert photos.alike(one, one) == 1
    assert photos.alike(one, other) < 0.3
    shifted = np.roll(one, (4, -6), (0, 1))
    assert 0.5 < photos.alike(one, shifted) < 0.8


@pytest.mark.parametrize(("middle", "verdict"), [(0.99, "fault"), (0.6, "fine")])
def test_a_border_counts_only_if_it_costs_more_than_the_middle(monkeypatch, middle, verdict):
    pictures, labels = colours(100)
    whole = photos.Loss(1.0, 1.0, -0.1, (0, 0.0), None)
    losses = dict.fromkeys(photos.interventions(pictures), whole)
    losses["border covered"] = photos.Loss(1.0, 0.7, 0.2, (1, 0.6), None)
    losses["middle covered"] = photos.Loss(1.0, middle, 0.0, (1, 0.1), None)

    def shortcut(*given, whole_only=False):
        return {} if whole_only else losses

    monkeypatch.setattr(photos, "shortcut", shortcut)
    report, found = verdicts(red(), pictures, labels)
    assert found["shortcut"] == verdict
    (said,) = (f.message for f in report["findings"] if f.cause == "shortcut")
    assert "border covered, 70.0% are right" in said or verdict == "fine"


def test_as_much_of_the_middle_as_of_the_border_is_covered():
    pictures = np.zeros((1, 100, 60, 3), np.float32)
    pictures[0, 0, 0] = 255  # so that the mean shows where it was put
    done = {what: change(pictures) for what, change in photos.interventions(pictures).items()}
    shares = {what: (changed[0] != pictures[0]).any(-1).mean() for what, changed in done.items()}
    for place, instead in photos.INSTEAD.items():
        assert shares[place] == pytest.approx(shares[instead], abs=0.02)
    assert not (done["middle covered"] != pictures)[:, :20].any()


def test_what_costs_nothing_is_not_tried_on_all_photos(monkeypatch):
    pictures, labels = colours(180)
    asked, ask = [], photos.ask
    monkeypatch.setattr(photos, "ask", lambda m, p, *more: asked.append(len(p)) or ask(m, p, *more))
    pictures = with_a_corner(pictures, labels)
    losses = photos.shortcut(corner_reader(), pictures, labels, (0, 1))
    costly = [loss for loss in losses.values() if loss.accuracy - loss.left > photos.LITTLE]
    assert sorted(asked) == [20] * len(losses) + [40] * len(costly) + [120] * len(costly) + [180]
    assert 0 < len(costly) < len(losses)
    border = ask(
        corner_reader(), photos.interventions(pictures)["border covered"](pictures), (0, 1)
    )
    whole = photos._loss(labels == labels, border.argmax(1) == labels, labels, None)
    assert losses["border covered"] == whole and whole.left == 0.5


def test_only_what_tells_the_classes_apart_is_taken_away():
    pictures, labels = colours(60)
    found = photos.shortcut(red(), pictures, labels, (0, 1))
    assert found["tint equalised"].cue > photos.CUE and found["tint equalised"].left < 0.7
    assert not {"brightness equalised", "file quality equalised"} & set(found)


def test_interventions_do_what_they_say():
    pictures, _ = colours(8)
    pictures[3] += 60
    pictures = np.clip(pictures, 0, 255)
    done = {what: change(pictures) for what, change in photos.interventions(pictures).items()}
    assert all(changed.shape == pictures.shape for changed in done.values())
    assert np.ptp(done["colour taken away"], axis=-1).max() < 1e-3
    assert np.ptp(done["brightness equalised"].mean((1, 2, 3))) < 3
    assert np.ptp(done["tint equalised"].mean((1, 2)), axis=-1).max() < 3
    inside = np.s_[:, 2:-2, 2:-2]
    np.testing.assert_array_equal(done["border covered"][inside], pictures[inside])
    assert np.ptp(done["border covered"][:, 0], axis=(0, 1)).max() == 0
    changes = np.abs(np.diff(done["sharpness taken away"], axis=1)).mean()
    assert changes < 0.7 * np.abs(np.diff(pictures, axis=1)).mean()
    assert 0 < np.abs(done["file quality equalised"] - pictures).mean() < 40


# --------------------------------------------------------------------------------------- the whole


def verdicts(net, pictures, labels, **options):
    report = diagnose.diagnose(net, pictures, labels, **({"value_range": (0, 1)} | options))
    return report, {finding.cause: finding.verdict for finding in report["findings"]}


def halves(count, seed=0):
    """Noisy photos, the upper half of some redder (1), the lower half of the others (0)."""
    pictures, labels = colours(count, seed)
    generator = np.random.default_rng(seed + 1)
    pictures = generator.uniform(60, 140, pictures.shape)
    pictures[:, : SIDE // 2, :, 0] += 60 * labels[:, None, None]
    pictures[:, SIDE // 2 :, :, 0] += 60 * (1 - labels[:, None, None])
    return np.float32(pictures), labels


def test_a_sound_net_gets_no_fault():
    pictures, labels = halves(200)
    report, found = verdicts(upper(), pictures, labels, train=halves(200, seed=5))
    assert "fault" not in found.values()
    assert set(found) == set(diagnose.CAUSES)
    assert report["accuracy"] == 1 and report["skill"] == 1 and report["photos"] == 200


def test_a_net_of_several_sigmoids_is_judged_by_the_highest():
    one = upper()
    kernel, bias = one.get_layer("answer").get_weights()
    two = layers.Dense(2, activation="sigmoid", name="two")
    net = keras.Model(one.inputs, two(one.layers[-2].output))
    two.set_weights([np.concatenate([-kernel, kernel], 1), np.concatenate([-bias, bias])])
    pictures, labels = halves(200)
    report, found = verdicts(net, pictures, labels)
    assert "fault" not in found.values() and found["output_head"] == "suspicious"
    assert report["accuracy"] == 1


def brighter(pictures, labels):
    """Photos of class 0 are lighter."""
    return np.clip(pictures + 20 * (1 - labels[:, None, None, None]), 0, 255), labels


@pytest.mark.parametrize(
    ("net", "change", "options", "cause"),
    [
        (red, lambda x, y: (x[..., ::-1], y), {}, "channel_order"),
        (lambda: reads([40, 40, 40], bias=-49), brighter, {}, "class_order"),
        (lambda: reads([40, 0, -40], bias=3), lambda x, y: (x, y), {}, "threshold"),
        (lambda: reads([0, 40, 0], bias=90), lambda x, y: (x, y), {}, "constant_answer"),
        (lambda: reads([0, 90, 0], bias=-35), lambda x, y: (x, y), {}, "at_chance"),
        (
            lambda: reads([40, 0, -40], bias=0.1),
            lambda x, y: (x, y),
            {"value_range": (0, 1 / 255)},
            "input_scale",
        ),
    ],
)
def test_the_root_comes_first(net, change, options, cause):
    report, found = verdicts(net(), *change(*colours(600)), **options)
    first = report["findings"][0]
    assert (first.cause, first.verdict) == (cause, "fault") and first.remedy and first.message


def test_the_rest_is_examined_as_the_net_should_be_fed():
    report, _ = verdicts(reads([40, 0, -40], bias=0.1), *colours(200), value_range=(0, 1 / 255))
    assert report["value_range"] in debugcnn.VALUE_RANGES and report["accuracy"] > 0.9


def test_what_a_root_explains_is_no_fault_of_its_own():
    keras.utils.set_random_seed(0)
    net = headed(layers.Dense(1, activation="softmax"))
    net.set_weights([weight + 0.01 for weight in net.get_weights()])
    report, found = verdicts(net, *colours(60))
    assert report["findings"][0].cause == "output_head"
    assert (found["output_head"], found["constant_answer"]) == ("fault", "suspicious")


def test_a_drawn_net_is_not_blamed_for_its_answers():
    keras.utils.set_random_seed(3)
    net = headed(layers.Dense(8, activation="relu"), layers.Dense(1, activation="sigmoid"))
    report, found = verdicts(net, *colours(60))
    assert report["findings"][0].cause == "untrained_layer"
    assert [cause for cause, verdict in found.items() if verdict == "fault"] == ["untrained_layer"]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros(40, int), "Too few labelled photos"),
        (np.r_[np.zeros(31, int), np.ones(9, int)], "Too few labelled photos"),
        (np.arange(40) % 3, "labels are 0 to 1, not to 2"),
        (np.zeros(39, int), "labels are one class number for each of the 40 photos"),
    ],
)
def test_what_cannot_be_examined_gets_a_sentence(labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        diagnose.diagnose(red(), colours(40)[0], labels)


def command(*arguments):
    done = subprocess.run(
        [sys.executable, ROOT / "diagnose.py", *map(str, arguments)], capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr.strip()


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    upper().save(folder / "net.keras")
    for i, (picture, label) in enumerate(zip(*halves(60))):
        place = folder / "photos" / ("below", "top")[label]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{i}.png"), np.uint8(picture)[..., ::-1])
    (folder / "photos" / "below" / "broken.png").write_bytes(b"no photo")
    return folder


def test_the_command(on_disk):
    status, text, _ = command(
        *(on_disk / "net.keras", on_disk / "photos", "--value-range", 0, 1),
        *("--json", on_disk / "report.json"),
    )
    assert status == 0 and "60 photos, 100.0% right" in text
    assert "1 photos" in text and "cannot be read" in text
    report = json.loads((on_disk / "report.json").read_text())
    keys = {"check", "cause", "verdict", "value", "limit", "message", "remedy"}
    assert all(set(finding) == keys for finding in report["findings"])
    assert {finding["cause"] for finding in report["findings"]} <= set(diagnose.CAUSES)
    status, text, _ = command(
        *(on_disk / "net.keras", on_disk / "photos", "--value-range", 0, 1),
        *("--classes", "top", "below", "--limit", 40),
    )
    # With two halves, exchanged classes and photos upside down are the same.
    assert status == 1 and text.splitlines()[2].startswith("fault      flipped_or_rotated")


@pytest.mark.parametrize(
    ("net", "change", "cause"),
    [
        (red, lambda x, y: (x[..., ::-1], y), "channel_order"),
        (corner_reader, lambda x, y: (with_a_corner(x, y), y), "shortcut"),
        (lambda: reads([40, 0, -40], bias=3), lambda x, y: (x, y), "threshold"),
    ],
)
def test_the_page_shows_the_fault(net, change, cause):
    pictures, labels = change(*colours(200))
    case = diagnose.examine(net(), pictures, labels, value_range=(0, 1))
    found = page.page(case, case.report(), ["blue <ish>", "reddish"])
    assert f"<h2>{cause}</h2>" in found and "data:image/jpeg;base64," in found
    assert "<ish>" not in found and 'src="http' not in found
    assert not matplotlib.pyplot.get_fignums()


def test_the_page_of_copies_and_of_a_sound_net():
    pictures, labels = halves(60)
    case = diagnose.examine(upper(), pictures, labels, halves(60), (0, 1))
    assert "<h2>leak</h2>" in page.page(case, case.report(), ["a", "b"], halves(60))
    case = diagnose.examine(upper(), *halves(60), halves(60, seed=4), (0, 1))
    found = page.page(case, case.report(), ["a", "b"])
    assert "No fault found" in found and "<img" not in found


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("none.keras", "photos"), "There is no model file"),
        (("net.keras", "none"), "holds no folders with photos"),
        (("net.keras", "photos/below"), "holds no folders with photos"),
        (("net.keras", "photos", "--limit", "12"), "Too few labelled photos"),
    ],
)
def test_bad_input_ends_with_one_sentence(on_disk, arguments, sentence):
    model, folder, *rest = arguments
    status, _, error = command(on_disk / model, on_disk / folder, *rest)
    assert status == 2 and sentence in error.splitlines()[-1] and "Traceback" not in error


# --------------------------------------------------------------------------------- planted faults


def test_the_page_of_planted_faults_tells_the_results():
    results = json.loads(run.RESULTS.read_text())
    page_ = tables.PAGE.read_text()
    parts = tables.faults_table, tables.sound_table, tables.peers_table, tables.sentence
    assert all(part(results) in page_ for part in parts)
    assert set(results["instances"]) == {name for name, *_ in run.instances()}
    asked = {one["half"] for one in results["instances"].values() if "peers" in one}
    others = {one["half"] for one in results["instances"].values() if "peers" not in one}
    assert asked == {"development"} and others == {"held out"}


def test_totals_count_what_was_found():
    one = {"half": "held out", "kind": "input", "named": ["leak"], "right": ["leak"]}
    results = {
        "instances": {
            "a / net 0": one,
            "a / net 1": one | {"named": ["resize", "leak"]},
            "b / net 0": one | {"half": "development", "named": []},
            "c / net 0": one | {"kind": "weaker"},
            "sound / net 0": one | {"kind": "sound", "right": []},
            "sound / net 1": one | {"kind": "sound", "right": [], "named": []},
        }
    }
    held = tables.totals(results, "held out")
    assert (held["planted"], held["right"], held["weaker"], held["weaker right"]) == (2, 1, 1, 1)
    assert (held["sound"], held["alarms"]) == (2, 1)
    assert (tables.totals(results)["planted"], tables.totals(results)["right"]) == (3, 1)
    assert "| a | input |  | 1 of 2 | leak | resize |" in tables.faults_table(results)
    assert "1 of 2 faults" in tables.sentence(results)


def test_what_stands_around_the_tables_stays(tmp_path, monkeypatch):
    results = json.loads(run.RESULTS.read_text())
    for name, file in (("PAGE", "page.md"), ("README", "README.md"), ("FIGURE", "bugs.png")):
        monkeypatch.setattr(tables, name, tmp_path / file)
    around = (
        "before\n",
        "\nbetween\n<!-- written by others -->\n<!-- end of what it wrote -->\nafter\n",
    )
    for page_ in (tables.PAGE, tables.README):
        page_.write_text(f"{around[0]}{tables.BEGIN}\nREPLACED\n{tables.END}{around[1]}")
    for _ in range(2):
        tables.write(results)
        for page_, part in ((tables.PAGE, tables.faults_table), (tables.README, tables.sentence)):
            text = page_.read_text()
            assert text.startswith(around[0]) and text.endswith(tables.END + around[1])
            assert text.count(part(results)) == 1 and "REPLACED" not in text
    assert tables.FIGURE.stat().st_size > 10_000


def test_the_page_of_cases_by_others_tells_the_results():
    results, page_ = json.loads(blind.RESULTS.read_text()), tables.PAGE.read_text()
    assert blind.table(results) in page_ and blind.missed(results) in page_
    for cases in results.values():
        for case in cases.values():
            assert set(case["expected"]) <= set(diagnose.CAUSES) | {"none_fits"}
            assert (case["kind"] == "control") == (not case["expected"])


def test_cases_by_others_are_examined_and_first_sight_is_kept(tmp_path, monkeypatch):
    pictures, labels = colours(200)
    truths = {"bgr": ("fault", ["channel_order"]), "sound": ("control", [])}
    for name, (kind, expected) in truths.items():
        case = tmp_path / "cases" / name
        case.mkdir(parents=True)
        red().save(case / "model.keras")
        shown = np.uint8(pictures[..., ::-1] if name == "bgr" else pictures)
        np.savez(case / "photos.npz", photos=shown, labels=labels)
        truth = dict(kind=kind, expected=expected, value_range=[0, 1], description=name)
        (case / "truth.json").write_text(json.dumps(truth))
    monkeypatch.setattr(blind, "RESULTS", tmp_path / "blind.json")
    for name in ("PAGE", "README"):
        monkeypatch.setattr(tables, name, tmp_path / name)
        (tmp_path / name).write_text(f"a\n{blind.BEGIN}\n{tables.END}\nb\n")
    monkeypatch.setattr(blind, "examined", lambda folder, truth: ["leak"])
    blind.main([str(tmp_path / "cases"), "--name", "set"])
    monkeypatch.undo()
    monkeypatch.setattr(blind, "RESULTS", tmp_path / "blind.json")
    for name in ("PAGE", "README"):
        monkeypatch.setattr(tables, name, tmp_path / name)
    blind.main([str(tmp_path / "cases"), "--name", "set"])
    found = json.loads((tmp_path / "blind.json").read_text())["set"]
    assert all(case["at first sight"] == ["leak"] for case in found.values())
    assert found["bgr"]["named"][0] == "channel_order"
    assert blind.is_right(found["bgr"], "named") and not blind.is_right(found["bgr"], blind.FIRST)
    page_ = (tmp_path / "PAGE").read_text()
    assert "| set, at first sight | 0 of 1 | 0 of 0 | 1 of 1 |" in page_ and page_[0] == "a"
    with pytest.raises(SystemExit, match="holds no folder with a truth.json"):
        blind.main([str(tmp_path / "nothing")])


def test_tools_are_compared_on_the_same_instances():
    asked = {"half": "held out", "kind": "input", "named": ["resize", "leak"], "right": ["leak"]}
    rules = {"A": [["first", ["leak", "resize"]], ["second", []]], "B": []}
    results = {
        "instances": {
            "a / net 0": asked | {"peers": rules},
            "a / net 1": asked | {"named": [], "peers": {"A": [["second", []]], "B": []}},
            "a / net 2": asked,  # the peers were not asked
            "sound / net 0": asked | {"kind": "sound", "right": [], "named": [], "peers": rules},
        }
    }
    found = tables.compared(results)
    keys = "right", "silent", "alarms", "said", "planted", "sound"
    assert tuple(found["diagnose.py"][key] for key in keys) == (1, 1, 0, 1, 2, 1)
    assert tuple(found["A"][key] for key in keys) == (1, 0, 1, 1.5, 2, 1)
    assert tuple(found["B"][key] for key in keys) == (0, 2, 0, 0, 2, 1)
    assert tables.peers_table({"instances": {}}) == ""


def test_right_answers_are_causes():
    for _, answers_, _, _ in faults.FAULTS.values():
        assert answers_ <= set(diagnose.CAUSES)
    assert set(diagnose.REMEDIES) == set(diagnose.CAUSES)


@pytest.mark.parametrize(
    ("named", "right", "fits"),
    [(["a", "b"], ["a"], True), (["b", "a"], ["a"], False), ([], ["a"], False), ([], [], True)],
)
def test_only_the_first_answer_counts(named, right, fits):
    assert tables.first_right({"named": named, "right": right}) is fits
    assert tables.first_right({"named": ["a"], "right": []}) is False


@pytest.mark.parametrize("change", [faults.bordered, faults.brighter, faults.tinted])
def test_cues_are_on_the_chosen_photos_only(change):
    pictures = np.uint8(np.random.default_rng(0).uniform(0, 200, (6, 64, 64, 3)))
    some = np.arange(6) % 2 == 1
    changed = change(pictures, some)
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(changed[~some], pictures[~some])
    assert all((a != b).any() for a, b in zip(changed[some], pictures[some]))
