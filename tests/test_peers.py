"""Each published rule on a tiny net or curve whose answer is known: it speaks where it should."""

import json
import sys

import keras
import numpy as np
import pytest
from keras import layers

import diagnose
import visualize
from bugs import peers

SIDE = 16
CURVE = {
    "loss": [0.7, 0.6, 0.5, 0.45, 0.42],
    "val_loss": [0.72, 0.62, 0.52, 0.47, 0.44],
    "accuracy": [0.6, 0.7, 0.8, 0.85, 0.9],
    "val_accuracy": [0.59, 0.69, 0.79, 0.84, 0.89],
    "learning_rate": 0.001,
}
PUBLISHED = [tool for tool in peers.RIGHT if tool != "cleanlab and cleanvision"]


def colours(count=80, seed=0):
    """Noisy photos, labels that tell whether they are reddish, 3 of 40 of them wrong."""
    generator = np.random.default_rng(seed)
    red = np.arange(count) % 2
    pictures = generator.uniform(80, 176, (count, SIDE, SIDE, 3))
    pictures[..., 0] += 20 * (2 * red[:, None, None] - 1)
    return np.uint8(pictures), np.where(np.arange(count) % 40 < 3, 1 - red, red)


def reds(times=16.0, bias=0.01, head="sigmoid", activation="relu", more=(), loss=None):
    """A net whose logit tells how reddish pixels from -1 to 1 are."""
    net = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(6, 1, activation=activation, name="conv"),
            layers.GlobalAveragePooling2D(),
            *more,
            layers.Dense(1, activation=head, name="answer"),
        ]
    )
    kernel = np.concatenate([np.eye(3), -np.eye(3)], 1).reshape(1, 1, 3, 6)
    net.get_layer("conv").set_weights([kernel, np.full(6, bias)])
    weights = times * np.reshape([1.0, 0, 0, -1, 0, 0], (6, 1))
    net.get_layer("answer").set_weights([weights, np.zeros(1)])
    if loss:
        net.compile("sgd", loss)
    return net


def seen(net=None, curve=CURVE):
    photos, labels = colours()
    images = visualize.from_pixels(photos, (-1, 1))
    return peers.look(net or reds(), images, photos, labels, curve=curve)


def spoken(case, tools=PUBLISHED):
    return {
        f"{tool.split()[0].lower()}_{rule}"
        for tool in tools
        for rule in peers.RIGHT[tool]
        if getattr(peers, f"{tool.split()[0].lower()}_{rule}")(case) is not None
    }


def changed(**curve):
    return seen()._replace(curve=CURVE | curve)


def failing(first=1.0, last=1.0):
    """A net with an accuracy of one half and these gradients."""
    gradients = {"conv/kernel": np.full((3, 9), first), "answer/kernel": np.full((3, 9), last)}
    return seen()._replace(validated=[0.5], gradients=gradients)


FLAT = [0.6] * 12
# rule: a case of which it speaks
SPEAKS = {
    "umlaut_nan_in_loss": lambda: changed(loss=[0.7, np.nan]),
    "umlaut_missing_softmax": lambda: seen(reds(head=None, loss="binary_crossentropy")),
    "umlaut_final_activation": lambda: seen()._replace(model=softmax_behind_relu()),
    "umlaut_missing_activation": lambda: seen(reds(activation=None)),
    "umlaut_input_exceeds_limits": lambda: seen()._replace(images=np.full((2, 4, 4, 3), 1.01)),
    "umlaut_input_not_floating": lambda: seen()._replace(images=colours()[0]),
    "umlaut_input_shape": lambda: seen()._replace(images=np.zeros((2, 4, 5, 3))),
    "umlaut_learning_rate": lambda: changed(learning_rate=0.011),
    "umlaut_high_dropout": lambda: seen(reds(more=[layers.Dropout(0.6)])),
    "umlaut_validation_accuracy": lambda: seen()._replace(validated=[0.96], trained=[0.99]),
    "umlaut_overfitting": lambda: changed(val_loss=[0.72, 0.62, 0.52, 0.53, 0.44]),
    "sagemaker_exploding_tensor": lambda: failing(np.inf),
    "sagemaker_all_zero": lambda: seen(reds(times=0)),
    "sagemaker_dead_relu": lambda: seen(reds(bias=-2.0)),
    "sagemaker_vanishing_gradient": lambda: failing(9e-8),
    "sagemaker_saturated_activation": lambda: seen(reds(times=1000.0)),
    "sagemaker_check_input_images": lambda: seen()._replace(images=np.full((500, 2, 2, 3), 0.3)),
    "sagemaker_class_imbalance": lambda: seen()._replace(answers=np.zeros(80, int)),
    "sagemaker_confusion": lambda: seen()._replace(answers=np.arange(80) // 2 % 2),
    "sagemaker_loss_not_decreasing": lambda: changed(loss=[0.7, 0.6, 0.6]),
    "sagemaker_overfit": lambda: changed(val_loss=[0.7, 0.6, 0.56]),
    "sagemaker_overtraining": lambda: changed(loss=FLAT, val_loss=FLAT),
    "autotrainer_abnormal_data": lambda: seen()._replace(means={"conv": 10.0, "answer": 0.5}),
    "autotrainer_improper_activation": lambda: seen(reds(head="softmax"), curve=None),
    "autotrainer_improper_loss": lambda: seen(reds(loss="mean_squared_error")),
    "autotrainer_dying_relu": lambda: failing(0.0, 0.0),
    "autotrainer_exploding_gradient": lambda: failing(71.0),
    "autotrainer_vanishing_gradient": lambda: failing(1e-6),
    "autotrainer_slow_convergence": lambda: changed(accuracy=FLAT, val_accuracy=FLAT),
    "autotrainer_oscillating_loss": lambda: changed(accuracy=[0.8, 0.9] * 3),
}


def softmax_behind_relu():
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Flatten(),
            layers.Dense(2, activation="relu"),
            layers.Softmax(),
        ]
    )


