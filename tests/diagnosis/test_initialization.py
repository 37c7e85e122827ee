"""Weights as an initializer draws them, told from weights that have been trained."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers
from scipy.stats import kstest
from tiny_classifiers import (
    SIDE,
    case_of,
    colours,
    examined,
    finding_of,
    model_of,
    verdict,
    with_mistakes,
)

from debugcnn.diagnosis.causes.untrained_layer import untrained_layer
from debugcnn.diagnosis.initialization import drawn_layers, is_drawn
from debugcnn.diagnosis.layers import last_layer_with_kernel, weights_in_kernels

INITIALIZERS = ["orthogonal", "truncated_normal", "he_normal", "random_normal", "glorot_uniform"]
DEPTHWISE = ["orthogonal", "he_normal"]  # also of depthwise convolutions


def names(model):
    return {drawn.layer for drawn in drawn_layers(model)}


def with_moved_biases(model, *layer_names):
    """The model, whose layers of these names have biases other than 0, as after training."""
    for name in layer_names:
        layer = model.get_layer(name)
        layer.bias.assign(layer.bias + 0.01)
    return model


# ------------------------------------------------------------------------------------------ layers


@pytest.fixture(scope="module")
def fresh():
    """A model with a convolution and a large dense layer for each initializer, without biases, and
    its initial weights.
    """
    keras.utils.set_random_seed(3)
    inputs = keras.Input((SIDE, SIDE, 3))
    ends = []
    for kind in INITIALIZERS:
        own = dict(kernel_initializer=kind, use_bias=False)
        x = layers.Conv2D(64, 3, activation="relu", name=f"conv_{kind}", **own)(inputs)
        if kind in DEPTHWISE:
            options = dict(depthwise_initializer=kind, use_bias=False, padding="same")
            x = layers.DepthwiseConv2D(3, name=f"depth_{kind}", **options)(x)
        x = layers.Flatten()(layers.MaxPooling2D(7)(x))
        ends.append(layers.Dense(256, activation="relu", name=f"dense_{kind}", **own)(x))
    x = layers.Dense(4, name="head", use_bias=False)(layers.Concatenate()(ends))
    model = keras.Model(inputs, x)
    return model, model.get_weights()


def changed(start, change):
    """The weights, each kernel changed by change(matrix, standard deviation)."""
    kernels = []
    for kernel in start:
        matrix = kernel.reshape(-1, kernel.shape[-1])
        kernels.append(change(matrix, matrix.std()).reshape(kernel.shape))
    return kernels


def test_fresh_layers_of_all_kinds_are_as_drawn(fresh):
    model, start = fresh
    model.set_weights(start)
    drawn = {layer.layer: layer for layer in drawn_layers(model)}
    kinds = [f"{place}_{kind}" for kind in INITIALIZERS for place in ("conv", "dense")]
    assert set(drawn) == {*kinds, *(f"depth_{kind}" for kind in DEPTHWISE), "head"}
    for name, weights, initializer in (
        ("conv_he_normal", 3 * 3 * 3 * 64, "HeNormal"),
        ("depth_orthogonal", 3 * 3 * 64, "Orthogonal"),
        ("head", 5 * 256 * 4, "GlorotUniform"),
    ):
        assert drawn[name][1:] == (weights, initializer, False)
    assert weights_in_kernels(model) == sum(w.size for w in start)


def test_a_small_update_leaves_traces(fresh):
    model, start = fresh
    generator = np.random.default_rng(0)

    def rank_one(matrix, spread):
        u, v = generator.normal(size=(len(matrix), 1)), generator.normal(size=(matrix.shape[1],))
        return matrix + 0.1 * spread * u * v

    def noise(matrix, spread):
        return matrix + 0.05 * spread * generator.normal(size=matrix.shape)

    large = {f"dense_{kind}" for kind in INITIALIZERS}
    try:
        model.set_weights(changed(start, rank_one))
        assert not names(model) & (large | {"conv_orthogonal", "head"})
        model.set_weights(changed(start, noise))
        drawn = names(model)
        assert not drawn & (large - {"dense_random_normal"} | {"conv_orthogonal", "head"})
        # Noise on normal noise is normal noise: it leaves no trace.
        assert "dense_random_normal" in drawn
    finally:
        model.set_weights(start)


@pytest.mark.slow
def test_twenty_steps_of_training_leave_traces(fresh):
    model, start = fresh
    images = np.float32(np.random.default_rng(0).normal(size=(80, SIDE, SIDE, 3)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    try:
        model.compile(keras.optimizers.Adam(1e-3), loss)
        model.fit(images, np.arange(80) % 4, batch_size=20, epochs=5, verbose=0, shuffle=False)
        trained = {f"dense_{kind}" for kind in INITIALIZERS if kind != "random_normal"}
        assert not names(model) & (trained | {"conv_orthogonal", "depth_orthogonal", "head"})
    finally:
        model.set_weights(start)


def test_one_step_of_training_moves_the_biases():
    model = model_of(layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(2))
    assert len(names(model)) == 2
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*colours(32), epochs=1, verbose=0)
    assert not names(model)


@pytest.mark.parametrize(
    ("initializer", "shape"),
    [
        (keras.initializers.Orthogonal(2.0, seed=1), (3, 3, 2, 40)),  # more outputs than inputs
        (keras.initializers.RandomUniform(-0.3, 0.3, seed=1), (40, 40)),
        (keras.initializers.RandomNormal(0.0, 0.5, seed=1), (40, 40)),
        (keras.initializers.TruncatedNormal(0.0, 0.2, seed=1), (60, 50)),
        (keras.initializers.VarianceScaling(3.0, "fan_out", "uniform", seed=1), (3, 3, 4, 20)),
        (keras.initializers.VarianceScaling(3.0, "fan_avg", seed=1), (3, 3, 8, 20)),
        (keras.initializers.VarianceScaling(0.5, "fan_in", seed=1), (3, 3, 8, 20)),
        (
            keras.initializers.VarianceScaling(1.0, distribution="untruncated_normal", seed=1),
            (30, 60),
        ),
        *((keras.initializers.get(kind), (5, 5, 6, 12)) for kind in ("lecun_normal", "he_uniform")),
        *((keras.initializers.get(kind), (80, 9)) for kind in ("lecun_uniform", "glorot_normal")),
    ],
)
def test_what_keras_draws_is_drawn_and_what_differs_is_not(initializer, shape):
    """Keras' own draws are the oracle of their distributions' closed forms."""
    drawn = np.asarray(initializer(shape), np.float32)
    assert is_drawn(drawn, initializer) is True
    two_values = drawn.mean() + drawn.std() * np.sign(drawn - np.median(drawn))
    for other in (1.2 * drawn, drawn / 1.2, drawn**3, drawn + 0.3 * drawn.std(), two_values):
        assert is_drawn(other, initializer) is False
    assert is_drawn(np.zeros(shape, np.float32), initializer) is False
    assert is_drawn(drawn, None) is False


@pytest.mark.parametrize(
    "initializer",
    [
        keras.initializers.Constant(0.2),
        keras.initializers.RandomUniform(0, 1, seed=0),  # not around 0
        keras.initializers.RandomUniform(-0.1, 0.3, seed=0),
    ],
)
def test_distributions_without_a_closed_form_are_not_judged(initializer):
    assert is_drawn(np.asarray(initializer((40, 40))), initializer) is False


@pytest.mark.parametrize("kind", ["random_normal", "truncated_normal", "random_uniform"])
def test_one_large_weight_and_one_grown_direction(kind):
    initializer = keras.initializers.get({"class_name": kind, "config": {"seed": 0}})
    drawn = np.asarray(initializer((100, 80)), np.float32)
    large = drawn.copy()
    large[3, 4] = 2.3 * drawn.std()  # beyond all bounds, but not beyond a normal distribution
    assert is_drawn(drawn, initializer) is True
    assert is_drawn(large, initializer) is (kind == "random_normal")
    assert is_drawn(drawn / 1.05, initializer) is False  # by its spread
    assert is_drawn(drawn / 1.01, initializer) is True  # 1.6 standard errors of that
    if kind == "random_normal":
        # The same values, sorted along an axis: one direction is far larger than by chance.
        assert is_drawn(np.sort(drawn, 0), initializer) is False
        assert is_drawn(np.sort(drawn, 0).T, initializer) is False


@pytest.mark.parametrize("shape", [(100, 80), (20, 300), (400, 12)])
def test_directions_of_normal_weights_grow_by_chance_alone_hardly_ever(shape):
    initializer = keras.initializers.RandomNormal(stddev=0.3)
    generator = np.random.default_rng(0)
    kept = [is_drawn(generator.normal(0, 0.3, shape), initializer) for _ in range(60)]
    assert np.mean(kept) > 0.93  # the distribution test alone rejects 1 %
    u, v = (generator.normal(size=side) for side in shape)
    grown = generator.normal(0, 0.3, shape) + 0.09 * np.outer(u, v)
    assert is_drawn(grown, initializer) is False


def test_a_uniform_kernel_is_known_however_unlikely_its_values_are():
    """Of 200 draws some fail a distribution test at 1 %; they are drawn all the same."""
    bound, generator = np.sqrt(6 / 64), np.random.default_rng(0)
    initializer, unlikely = keras.initializers.GlorotUniform(), 0
    for _ in range(200):
        kernel = generator.uniform(-bound, bound, (32, 32))
        unlikely += kstest(kernel.ravel(), "uniform", (-bound, 2 * bound)).pvalue < 0.01
        assert is_drawn(kernel, initializer)
        assert not is_drawn(kernel * 1.02, initializer)
        squeezed = np.sign(kernel) * bound * (np.abs(kernel) / bound) ** 1.5
        assert not is_drawn(squeezed, initializer)
    assert unlikely


def test_kernels_that_are_too_small_tell_nothing():
    initializer = keras.initializers.GlorotUniform(seed=0)
    assert is_drawn(np.asarray(initializer((7, 7))), initializer) is None
    assert is_drawn(np.asarray(initializer((5, 10))), initializer) is True
    model = model_of(
        layers.SeparableConv2D(400, 3, name="separable", activation="relu"),  # 27 and 1200
        layers.GlobalAveragePooling2D(),
        layers.Dense(30, name="hidden", activation="relu"),
        layers.Dense(1, name="few"),  # 30 weights
    )
    assert names(model) == {"separable", "hidden"}
    assert names(with_moved_biases(model, "hidden")) == {"separable"}
    depthwise, pointwise, bias = model.get_layer("separable").get_weights()
    model.get_layer("separable").set_weights([depthwise, 2 * pointwise, bias])
    assert names(model) == set()


def test_each_kernel_of_a_layer_has_to_be_as_drawn():
    model = model_of(layers.SeparableConv2D(400, 9, name="separable"), layers.ReLU())
    assert names(model) == {"separable"}
    depthwise, pointwise, bias = model.get_layer("separable").get_weights()  # 243, 1200
    model.get_layer("separable").set_weights([2 * depthwise, pointwise, bias])
    assert names(model) == set()


def test_layers_that_were_drawn_by_the_default_initializer():
    model = model_of(
        layers.Flatten(),
        layers.Dense(40, name="large", kernel_initializer="he_normal"),
        layers.Dense(1, name="head"),
    )
    large = model.get_layer("large")
    assert names(with_moved_biases(model, "head")) == {"large"}
    default = np.asarray(keras.initializers.GlorotUniform(seed=1)((SIDE * SIDE * 3, 40)))
    for kernel, bias, drawn in (
        (default, np.zeros(40), {"large"}),
        (1.2 * default, np.zeros(40), set()),
        (default, np.ones(40), set()),
    ):
        large.set_weights([kernel, bias])
        assert names(model) == drawn


@pytest.mark.parametrize(
    ("kernel", "bias", "initializer", "drawn"),
    [
        (0.2, 1.0, "glorot_uniform", True),  # filters that no training tells apart
        (0.0, 0.0, "zeros", True),
        (0.0, 0.0, "glorot_uniform", False),  # they were emptied
    ],
)
def test_filters_that_are_all_the_same_were_drawn_so(kernel, bias, initializer, drawn):
    model = model_of(
        layers.Conv2D(6, 3, name="conv", kernel_initializer=initializer),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, name="head"),
    )
    row = np.linspace(0.5, 1, 27).reshape(3, 3, 3, 1)
    model.get_layer("conv").set_weights([np.tile(kernel * row, 6), np.full(6, bias)])
    with_moved_biases(model, "head")
    assert names(model) == ({"conv"} if drawn else set())
    if drawn and kernel:
        assert drawn_layers(model)[0].certain
        other = np.tile(kernel * row, 6)
        other[1, 1, 1, 4] += 0.1
        model.get_layer("conv").set_weights([other, np.full(6, bias)])
        assert names(model) == set()


def test_layers_inside_nested_models_count_once():
    inner = keras.Sequential([layers.Dense(20, name="shared", activation="relu")], name="inner")
    inputs = keras.Input((20,))
    outputs = layers.Dense(3, name="head")(inner(inner(inputs)))
    model = keras.Sequential(
        [keras.Input((2, 10, 1)), layers.Flatten(), keras.Model(inputs, outputs)]
    )
    assert names(model) == {"shared", "head"}
    assert weights_in_kernels(model) == 20 * 20 + 20 * 3


@pytest.mark.parametrize(
    ("inner", "last"),
    [
        ([layers.Conv2D(3, 1, name="conv"), layers.GlobalAveragePooling2D()], "conv"),
        ([layers.Conv2D(3, 1), layers.Flatten(), layers.Dense(2, name="a"), layers.ReLU()], "a"),
        ([layers.GlobalAveragePooling2D()], None),
    ],
)
def test_the_last_layer_with_a_kernel(inner, last):
    assert last_layer_with_kernel(model_of(*inner)) == last


# ---------------------------------------------------------------------------------------- verdicts

MEASURED_BEFORE = "untrained_layer:untrained_layer", "untrained_layer:last_layer"


@pytest.fixture(scope="module")
def with_three_kernels():
    return model_of(
        layers.Flatten(),
        layers.Dense(40, name="large", activation="relu"),
        layers.Dense(4, name="inner", activation="relu"),
        layers.Dense(20, name="head"),
        layers.Softmax(),
    )


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ([], "fine"),
        (["inner"], "suspicious"),
        (["head"], "fault"),
        (["inner", "head"], "fault"),
        (["large"], "fault"),
    ],
)
def test_few_drawn_weights_are_a_fault_in_the_last_layer_only(with_three_kernels, drawn, said):
    model = with_three_kernels
    for name in ("large", "inner", "head"):
        bias = model.get_layer(name).bias
        bias.assign(np.full(bias.shape, 0.0 if name in drawn else 0.01))
    report = examined(case_of(model, *colours(40)), *MEASURED_BEFORE)
    finding = finding_of(report, "untrained_layer")
    assert finding.verdict == said and bool(finding.fix) is (said == "fault")
    sizes = {"large": 768 * 40, "inner": 160, "head": 80}
    share = sum(sizes[name] for name in drawn) / sum(sizes.values())
    assert report.measurements[0].value == pytest.approx(share)
    if drawn:
        assert f"{share:.1%}" in report.measurements[0].message
        assert ", ".join(drawn) in report.measurements[0].message


def test_a_drawn_head_without_biases_has_to_be_wrong_too():
    model = model_of(
        layers.Flatten(),
        layers.Dense(400, name="large", activation="relu"),
        layers.Dense(10, name="head", use_bias=False),
    )
    with_moved_biases(model, "large")
    images, labels = colours(200)
    good = np.pad(with_mistakes(labels, 10), [(0, 0), (0, 8)], constant_values=-9)
    guesses = np.random.default_rng(0).normal(size=(200, 10)) - 9 * (np.arange(10) > 1)
    for logits, said in ((good, "suspicious"), (guesses, "fault")):
        case = case_of(model, images, labels, logits)
        assert verdict(case, "untrained_layer", "at_chance", "class_order") == said


@pytest.mark.parametrize(("bias", "said"), [(True, "fault"), (False, "suspicious")])
def test_below_chance_only_what_is_certain_is_untrained(bias, said):
    model = model_of(
        layers.Flatten(),
        layers.Dense(400, name="large", activation="relu"),
        layers.Dense(10, name="inner", activation="relu", use_bias=bias),
        layers.Dense(2, name="head"),
    )
    with_moved_biases(model, "large", "head")
    images, labels = colours(80)
    case = case_of(model, images, labels, with_mistakes(labels, 78))
    report = examined(case, "untrained_layer", "class_order", "at_chance")
    assert finding_of(report, "class_order").verdict == "fault"
    assert finding_of(report, "untrained_layer").verdict == said


def test_a_model_without_drawn_layers_is_not_untrained_at_chance_either():
    images, labels = colours(200)
    guesses = np.random.default_rng(0).normal(size=(200, 2))
    model = model_of(layers.Flatten(), layers.Dense(2, name="head"))
    with_moved_biases(model, "head")
    case = case_of(model, images, labels, guesses)
    assert verdict(case, "untrained_layer", "at_chance", "class_order") == "fine"
    assert case.has_fault("at_chance")


def test_a_model_is_mostly_untrained_by_its_weights():
    model = model_of(
        layers.Flatten(),
        layers.Dense(10, name="large", activation="relu"),
        layers.Dense(20, name="head"),
    )
    for moved, untrained in (((), True), (("head",), True), (("large",), False)):
        case = case_of(with_moved_biases(model, *moved), *colours(40))
        assert case.is_mostly_untrained is untrained


def test_the_picture_shows_an_untrained_layer_beside_a_trained_one():
    model = model_of(
        layers.Flatten(), layers.Dense(10, "relu", name="hidden"), layers.Dense(9, name="head")
    )
    with_moved_biases(model, "hidden")
    report = examined(case_of(model, *colours(40)), *MEASURED_BEFORE)
    figure, _ = untrained_layer.draw(report.case, finding_of(report, "untrained_layer").evidence)
    titles = [axis.get_title() for axis in figure.axes]
    plt.close(figure)
    assert titles == ["head: as initialized", "hidden: trained"]