def test_the_published_rules_are_silent_on_a_sound_net():
    assert spoken(seen()) == set()
    assert spoken(seen(curve=None)) == set()


@pytest.mark.filterwarnings("ignore:You are using a softmax")
@pytest.mark.parametrize("rule", SPEAKS)
def test_a_rule_speaks_where_it_should(rule):
    assert getattr(peers, rule)(SPEAKS[rule]()) is not None


def test_every_published_rule_is_tested_and_every_advice_is_a_cause():
    names = {
        f"{tool.split()[0].lower()}_{rule}" for tool in PUBLISHED for rule in peers.RIGHT[tool]
    }
    assert names == set(SPEAKS)
    assert len(peers.RIGHT["UMLAUT"]) == 11
    for rules in peers.RIGHT.values():
        assert all(causes and causes <= set(diagnose.CAUSES) for causes in rules.values())


def test_a_rule_without_what_it_needs_says_nothing():
    bare = seen(curve=None)._replace(gradients={}, active={}, means={}, trained=[])
    assert spoken(bare) == set()
    assert peers.umlaut_missing_softmax(seen(reds(head=None))) is None  # no loss is known
    assert (
        peers.sagemaker_check_input_images(seen()._replace(images=np.ones((499, 1, 1, 3)))) is None
    )


@pytest.mark.parametrize(
    ("first", "last"),
    [(0.0, 0.0), (71.0, 1.0), (1e-6, 1.0)],
    ids=["dying", "exploding", "vanishing"],
)
def test_autotrainer_asks_about_the_gradients_of_failing_nets_only(first, last):
    case = failing(first, last)
    assert spoken(case, ["AutoTrainer"])
    assert not spoken(case._replace(validated=[0.7]), ["AutoTrainer"])


def test_what_is_not_finite_explodes_however_accurate_the_net_is():
    case = seen()._replace(loss=np.inf)
    assert spoken(case, ["AutoTrainer"]) == {"autotrainer_exploding_gradient"}


@pytest.mark.parametrize(
    ("validated", "trained", "value"),
    [
        ([1.0, 1, 1, 0.9], [1.0, 1, 1, 1], None),  # the first three epochs do not count
        ([0.5, 0.5, 0.5, 0.96], [1.0, 1, 1, 1], 0.96),
        ([0.5, 0.5, 0.5, 0.8], [0.9, 0.9, 0.9, 0.79], 0.8),
    ],
)
def test_umlaut_waits_for_the_fourth_epoch(validated, trained, value):
    case = seen(curve=CURVE | {"val_accuracy": validated, "accuracy": trained})
    assert peers.umlaut_validation_accuracy(case) == value


def test_the_longest_row_without_a_better_loss():
    assert peers._stale([1.0, 0.8, 0.75, 0.71, 0.6, 0.55]) == 2
    assert peers._stale([]) == 0


def test_gradients_are_those_of_the_cross_entropy():
    photos, labels = colours(64)
    images = visualize.from_pixels(photos, (-1, 1))
    for net in (reds(), reds(head=None)):  # logits get their sigmoid in the loss
        loss, gradients = peers._gradients(net, images, labels)
        p = visualize.probabilities(net, images)[:, 1]
        truth = np.where(labels == 1, p, 1 - p)
        assert loss == pytest.approx(-np.log(truth).mean(), rel=1e-4)
        assert len(gradients) == 4
        (bias,) = (g for path, g in gradients.items() if path.endswith("answer/bias"))
        assert bias[0] == pytest.approx(np.mean(p - labels), abs=1e-5)


def test_means_and_activity_of_layers():
    case = seen()
    (maps,) = visualize.activations(case.model, case.images, ["conv"]).values()
    assert list(case.active) == ["conv"] and list(case.means)[-1] == "answer"
    np.testing.assert_allclose(case.active["conv"], np.mean(maps > 0, (0, 1, 2)), rtol=1e-5)
    assert case.means["conv"] == pytest.approx(np.abs(maps).mean(), rel=1e-5)


def test_the_net_is_judged_by_its_accuracy_where_its_training_was_not_seen():
    photos, labels = colours()
    images = visualize.from_pixels(photos, (-1, 1))
    case = peers.look(reds(), images, photos, labels, (photos, 1 - labels), images)
    assert (case.validated, case.trained) == ([0.925], [pytest.approx(0.075)])
    assert seen().trained == CURVE["accuracy"]


# ----------------------------------------------------------------------- cleanlab and cleanvision


@pytest.fixture
def libraries():
    for name in ("cleanlab", "cleanvision", "datasets"):
        pytest.importorskip(name, reason=f"{name} of bugs/requirements.txt is not installed")


def test_one_sentence_where_the_libraries_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    photos, labels = colours(20)
    with pytest.raises(ImportError, match="pip install -r bugs/requirements.txt"):
        peers.says(reds(), visualize.from_pixels(photos, (-1, 1)), photos, labels)


def test_cleanlab_flags_wrong_labels(libraries):
    wrong = seen()
    right = wrong._replace(labels=wrong.answers)
    assert peers.cleanlab_label_issues(wrong) == pytest.approx(6 / 80, abs=0.03)
    assert peers.cleanlab_label_issues(right) is None
    assert (
        peers.cleanlab_label_issues(right._replace(probabilities=np.full((80, 2), np.nan))) is None
    )


def test_cleanvision_finds_copies_but_none_that_are_mirrored(libraries):
    case, (others, labels) = seen(), colours(seed=1)
    assert peers.cleanlab_duplicates(case) is None
    assert peers.cleanlab_duplicates(case._replace(train=(others, labels))) is None
    others[3:7] = case.photos[10:14]
    assert peers.cleanlab_duplicates(case._replace(train=(others, labels))) == 4 / 80
    others[3:7] = others[3:7, :, ::-1]
    assert peers.cleanlab_duplicates(case._replace(train=(others, labels))) is None


def test_datalab_finds_a_property_that_gives_the_class_away(libraries):
    noise = np.random.default_rng(0).uniform(80, 176, (80, SIDE, SIDE, 3))
    case = seen()._replace(photos=np.uint8(noise))
    assert peers.cleanlab_spurious_correlations(case) is None
    darker = noise / (1 + case.labels[:, None, None, None])
    assert peers.cleanlab_spurious_correlations(case._replace(photos=np.uint8(darker))) < 0.3


def broken(kind):
    net = reds(head="softmax") if kind == "a softmax on one unit" else reds()
    values = {"NaN": np.nan, "infinity": np.inf, "zero": 0.0}
    if kind in values:
        kernel, bias = net.get_layer("conv").get_weights()
        net.get_layer("conv").set_weights([kernel * 0 + values[kind], bias])
    return net


@pytest.mark.filterwarnings("ignore:You are using a softmax")
@pytest.mark.parametrize("kind", ["sound", "NaN", "infinity", "zero", "a softmax on one unit"])
def test_any_net_gets_an_answer_for_json(kind, libraries, capfd):
    photos, labels = colours()
    images = visualize.from_pixels(photos, (-1, 1))
    wild = {key: [np.nan, np.inf, np.inf, 0.5, 0.1] for key in ("loss", "val_loss")}
    for curve in (None, CURVE | wild):
        said = peers.says(
            broken(kind), images, np.float32(photos), labels, (photos, labels), images, curve
        )
        json.dumps(said, allow_nan=False)
        assert list(said) == list(peers.RIGHT)
        for tool, alarms in said.items():
            assert all(set(one["causes"]) == peers.RIGHT[tool][one["rule"]] for one in alarms)
        found = {one["rule"] for one in said["cleanlab and cleanvision"]}
        assert "duplicates" in found
    assert "it/s" not in capfd.readouterr().err
