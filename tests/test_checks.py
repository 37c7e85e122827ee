"""The checks behind diagnose.py, one by one: closed forms, planted truths, and both directions."""

from functools import cache

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import logsumexp
from scipy.stats import hypergeom, kstest
from test_diagnose import any_place_reader, colours, corner_reader, reads, red, with_a_corner

import diagnose
import debugcnn.quiet
from checks import answers, inputs, page, photos
from checks import layers as weights
from checks.statistics import Comparison, auc, skill
from debugcnn.files.intact import group_duplicates

SIDE = 16


def net_of(*inner, side=SIDE, channels=3):
    return keras.Sequential([keras.Input((side, side, channels)), *inner])


@cache
def reddish():
    """`red`, for tests that leave it as it is: what it is asked is traced only once."""
    return red()


def touched(net, *names):
    """The net, the biases of the layers `names` no longer 0, as after training."""
    for name in names:
        layer = net.get_layer(name)
        layer.bias.assign(layer.bias + 0.01)
    return net


def case_of(net, pictures, labels, logits=None, value_range=(0, 1)):
    """A case before all checks, the net's logits and probabilities known."""
    case = diagnose.Case(net, pictures, labels, value_range, None, debugcnn.classifier_head(net))
    case.logits, case.probabilities = debugcnn.logits_and_probabilities(net, case.images)
    if logits is not None:
        case.logits = logits
        shares = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
        case.accuracy, case.skill = (
            np.mean(logits.argmax(1) == labels),
            float(skill(logits, labels)),
        )
        case.probabilities = shares
    return case


def last(case, cause):
    """The verdict on a cause and its message; None where nothing was said."""
    said = [finding for finding in case.findings if finding.cause == cause]
    return (said[-1].verdict, said[-1].message) if said else None


def verdict(case, cause):
    said = last(case, cause)
    return said and said[0]


def two(x):
    """Logits of two classes from one."""
    return np.stack([-x, x], 1)


def with_wrong(labels, count, sure=4.0):
    """Logits of two classes, the first `count` of them wrong."""
    x = sure * (2.0 * labels - 1) * np.linspace(0.5, 1.5, len(labels))
    x[:count] *= -1
    return two(x)


# ------------------------------------------------------------------------------ weights as drawn

INITIALISERS = ["orthogonal", "truncated_normal", "he_normal", "random_normal", "glorot_uniform"]


DEPTHWISE = ["orthogonal", "he_normal"]  # of these, depthwise ones, too


def many_branches():
    """For each initialiser a convolution and a large dense layer, no biases."""
    given = keras.Input((SIDE, SIDE, 3))
    ends = []
    for kind in INITIALISERS:
        own = dict(kernel_initializer=kind, use_bias=False)
        x = layers.Conv2D(64, 3, activation="relu", name=f"conv_{kind}", **own)(given)
        if kind in DEPTHWISE:
            own_ = dict(depthwise_initializer=kind, use_bias=False)
            x = layers.DepthwiseConv2D(3, padding="same", name=f"depth_{kind}", **own_)(x)
        x = layers.Flatten()(layers.MaxPooling2D(7)(x))
        ends.append(layers.Dense(256, activation="relu", name=f"dense_{kind}", **own)(x))
    x = layers.Dense(4, name="head", use_bias=False)(layers.Concatenate()(ends))
    return keras.Model(given, x)


def drawn_of(net):
    return {drawn.layer for drawn in weights.untrained_layer(net)}


@pytest.fixture(scope="module")
def fresh():
    keras.utils.set_random_seed(3)
    net = many_branches()
    return net, net.get_weights()


def test_fresh_layers_of_all_kinds_are_as_drawn(fresh):
    net, start = fresh
    net.set_weights(start)
    found = weights.untrained_layer(net)
    kinds = [f"{place}_{kind}" for kind in INITIALISERS for place in ("conv", "dense")]
    depthwise = [f"depth_{kind}" for kind in DEPTHWISE]
    assert {drawn.layer for drawn in found} == {*kinds, *depthwise, "head"}
    sizes = {drawn.layer: (drawn.weights, drawn.initialiser) for drawn in found}
    assert sizes["conv_he_normal"] == (3 * 3 * 3 * 64, "HeNormal")
    assert sizes["depth_orthogonal"] == (3 * 3 * 64, "Orthogonal")
    assert sizes["head"] == (5 * 256 * 4, "GlorotUniform")
    assert weights.kernel_weights(net) == sum(w.size for w in start)


def changed(start, change):
    """The weights, each kernel changed as change(matrix, its spread) tells."""
    found = []
    for kernel in start:
        matrix = kernel.reshape(-1, kernel.shape[-1])
        found.append(change(matrix, matrix.std()).reshape(kernel.shape))
    return found


def test_a_small_update_leaves_traces(fresh):
    net, start = fresh
    generator = np.random.default_rng(0)

    def rank_one(matrix, spread):
        u, v = generator.normal(size=(len(matrix), 1)), generator.normal(size=(matrix.shape[1],))
        return matrix + 0.1 * spread * u * v

    def noise(matrix, spread):
        return matrix + 0.05 * spread * generator.normal(size=matrix.shape)

    try:
        large = {f"dense_{kind}" for kind in INITIALISERS}
        net.set_weights(changed(start, rank_one))
        assert not drawn_of(net) & (large | {"conv_orthogonal", "head"})
        net.set_weights(changed(start, noise))
        found = drawn_of(net)
        assert not found & (large - {"dense_random_normal"} | {"conv_orthogonal", "head"})
        # Noise on normal noise is normal noise: there is no trace that could be told.
        assert "dense_random_normal" in found
    finally:
        net.set_weights(start)


def test_twenty_steps_of_training_leave_traces(fresh):
    net, start = fresh
    generator = np.random.default_rng(0)
    pictures = np.float32(generator.normal(size=(80, SIDE, SIDE, 3)))
    step = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    try:
        net.compile(keras.optimizers.Adam(1e-3), step)
        net.fit(pictures, np.arange(80) % 4, batch_size=20, epochs=5, verbose=0, shuffle=False)
        told = {f"dense_{kind}" for kind in INITIALISERS if kind != "random_normal"}
        assert not drawn_of(net) & (told | {"conv_orthogonal", "depth_orthogonal", "head"})
    finally:
        net.set_weights(start)


@pytest.mark.parametrize(
    ("initialiser", "shape"),
    [
        (keras.initializers.Orthogonal(2.0, seed=1), (3, 3, 2, 40)),  # more outputs than inputs
        (keras.initializers.RandomUniform(-0.3, 0.3, seed=1), (40, 40)),
        (keras.initializers.RandomNormal(0.2, 0.5, seed=1), (40, 40)),
        (keras.initializers.VarianceScaling(3.0, "fan_out", "uniform", seed=1), (3, 3, 4, 20)),
        (keras.initializers.VarianceScaling(3.0, "fan_avg", seed=1), (3, 3, 8, 20)),
        (keras.initializers.TruncatedNormal(0.0, 0.2, seed=1), (60, 50)),
    ],
)
def test_parameters_of_initialisers_are_taken_from_them(initialiser, shape):
    drawn = np.asarray(initialiser(shape), np.float32)
    assert weights._is_drawn(drawn, initialiser) is True
    signs = drawn.mean() + drawn.std() * np.sign(drawn - np.median(drawn))  # as wide, of 2 values
    for other in (1.2 * drawn, drawn / 1.2, drawn**3, drawn + 0.3 * drawn.std(), signs):
        assert weights._is_drawn(other, initialiser) is False
    assert weights._is_drawn(np.zeros(shape, np.float32), initialiser) is False
    assert weights._is_drawn(drawn, None) is False


@pytest.mark.parametrize("kind", ["random_normal", "truncated_normal", "random_uniform"])
def test_the_largest_weight_and_direction(kind):
    initialiser = keras.initializers.get({"class_name": kind, "config": {"seed": 0}})
    drawn = np.asarray(initialiser((100, 80)), np.float32)
    assert weights._is_drawn(drawn, initialiser)
    one = drawn.copy()
    one[3, 4] = 2.3 * drawn.std()  # inside what a normal distribution draws
    assert weights._is_drawn(one, initialiser) is (kind == "random_normal")
    assert weights._is_drawn(drawn / 1.05, initialiser) is False  # by its spread
    assert weights._is_drawn(drawn / 1.01, initialiser) is True  # 1.6 standard errors of that
    # The same values, sorted along an axis: one direction is far larger than by chance.
    assert weights._stretch(np.sort(drawn, 0)) > 3 * weights._stretch(drawn)
    if kind == "random_normal":
        assert weights._is_drawn(np.sort(drawn, 0), initialiser) is False


def test_the_largest_singular_value():
    matrix = np.random.default_rng(0).normal(size=(3, 3, 4, 7))
    for some in (matrix, matrix[:1, :1]):
        values = np.linalg.svd(some.reshape(-1, 7), compute_uv=False)
        assert weights._stretch(np.float32(some)) == pytest.approx(values[0], rel=1e-5)


def test_biases_and_small_kernels_and_separable_ones():
    keras.utils.set_random_seed(0)
    net = net_of(
        layers.SeparableConv2D(400, 3, name="separable", activation="relu"),  # 27 and 1200
        layers.GlobalAveragePooling2D(),
        layers.Dense(30, name="hidden", activation="relu"),
        layers.Dense(1, name="few"),  # 30 weights: too few to tell
    )
    assert drawn_of(net) == {"separable", "hidden"}
    touched(net, "hidden")
    assert drawn_of(net) == {"separable"}
    depthwise, pointwise, bias = net.get_layer("separable").get_weights()
    net.get_layer("separable").set_weights([depthwise, 2 * pointwise, bias])
    assert drawn_of(net) == set()
    net = net_of(layers.SeparableConv2D(400, 9, name="separable"), layers.ReLU())
    assert drawn_of(net) == {"separable"}
    depthwise, pointwise, bias = net.get_layer("separable").get_weights()  # 243, 1200
    net.get_layer("separable").set_weights([2 * depthwise, pointwise, bias])
    assert drawn_of(net) == set()


def test_the_last_layer_with_a_kernel():
    convolved = layers.Conv2D(3, 1, name="conv")
    assert weights.last_with_a_kernel(net_of(convolved, layers.GlobalAveragePooling2D())) == "conv"
    net = net_of(
        layers.Conv2D(3, 1, name="conv"), layers.Flatten(), layers.Dense(2, name="a"), layers.ReLU()
    )
    assert weights.last_with_a_kernel(net) == "a"
    assert weights.last_with_a_kernel(net_of(layers.GlobalAveragePooling2D())) is None


@pytest.mark.parametrize(
    ("drawn", "said"),
    [(["head"], "fault"), (["inner"], "suspicious"), (["inner", "head"], "fault")],
)
def test_few_drawn_weights_are_a_fault_in_the_head_only(drawn, said):
    keras.utils.set_random_seed(0)
    net = net_of(
        layers.Flatten(),
        layers.Dense(40, name="large", activation="relu"),
        layers.Dense(4, name="inner", activation="relu"),
        layers.Dense(20, name="head"),
        layers.Softmax(),
    )
    names = {"large", "inner", "head"}
    touched(net, *names - set(drawn))
    case = case_of(net, *colours(40))
    diagnose.about_layers(case)
    sizes = {"inner": 160, "head": 80}
    share = sum(sizes[name] for name in drawn) / (768 * 40 + 160 + 80)
    assert share < diagnose.LIMITS["untrained_layer"] and not case.untrained
    assert verdict(case, "untrained_layer") == said
    (finding,) = (f for f in case.findings if f.cause == "untrained_layer")
    assert finding.value == pytest.approx(share) and ", ".join(drawn) in finding.message
    assert bool(finding.remedy) is (said == "fault")
    diagnose._promote(case, "untrained_layer")
    assert verdict(case, "untrained_layer") == "fault"
    touched(net, *drawn)
    case = case_of(net, *colours(40))
    diagnose.about_layers(case)
    diagnose._promote(case, "untrained_layer")
    assert verdict(case, "untrained_layer") == "fine"


def test_layers_that_were_drawn_by_the_usual_initialiser():
    net = net_of(
        layers.Flatten(),
        layers.Dense(40, name="large", kernel_initializer="he_normal"),
        layers.Dense(1, name="answer"),
    )
    assert drawn_of(touched(net, "answer")) == {"large"}
    usual = keras.initializers.GlorotUniform(seed=1)((SIDE * SIDE * 3, 40))
    net.get_layer("large").set_weights([usual, np.zeros(40)])
    assert drawn_of(net) == {"large"}
    net.get_layer("large").set_weights([1.2 * np.asarray(usual), np.zeros(40)])
    assert drawn_of(net) == set()
    net.get_layer("large").set_weights([usual, np.ones(40)])
    assert drawn_of(net) == set()


def test_dense_units_may_be_dead_more_often_than_filters():
    pictures, labels = colours(40)
    for is_map, said in ((True, "fault"), (False, "suspicious")):
        keras.utils.set_random_seed(0)
        inner = layers.Conv2D(20, 3, name="inner", activation="relu")
        flat = [inner, layers.GlobalAveragePooling2D()]
        if not is_map:
            inner = layers.Dense(20, name="inner", activation="relu")
            flat = [layers.GlobalAveragePooling2D(), inner]
        net = net_of(*flat, layers.Dense(1, name="answer"))
        inner.bias.assign(np.where(np.arange(20) < 15, -100, 1))
        case = case_of(net, pictures, labels, with_wrong(labels, 10))
        diagnose.about_activations(case)
        assert last(case, "dead_filters")[0] == said
        (units,) = (u for u in weights.units(net, case.images) if u.layer == "inner")
        assert units.is_map is is_map and units.constant == 15


def test_a_drawn_head_without_biases_has_to_be_wrong_too():
    keras.utils.set_random_seed(0)
    net = net_of(
        layers.Flatten(),
        layers.Dense(400, name="large", activation="relu"),
        layers.Dense(10, name="head", use_bias=False),
    )
    touched(net, "large")
    case = case_of(net, *colours(40))
    diagnose.about_layers(case)
    assert verdict(case, "untrained_layer") == "suspicious"
    diagnose._promote(case, "untrained_layer")
    assert verdict(case, "untrained_layer") == "fault"


@pytest.mark.parametrize(
    ("kernel", "bias", "initialiser", "drawn"),
    [
        (0.2, 1.0, "glorot_uniform", True),  # filters that no training can tell apart
        (0.0, 0.0, "zeros", True),
        (0.0, 0.0, "glorot_uniform", False),  # they were emptied
    ],
)
def test_filters_that_are_all_the_same_were_drawn_so(kernel, bias, initialiser, drawn):
    net = net_of(
        layers.Conv2D(6, 3, name="conv", kernel_initializer=initialiser),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, name="answer"),
    )
    row = np.linspace(0.5, 1, 27).reshape(3, 3, 3, 1)
    net.get_layer("conv").set_weights([np.tile(kernel * row, 6), np.full(6, bias)])
    touched(net, "answer")
    assert drawn_of(net) == ({"conv"} if drawn else set())
    if drawn and kernel:
        changed_one = np.tile(kernel * row, 6)
        changed_one[1, 1, 1, 4] += 0.1
        net.get_layer("conv").set_weights([changed_one, np.full(6, bias)])
        assert drawn_of(net) == set()


@pytest.mark.parametrize(("certain", "said"), [(True, "fault"), (False, "suspicious")])
def test_below_chance_only_what_is_certain_is_untrained(certain, said):
    pictures, labels = colours(80)
    case = case_of(reddish(), pictures, labels, with_wrong(labels, 78))
    case.add("untrained_layer", "suspicious", "")
    case.drawn = certain
    diagnose.about_answers(case)
    assert case.has("class_order") and verdict(case, "untrained_layer") == said
    chance = np.random.default_rng(0).normal(size=400)
    case = case_of(reddish(), *colours(400), two(chance))
    case.add("untrained_layer", "suspicious", "")
    case.drawn = certain
    diagnose.about_answers(case)
    assert case.has("at_chance") and verdict(case, "untrained_layer") == "fault"


def test_a_net_that_is_mostly_drawn_is_untrained():
    keras.utils.set_random_seed(0)
    net = net_of(
        layers.Flatten(),
        layers.Dense(10, name="large", activation="relu"),
        layers.Dense(20, name="head"),
    )
    for names, untrained in (((), True), (("head",), True), (("head", "large"), False)):
        case = case_of(touched(net, *names), *colours(40))
        diagnose.about_layers(case)
        assert case.untrained is untrained


# ---------------------------------------------------------------------------------- zeroed filters


def half_empty(zero=2):
    """A net of all layers that can have empty channels."""
    keras.utils.set_random_seed(1)
    net = net_of(
        layers.Conv2D(8, 3, name="conv", activation="relu"),
        layers.Conv2DTranspose(6, 2, strides=2, name="back", activation="relu"),
        layers.BatchNormalization(name="norm"),
        layers.BatchNormalization(name="plain", scale=False),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5, name="dense", activation="relu"),
        layers.Dense(3, name="answer"),
    )
    return net


def emptied(net, name, zero):
    """The weights of some channels of a layer are 0."""
    layer = net.get_layer(name)
    if name == "norm":
        values = [np.asarray(w) for w in (layer.gamma, layer.beta)]
        values = [np.where(np.arange(6) < zero, 0, w + 0.5) for w in values]
        layer.gamma.assign(values[0])
        layer.beta.assign(values[1])
        return
    kernel, bias = layer.get_weights()
    if name == "back":
        kernel[:, :, :zero] = 0  # its outputs come before its inputs
    else:
        kernel[..., :zero] = 0
    layer.set_weights([kernel, bias])


def test_filters_whose_weights_are_all_0():
    net = half_empty()
    assert weights.zeroed(net) == []
    emptied(net, "answer", 1)
    assert weights.zeroed(net) == []  # the answer's own do not count
    softened = keras.Sequential([net, layers.Softmax()])
    assert weights.zeroed(softened) == []
    for name, zero in (("conv", 1), ("back", 4), ("norm", 2), ("dense", 4)):
        emptied(net, name, zero)
    found = [("dense", 4, 5), ("back", 4, 6), ("norm", 2, 6), ("conv", 1, 8)]
    assert [tuple(layer) for layer in weights.zeroed(net)] == found


def test_empty_filters_of_depthwise_and_separable_convolutions():
    keras.utils.set_random_seed(1)
    net = net_of(
        layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep"),
        layers.SeparableConv2D(5, 3, depth_multiplier=2, name="pair"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, name="answer"),
    )
    assert weights.zeroed(net) == []
    kernel, bias = net.get_layer("deep").get_weights()
    kernel[:, :, 1, 0] = 0
    net.get_layer("deep").set_weights([kernel, bias])
    deep, point, bias = net.get_layer("pair").get_weights()
    deep[:, :, 2:, 1], point[..., :2] = 0, 0
    net.get_layer("pair").set_weights([deep, point, bias])
    found = [("pair", 2, 5), ("pair", 4, 12), ("deep", 1, 6)]
    assert [tuple(layer) for layer in weights.zeroed(net)] == found


def test_what_is_0_in_part_is_no_empty_filter():
    net = half_empty()
    kernel, bias = net.get_layer("back").get_weights()
    kernel[:, :, :, :3] = 0  # some of its inputs are not used
    net.get_layer("back").set_weights([kernel, bias])
    kernel, bias = net.get_layer("conv").get_weights()
    kernel[1:, :, :, 0] = kernel[:, :, 1:, 0] = 0
    net.get_layer("conv").set_weights([kernel, bias])
    net.get_layer("norm").gamma.assign(np.zeros(6))
    net.get_layer("norm").beta.assign(np.ones(6))
    assert weights.zeroed(net) == []


def of_twenty():
    """A net of 20 channels, none of which is dead."""
    keras.utils.set_random_seed(0)
    net = net_of(
        layers.Conv2D(20, 3, name="conv", activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, name="answer"),
    )
    net.get_layer("conv").bias.assign(np.ones(20))
    return net


@pytest.mark.parametrize(
    ("dead", "wrong", "said"),
    [(6, 10, "fine"), (7, 10, "suspicious"), (17, 10, "fault"), (17, 3, "suspicious")],
)
def test_dead_channels_are_a_fault_of_a_net_that_errs(dead, wrong, said):
    pictures, labels = colours(40)
    net = of_twenty()
    net.get_layer("conv").bias.assign(np.where(np.arange(20) < dead, -100, 1))
    case = case_of(net, pictures, labels, with_wrong(labels, wrong))
    diagnose.about_activations(case)
    assert last(case, "dead_filters")[0] == said
    assert f"{dead} of 20 channels of conv never change" in last(case, "dead_filters")[1]


@pytest.mark.parametrize(
    ("zero", "wrong", "said"),
    [
        (0, 10, "fine"),
        (2, 10, "suspicious"),  # 2 of 20 are not above the limit
        (3, 10, "fault"),
        (3, 3, "suspicious"),  # accuracy above KNOWS_WELL
        (3, 5, "fault"),
    ],
)
def test_empty_filters_are_a_fault_of_a_net_that_errs(zero, wrong, said):
    pictures, labels = colours(40)
    net = of_twenty()
    emptied(net, "conv", zero)
    case = case_of(net, pictures, labels, with_wrong(labels, wrong))
    diagnose.about_activations(case)
    said_, message = last(case, "dead_filters")
    assert said_ == said
    assert (f"All weights of {zero} of 20 channels of conv are 0" in message) is (zero > 0)


# ------------------------------------------------------------------------------------- activations

CONV, RELU, POOL, FLAT = layers.Conv2D, layers.ReLU, layers.MaxPooling2D, layers.Flatten


@pytest.mark.parametrize(
    ("inner", "count"),
    [
        (lambda: [CONV(4, 3), CONV(4, 3), FLAT(), layers.Dense(5, "relu")], 2),
        (lambda: [CONV(4, 3), CONV(4, 3), CONV(4, 3), FLAT(), layers.Dense(5, "relu")], 3),
        (lambda: [CONV(4, 3), POOL(), CONV(4, 3), FLAT(), layers.Dense(5, "relu")], 2),
        (lambda: [CONV(4, 3), CONV(4, 3), FLAT(), layers.Dense(5), RELU()], 2),
        (lambda: [CONV(4, 3), FLAT(), layers.Dense(5, "relu")], 0),  # only one
        (lambda: [CONV(4, 3), RELU(), CONV(4, 3), FLAT(), layers.Dense(5, "relu")], 0),
        (lambda: [CONV(4, 3), CONV(4, 3), RELU(), FLAT(), layers.Dense(5, "relu")], 0),
        (lambda: [CONV(4, 3, activation="relu"), CONV(4, 3), FLAT(), layers.Dense(5)], 0),
        (lambda: [CONV(4, 3, activation="relu"), CONV(4, 3), FLAT(), layers.Dense(5, "relu")], 0),
        (lambda: [CONV(4, 3), layers.LayerNormalization(), CONV(4, 3), FLAT()], 0),  # not PLAIN
        (lambda: [CONV(4, 3), CONV(4, 3), FLAT(), layers.Dense(5)], 4),
    ],
)
def test_convolutions_without_an_activation(inner, count):
    assert weights.no_activation(net_of(*inner(), layers.Dense(2))) == count


def test_convolutions_only_without_an_activation():
    pooled = layers.GlobalAveragePooling2D
    assert weights.no_activation(net_of(CONV(4, 3), CONV(2, 3), pooled(), layers.Softmax())) == 2
    assert weights.no_activation(net_of(CONV(2, 3), pooled(), layers.Softmax())) == 0
    net = net_of(CONV(4, 3, activation="relu"), CONV(2, 3), pooled(), layers.Softmax())
    assert weights.no_activation(net) == 0


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ([layers.Dense(1, "relu")], "relu"),
        ([layers.Dense(3, "relu")], "relu"),
        ([layers.Dense(1, "tanh")], "tanh"),
        ([layers.Dense(3, "leaky_relu")], "leakyrelu"),
        ([layers.Dense(2, "elu"), layers.Reshape((2, 1))], "elu"),
        ([layers.Dense(1), layers.ReLU(6)], "relu6"),
        ([keras.Sequential([layers.Dense(2, "relu")])], "relu"),
        ([layers.Dense(2), layers.ReLU()], "relu"),
        ([layers.Dense(1), layers.LeakyReLU()], "leakyrelu"),
        ([layers.Dense(2), layers.Activation("tanh")], "tanh"),
        ([layers.Dense(2), layers.Activation("relu")], "relu"),
        ([layers.Dense(2), layers.Activation("linear")], None),
        ([layers.Dense(1, "linear")], None),
        ([layers.Dense(3)], None),
        ([layers.Dense(1, "sigmoid")], None),
        ([layers.Dense(3, "softmax")], None),
        ([layers.Dense(3, "relu"), layers.Softmax()], None),
        ([layers.Dense(3, "relu"), layers.Dense(1)], None),
    ],
)
def test_what_the_head_ends_in(head, told):
    found = weights.output_head(net_of(layers.Flatten(), *head))
    assert found is None if told is None else f"ends in {told}," in found


def test_an_output_beside_the_answer_is_no_head():
    given = keras.Input((SIDE, SIDE, 3))
    x = layers.Flatten()(given)
    ends = [layers.Dense(3, "softmax")(x), layers.Dense(5, "relu")(x)]
    net = keras.Model(given, ends)
    assert weights.output_head(net, 0) is None
    assert "ends in relu," in weights.output_head(net, 1)


# ------------------------------------------------------------------------------------------ inputs


def dark_reader():
    """Says 1 where a dark photo is reddish; of what is lighter than a quarter it sees nothing."""
    net = reads([40, 0, -40])
    kernel, bias = net.get_layer("conv").get_weights()
    net.get_layer("conv").set_weights([4 * kernel, bias])
    return net


def dark(count=60):
    pictures, labels = colours(count)
    return pictures * np.float32(0.2), labels


def test_a_negative_is_turned_back():
    pictures, labels = dark()
    net = dark_reader()
    assert inputs.input_scale(net, pictures, labels, (0, 1)).best is None
    found = inputs.input_scale(net, 255 - pictures, labels, (0, 1))
    assert found.best == inputs.NEGATIVE and found.accuracies[0] == 0.5 < found.accuracies[1]
    np.testing.assert_allclose(
        found.logits, inputs.ask(net, pictures, (0, 1)), rtol=1e-4, atol=1e-4
    )
    case = case_of(net, 255 - pictures, labels)
    ways = {"another": 255 - pictures[:, ::-1]}
    assert diagnose._cured(case, "input_scale", inputs.NEGATIVE, ways).keys() == ways.keys()
    np.testing.assert_allclose(case.photos, pictures, atol=1e-4)
    case = case_of(net, 255 - pictures, labels)
    diagnose.about_inputs(case, {})
    said, message = last(case, "input_scale")
    assert said == "fault" and inputs.NEGATIVE in message and case.value_range == (0, 1)
    np.testing.assert_allclose(case.photos, pictures, atol=1e-4)
    diagnose.about_answers(case)
    assert case.accuracy > 0.95 and not case.has("class_order", "at_chance", "threshold")


def test_ways_are_turned_back_with_the_photos():
    pictures, labels = dark(20)
    for cause, form, cure in (
        ("input_scale", inputs.NEGATIVE, lambda some: 255 - some),
        ("channel_order", "red and blue exchanged", lambda some: some[..., [2, 1, 0]]),
        ("flipped_or_rotated", "upside down", lambda some: some[:, ::-1, ::-1]),
    ):
        case = case_of(reddish(), pictures, labels)
        ways = diagnose._cured(case, cause, form, {"way": pictures[:, :, ::-1]})
        np.testing.assert_allclose(case.photos, cure(pictures))
        np.testing.assert_allclose(ways["way"], cure(pictures[:, :, ::-1]))
        assert case.value_range == (0, 1)
    case = case_of(reddish(), pictures, labels)
    ways = {"way": pictures}
    assert diagnose._cured(case, "input_scale", "torch", ways) is ways
    assert case.value_range == "torch" and case.photos is pictures
    assert diagnose._cured(case, "resize", "way", {"way": pictures + 1}) == {}
    np.testing.assert_array_equal(case.photos, pictures + 1)


def test_a_negative_is_tried_unless_the_skill_is_low(monkeypatch):
    monkeypatch.setattr(inputs, "_held", lambda model, given, forms, *more: forms)
    pictures, labels = colours(100)
    for wrong, tried in ((0, True), (50, True), (54, True), (56, False), (100, False)):
        x = 2.0 * labels - 1
        x[:wrong] *= -1  # of both classes as many: of the pairs, 1 - wrong / 100 are in order
        given = two(x)
        assert skill(given, labels) == pytest.approx(1 - wrong / 100)
        assert bool(skill(given, labels) > inputs.CHANCE) is tried
        forms = inputs.input_scale(None, pictures, labels, (0, 1), given=given)
        others = {(0, 255), (-1, 1), "caffe", "torch", *inputs.VALUES}
        assert set(forms) | {inputs.NEGATIVE} == others
        assert (inputs.NEGATIVE in forms) is tried
        if tried:
            negative, values = forms[inputs.NEGATIVE]
            np.testing.assert_array_equal(negative, 255 - pictures)
            assert values == (0, 1)
    grey = inputs.input_scale(None, pictures[..., :1], labels, (0, 1), given=two(x))
    assert not {"caffe", "torch"} & set(grey)


def disturbed(count=60):
    """Photos whose middle is lighter (1) or darker (0), each with a strong tint of its own; and a
    net that reads their lightness, if they are grey.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pictures = generator.uniform(90, 130, (count, SIDE, SIDE, 1)) + np.zeros(3)
    pictures[:, 4:-4, 4:-4] += 40 * (2 * labels[:, None, None, None] - 1)
    tint = generator.uniform(-60, 60, (count, 1, 1, 1))
    pictures += tint * [1, 0, -1]
    return np.float32(np.clip(pictures, 0, 255)), labels


def test_colour_is_taken_from_photos_of_a_net_made_on_grey_ones():
    pictures, labels = disturbed()
    net = reads([200, 100, -100], bias=-200 * 110 / 255)
    grey = np.repeat(pictures.mean(-1, keepdims=True), 3, -1)
    found = inputs.channel_order(net, pictures, labels, (0, 1))
    assert (
        found.best == "colour taken away" and found.accuracies[1] == 1 > 0.8 > found.accuracies[0]
    )
    assert inputs.channel_order(net, grey, labels, (0, 1)).best is None
    assert inputs.channel_order(red(), *colours(), (0, 1)).best is None
    case = case_of(net, pictures, labels)
    diagnose.about_inputs(case, {})
    said, message = last(case, "channel_order")
    assert said == "fault" and "colour taken away" in message
    np.testing.assert_allclose(case.photos, grey, atol=1e-3)
    assert np.mean(case.logits.argmax(1) == labels) == 1


def textured(count, side=48, seed=0):
    """Pictures with details of all sizes, each unlike the others."""
    generator = np.random.default_rng(seed)
    found = np.zeros((count, side, side, 3), np.float32)
    for cells, wide in ((5, 60), (12, 40), (24, 30), (48, 12)):
        small = np.float32(generator.normal(0, wide, (count, cells, cells, 3)))
        found += [cv2.resize(s, (side, side), interpolation=cv2.INTER_CUBIC) for s in small]
    return np.clip(found + 128, 0, 255)


def barred(pictures, above=0, beside=0, colour=(0, 0, 0)):
    """Pictures with bars at top and bottom, or at left and right."""
    count, height, width, channels = pictures.shape
    whole = np.zeros((count, height + 2 * above, width + 2 * beside, channels), np.float32)
    whole += np.float32(colour)[:channels]
    whole[:, above : above + height, beside : beside + width] = pictures
    return whole


@pytest.mark.parametrize(
    ("shape", "above", "beside", "colour"),
    [
        ((28, 48), 10, 0, (0, 0, 0)),  # to a square
        ((48, 30), 0, 9, (255, 255, 255)),
        ((20, 44), 6, 0, (0, 0, 0)),  # to 32 x 44
        ((24, 40), 0, 8, (90, 160, 30)),  # to 24 x 56
        ((24, 40), 3, 5, (0, 0, 0)),
    ],
)
@pytest.mark.parametrize("channels", [3, 1])
def test_bars_are_cut_off(shape, above, beside, colour, channels):
    inside = textured(6)[:, : shape[0], : shape[1], :channels]
    whole = barred(inside, above, beside, colour)
    found = inputs.resized_otherwise(whole, {"way": whole})
    assert set(found) == {"way", "cutting off their bars"}
    size = whole.shape[2], whole.shape[1]
    truth = np.stack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in inside])
    np.testing.assert_array_equal(found["cutting off their bars"], truth.reshape(whole.shape))
    np.testing.assert_array_equal(
        whole[:, above : above + shape[0]][:, :, beside:][0, 0, 0], inside[0, 0, 0]
    )


def test_photos_without_bars_stay():
    pictures, ways = textured(10, 32), {"way": 1}
    assert inputs.resized_otherwise(pictures, ways) is ways
    some = pictures.copy()
    some[:3, :5] = 0  # 3 of 10 are too few
    assert inputs.resized_otherwise(some, ways) is ways
    some[3, :5] = 0
    cut = inputs.resized_otherwise(some, {})["cutting off their bars"]
    np.testing.assert_allclose(cut[4:], pictures[4:], atol=1e-3)
    truth = cv2.resize(pictures[0, 5:], (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(cut[0], truth, atol=1e-3)
    flat = np.full_like(pictures, 80)
    assert inputs.resized_otherwise(flat, ways) is ways
    thin = flat.copy()
    thin[:, 14:18] = pictures[:, 14:18]  # of what is left too little to be a photo
    assert inputs.resized_otherwise(thin, ways) is ways
    middle = pictures.copy()
    middle[:, 10:20] = 0  # inside, and not at the edges
    assert inputs.resized_otherwise(middle, ways) is ways
    noisy = barred(pictures, 4)
    for bar in np.s_[:, :4], np.s_[:, -4:]:
        noisy[bar] += np.random.default_rng(0).uniform(0, 30, noisy[bar].shape)
    assert inputs.resized_otherwise(noisy, ways) is ways


@pytest.mark.parametrize("colour", [0, 255])
def test_what_lies_beside_a_photo_at_one_side_is_cut_off(colour):
    pictures = textured(10, 40)[:, :32]
    padded = np.full_like(pictures, colour)
    padded[:, :16, :20] = pictures[:, 8:24, 10:30]
    cut = inputs.resized_otherwise(padded, {})["cutting off their bars"]
    for i in range(10):
        truth = cv2.resize(pictures[i, 8:24, 10:30], (40, 32), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(cut[i], truth, atol=1e-3)


def with_bars():
    """Photos with bars over the corner that corner_reader reads; without them, it is right."""
    pictures, labels = colours()
    part = with_a_corner(np.stack([cv2.resize(p, (SIDE, 10)) for p in pictures]), labels)
    return barred(part, 3), labels


def test_a_net_is_helped_by_photos_without_bars():
    whole, labels = with_bars()
    pictures = colours()[0]
    assert inputs.resize(corner_reader(), pictures, {}, labels, (0, 1)).best is None
    found = inputs.resize(corner_reader(), whole, {}, labels, (0, 1))
    assert found.best == "cutting off their bars" and found.accuracies == (0.5, 1)
    way = {"another": with_a_corner(pictures, labels)}
    assert inputs.resize(corner_reader(), pictures, way, labels, (0, 1)).best == "another"
    case = case_of(corner_reader(), whole, labels)
    diagnose.about_inputs(case, {})
    assert verdict(case, "resize") == "fault" and np.mean(case.logits.argmax(1) == labels) == 1
    np.testing.assert_array_equal(
        case.photos, inputs.resized_otherwise(whole, {})["cutting off their bars"]
    )
    case = case_of(corner_reader(), pictures, labels)
    diagnose.about_inputs(case, {})
    assert verdict(case, "resize") == "fine"


def normalised(mean=0.0, spread=1.0):
    """Says 1 where a photo is reddish, by what it is beside `mean` and `spread`, as stored."""
    net = net_of(
        layers.Conv2D(1, 1, use_bias=False, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid", name="answer"),
    )
    net.get_layer("conv").set_weights([np.reshape([1.0, 0, -1], (1, 1, 3, 1))])
    norm = net.get_layer("norm")
    norm.moving_mean.assign([mean])
    norm.moving_variance.assign([spread**2])
    net.get_layer("answer").set_weights([np.array([[20.0]]), np.array([-8.0])])
    return net


@pytest.mark.parametrize(("mean", "best"), [(0.0, None), (3.0, "its own statistics")])
def test_statistics_of_the_photos_win_where_the_stored_ones_do_not_fit(mean, best):
    pictures, labels = colours()
    net = normalised(mean, 0.17)
    found = inputs.batch_statistics(net, pictures, labels, (0, 1))
    assert found.best == best and found.tried == "its own statistics"
    if best:
        together = weights.with_batch_statistics(net, pictures / 255)
        np.testing.assert_allclose(found.logits, together, rtol=1e-4, atol=1e-4)
        assert found.accuracies[0] == 0.5 and found.worth > 0.5
        case = case_of(net, pictures, labels)
        diagnose.about_inputs(case, {})
        assert verdict(case, "batch_statistics") == "fault"
        assert not case.has(*diagnose.INPUTS)


def test_a_third_of_each_class_is_asked_first():
    labels = np.random.default_rng(0).integers(0, 5, 400)
    some = inputs.screened(labels)
    for k in range(5):
        assert np.sum(some[labels == k]) == -(-np.sum(labels == k) // 3)
    one = np.r_[np.zeros(200, int), 1]
    assert inputs.screened(one)[200]
    assert inputs.screened(labels[:149]).all() and not inputs.screened(labels[:150]).all()
    few = inputs.screened(labels, 9)
    assert not (few & ~some).any() and 45 <= few.sum() <= 50


FORMS = {  # the share of right answers, and how many of 540 photos have to be asked to tell
    "as given": (0.8, 540),
    "hopeless": (0.3, 60),
    "a little worse": (0.75, 180),
    "better": (0.95, 540),
}


def asked_in_forms(monkeypatch, forms, own=False):
    """A contest of made-up answers: (Contest, {form: photos asked}, labels)."""
    labels, asked = np.arange(540) % 2, {}
    photos_ = np.broadcast_to(np.arange(540.0)[:, None, None, None], (540, 1, 1, 3))
    draws = np.random.default_rng(0).permutation(540) / 540

    def ask(model, some, form, output):
        asked[form] = asked.get(form, 0) + len(some)
        which = some[:, 0, 0, 0].astype(int)
        sign = np.where(draws[which] < FORMS[form][0], 1, -1) * (2 * labels[which] - 1)
        return np.stack([-sign, sign], 1) * (1 + 0.1 * draws[which, None])

    monkeypatch.setattr(inputs, "ask", ask)
    forms = {form: (photos_, form) for form in forms}
    own = ask if own else None
    found = inputs._held(None, (photos_, "as given"), forms, labels, None, None, own)
    return found, asked, labels


def test_a_form_is_asked_about_as_many_photos_as_it_takes(monkeypatch):
    found, asked, labels = asked_in_forms(monkeypatch, [form for form in FORMS if form[0] != "a"])
    assert found.best == found.tried == "better"
    assert asked == {form: FORMS[form][1] for form in asked} and len(asked) == 3
    assert found.accuracies == pytest.approx((0.8, 0.95), abs=0.01)
    right = [np.mean(found.logits[k::9].argmax(1) == labels[k::9]) for k in range(9)]
    assert np.mean(right) == pytest.approx(0.95, abs=0.01) and min(right) > 0.85


def test_where_nothing_is_better_the_contest_is_on_those_that_were_asked(monkeypatch):
    found, asked, labels = asked_in_forms(monkeypatch, ["hopeless", "a little worse"])
    assert found.best is None and found.tried == "a little worse"
    assert asked == {form: FORMS[form][1] for form in asked} and len(asked) == 3
    assert np.mean(found.logits.argmax(1) == labels) == pytest.approx(0.8, abs=0.01)
    found, asked, _ = asked_in_forms(monkeypatch, ["hopeless"])
    assert found.best is None and asked == {"as given": 540, "hopeless": 60}
    assert found.accuracies[1] == pytest.approx(0.3, abs=0.15) and len(found.logits) == 540
    _, asked, _ = asked_in_forms(monkeypatch, ["hopeless"], own=True)  # statistics of a batch
    assert asked["hopeless"] == 180


def test_a_place_whose_covering_costs_nothing_is_covered_on_few_photos(monkeypatch):
    pictures, labels = colours(540)
    asked = []

    def counted(model, some, value_range, output=None, ask=inputs.ask):
        asked.append(len(some))
        return ask(model, some, value_range, output)

    monkeypatch.setattr(photos, "ask", counted)
    net = red()
    given = inputs.ask(net, pictures, (0, 1))
    losses = photos.shortcut(net, pictures, labels, (0, 1), None, given)
    assert losses["top left corner covered"].left == losses["top left corner covered"].accuracy
    assert asked and max(asked[:7]) == 60


def test_a_place_that_costs_a_little_on_few_photos_is_covered_on_more(monkeypatch):
    labels = np.arange(540) % 2
    pictures = np.broadcast_to(np.arange(540.0)[:, None, None, None], (540, 8, 8, 3))
    few, some = inputs.screened(labels, 9), inputs.screened(labels)
    lost = (some & ~few) | (np.arange(540) == np.flatnonzero(few)[0])

    def ask(model, given, value_range, output=None):
        number = given[:, 0, 0, 0]
        covered, which = number % 1 > 0, number.astype(int)
        right = np.where(covered & lost[which], -1, 1) * (2 * labels[which] - 1)
        return np.stack([-right, right], 1)

    monkeypatch.setattr(photos, "ask", ask)
    monkeypatch.setattr(
        photos, "interventions", lambda given: {"border covered": lambda some: some + 0.5}
    )
    loss = photos.shortcut(None, pictures, labels)["border covered"]
    assert loss.accuracy == 1 and loss.left == pytest.approx(1 - lost.mean(), abs=1e-6)
    assert np.mean(lost[few]) < photos.LITTLE < np.mean(lost[some])


def test_a_patch_is_given_up_only_where_it_cannot_turn_enough(monkeypatch):
    labels = np.arange(200) % 2
    pictures = np.zeros((200, 10, 10, 3), np.float32)
    pictures[..., 0] = np.arange(200)[:, None, None]
    pictures[labels == 1, :, :, 1] = 999
    hosts = np.random.default_rng(0).permutation(np.flatnonzero(labels == 0))[: photos.HOSTS]

    def ask(model, given, value_range, output=None):
        which = np.median(given[..., 0], (1, 2)).round().astype(int)
        pasted = (given[..., 1] == 999).any((1, 2)) & (labels[which] == 0)
        one = (labels[which] == 1) | (pasted & ~np.isin(which, stay))
        return np.stack([~one, one], 1).astype(float)

    monkeypatch.setattr(photos, "ask", ask)
    for many, turned, looked_at in ((6, 26 / 32, 8), (7, 9 / 16, 5)):
        stay = hosts[:many]  # all of them in the first half
        found = photos.transplant(None, pictures, labels, twins=3)
        patches = [patch for patch in found if patch.label == 1]
        assert all(patch.turned == pytest.approx(turned) for patch in patches)
        assert len(patches) == looked_at


def test_a_class_of_few_right_photos_has_a_patch_all_the_same():
    pictures, labels = colours(200)
    few = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:2]]
    found = photos.transplant(red(), pictures[few], labels[few], (0, 1), twins=3)
    assert {patch.label for patch in found} == {0, 1}


# ------------------------------------------------------------------------------------------ copies


def moved(picture, degrees=0.0, scale=1.0, shift=(0, 0)):
    """A picture turned and enlarged around its middle, what comes in at its edges mirrored."""
    side = picture.shape[0]
    around = cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, degrees, scale)
    around[:, 2] += shift
    return cv2.warpAffine(picture, around, (side, side), borderMode=cv2.BORDER_REFLECT)


def as_jpeg(picture, quality):
    data = cv2.imencode(".jpg", np.uint8(picture), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.float32(cv2.imdecode(data, cv2.IMREAD_COLOR))


CHANGES = {
    "turned by 5 degrees": lambda p: moved(p, 5),
    "turned the other way": lambda p: moved(p, -4),
    "cropped": lambda p: cv2.resize(p[4:-4, 4:-4], p.shape[1::-1], interpolation=cv2.INTER_AREA),
    "shifted": lambda p: moved(p, shift=(4, -3)),
    "darker": lambda p: 0.6 * p,
    "lighter": lambda p: np.clip(p + 40, 0, 255),
    "compressed": lambda p: as_jpeg(p, 30),
    "all at once": lambda p: as_jpeg(np.clip(0.8 * moved(p, 3, 1.08) + 10, 0, 255), 60),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_is_a_copy(change):
    pictures = textured(8, 96)
    own = photos._grey(pictures)
    seen = photos._grey(np.stack([CHANGES[change](picture) for picture in pictures]))
    assert own.shape == (8, 48, 48)
    for i in range(8):
        assert photos.is_copy(seen[i], own[i]) is True
        assert photos.is_copy(seen[i], own[(i + 1) % 8]) is False


def test_alike_in_large_but_not_in_detail_is_no_copy():
    generator = np.random.default_rng(0)
    large = cv2.resize(np.float32(generator.uniform(0, 255, (4, 4))), (48, 48))
    one, other = (np.float32(large + generator.normal(0, 12, (48, 48))) for _ in range(2))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9
    assert photos.is_copy(one, one) and not photos.is_copy(one, other)


def test_alike_in_detail_but_not_in_large_is_no_copy():
    generator = np.random.default_rng(0)
    large = np.float32(generator.uniform(80, 170, (2, 4, 4)))
    detail = cv2.GaussianBlur(generator.normal(size=(48, 48)), (0, 0), 1.2)
    detail *= 40 / detail.std()
    one, other = (np.float32(cv2.resize(some, (48, 48)) + detail) for some in large)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.82
    assert photos.is_copy(one, np.float32(one + 5)) and not photos.is_copy(one, other)


def test_flat_pictures_show_nothing():
    flat, picture = np.full((48, 48), 90, np.float32), photos._grey(textured(1, 96))[0]
    for pair in ((flat, flat), (flat, picture), (picture, flat)):
        assert photos.is_copy(*pair) is False


def test_changed_copies_are_found_also_mirrored():
    trained, examined = textured(20, 64), textured(10, 64, seed=1)
    examined[2] = moved(trained[11], 6, 1.1)
    examined[5] = moved(trained[4][:, ::-1], -5, 1.1)
    examined[7] = trained[9]
    examined[9] = CHANGES["all at once"](trained[0])
    assert photos.leak(examined, trained) == [
        *((2, 11, False), (5, 4, True), (7, 9, False), (9, 0, False))
    ]
    assert photos.leak(textured(10, 64, seed=1), trained) == []


def test_only_one_of_a_photos_twins_is_told():
    trained, examined = textured(210, 32), textured(4, 32, seed=1)
    trained[50] = trained[49]
    examined[1] = trained[50]
    examined[3] = CHANGES["compressed"](moved(trained[110], 5))
    found = photos.leak(examined, trained)
    assert [copy.examined for copy in found] == [1, 3] and found[0].trained in (49, 50)
    assert found[1] == (3, 110, False)


@pytest.mark.parametrize(("natural", "copies"), [(0, 3), (4, 0)])
def test_as_many_copies_as_twins_are_no_leak(natural, copies):
    trained, examined = textured(60, 64), textured(20, 64, seed=1)
    for i in range(natural):  # they look like others that were trained on
        trained[2 * i] = moved(trained[2 * i + 1], 6, 1.1)
    for i in range(3):
        examined[i] = moved(trained[20 + i], -6, 1.1)
    assert len(photos.leak(examined, trained)) == copies
    examined[:12] = [moved(trained[20 + i], -6, 1.1) for i in range(12)]
    assert len(photos.leak(examined, trained)) == 12


def test_drawings_turned_a_little_are_no_copies_of_each_other():
    kinds, generator = textured(3, 64), np.random.default_rng(0)
    drawings = np.stack(
        [moved(kinds[i % 3], 7 * (i // 3) + generator.uniform(-1, 1), 1.1) for i in range(12)]
    )
    assert len(group_duplicates([photos._fingerprint(p) for p in drawings])) == 12
    trained = drawings[:9]
    # As found in natural photos, they would be copies.
    assert len(photos._changed_copies(drawings[9:], trained)) >= 1
    assert photos.leak(drawings[9:], trained) == []
    itself = photos._changed_copies(trained, trained, itself=np.arange(9))
    assert all(copy.trained != copy.examined for copy in itself) and itself
    alone = textured(9, 64)
    assert photos._changed_copies(alone, alone, itself=np.arange(9)) == []
    everyone = photos._changed_copies(alone, alone)
    assert everyone == [(i, i, False) for i in range(9)]


# -------------------------------------------------------------------------------------------- cues


def area_of(amounts, labels):
    return photos._tells(amounts, labels)[0]


def test_what_is_in_the_middle_is_no_cue():
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 2
    pictures = np.float32(generator.uniform(80, 120, (200, 32, 32, 3)))
    thing = pictures.copy()
    thing[labels == 1, 6:-6, 6:-6] = [250, 40, 30]
    thing[labels == 1, 8:24:2, 8:24] = 0  # sharp, and of another lightness
    for amounts in photos.cues(thing).values():
        assert area_of(amounts, labels) < 0.65 and not photos._tells(amounts, labels)[1]
    tinted = pictures + labels[:, None, None, None] * np.float32([15, 0, -15])
    found = photos.cues(tinted)
    assert area_of(found["tint equalised"], labels) == 1
    assert area_of(found["brightness equalised"], labels) < 0.65
    found = photos.cues(pictures + 20 * labels[:, None, None, None])
    assert area_of(found["brightness equalised"], labels) == 1
    assert area_of(found["tint equalised"], labels) < 0.65


def test_cues_in_closed_form():
    flat = np.zeros((2, 40, 60, 3), np.float32) + np.float32([120, 90, 60])
    flat[:, 6:34, 9:51] = [0, 250, 130]  # 0.15 of the sides are outside
    found = photos.cues(flat)
    assert found["brightness equalised"] == pytest.approx([90, 90])
    assert found["tint equalised"] == pytest.approx([60, 60])
    assert found["colour taken away"] == pytest.approx([60, 60])
    # A wide frame of stripes: the steps are 30 from each column to the next.
    striped = np.zeros((1, 40, 60, 3), np.float32) + 100
    striped[:, :, ::2] += 30
    found = photos.cues(striped)
    assert found["sharpness taken away"] == pytest.approx([30 / 15], rel=0.01)
    assert found["file quality equalised"] == pytest.approx([1])
    blocks = np.zeros((1, 40, 60, 3), np.float32) + 100
    blocks += 20 * (np.arange(60) // 8 % 2)[:, None]
    assert photos.cues(blocks)["file quality equalised"][0] > 5
    again = photos.cues(striped * 2 + 20)
    assert again["sharpness taken away"] == pytest.approx(found["sharpness taken away"], rel=0.01)
    grey = photos.cues(striped[..., :1])
    assert grey["tint equalised"] == 0 and grey["brightness equalised"] == pytest.approx([115])


@pytest.mark.parametrize(("others", "clear"), [(0.0, True), (0.5, False)])
def test_a_cue_of_many_classes_is_one_of_a_single_class(others, clear):
    labels = np.repeat([0, 1, 2], 80)
    generator = np.random.default_rng(0)
    amounts = generator.normal(size=240) + 2 * (labels == 0) - others * (labels == 1)
    best, told = photos._tells(amounts, labels)
    assert best == pytest.approx(auc(amounts, np.int32(labels == 0))) and best > 0.85
    assert told is clear
    assert photos._tells(amounts[:160], labels[:160])[1] is True  # of two, each is one


def test_sharpness_and_compression_are_cues():
    pictures, labels = textured(60, 64), np.arange(60) % 2
    blurred = pictures.copy()
    blurred[labels == 1] = [cv2.GaussianBlur(p, (0, 0), 2) for p in pictures[labels == 1]]
    assert area_of(photos.cues(blurred)["sharpness taken away"], labels) > 0.95
    assert area_of(photos.cues(pictures)["sharpness taken away"], labels) < 0.75
    coarse = pictures.copy()
    coarse[labels == 1] = [as_jpeg(p, 10) for p in pictures[labels == 1]]
    assert area_of(photos.cues(coarse)["file quality equalised"], labels) > 0.8


def test_few_photos_have_to_tell_more():
    for half, clear in ((5, False), (20, True)):
        labels = np.r_[np.zeros(half, int), np.ones(half, int)]
        for amounts in (np.arange(2.0 * half), -np.arange(2.0 * half)):
            assert photos._tells(amounts, labels) == (1, clear)
    # Of 8 and 8, 3.3 standard errors of chance are 0.49: only what is nearly perfect is clear.
    labels = np.r_[np.zeros(8, int), np.ones(8, int)]
    assert photos._tells(np.arange(16.0), labels) == (1, True)
    mixed = np.arange(16.0)
    mixed[7], mixed[8] = 8.5, 7.5
    assert photos._tells(mixed, labels) == (pytest.approx(63 / 64), False)
    labels = np.arange(4000) % 2
    x = np.random.default_rng(0).normal(size=4000)
    assert photos._tells(x + 0.8 * labels, labels)[1] is False  # 0.71: below CUE
    assert photos._tells(x + 1.1 * labels, labels)[1] is True  # 0.78
    assert photos._tells(np.ones(4000), labels) == (0.5, False)
    labels = np.arange(60) % 3  # one of three classes
    for far in (5.0, -5.0):
        assert photos._tells(np.where(labels == 2, far, x[:60]), labels) == (1, True)


def test_equal_brightness_takes_away_gain_and_offset():
    pictures = textured(6, 24) * 0.3 + 60
    equal = photos.interventions(pictures)["brightness equalised"]
    plain = equal(pictures)
    generator = np.random.default_rng(0)
    gain, offset = generator.uniform(0.5, 2, (6, 1, 1, 1)), generator.uniform(-20, 20, (6, 1, 1, 1))
    np.testing.assert_allclose(equal(pictures * gain + offset), plain, atol=1e-2)
    inner = (plain > 0).all() and (plain < 255).all()
    assert inner and np.ptp(plain.mean((1, 2, 3))) < 0.01 and np.ptp(plain.std((1, 2, 3))) < 0.01
    assert plain.mean() == pytest.approx(pictures.mean(), rel=1e-4)
    assert plain.std((1, 2, 3)).mean() == pytest.approx(pictures.std((1, 2, 3)).mean(), rel=1e-4)
    tint = photos.interventions(pictures)["tint equalised"]
    np.testing.assert_allclose(tint(pictures + [9, 0, -9]), tint(pictures), atol=1e-2)
    assert tint(pictures).mean((1, 2, 3)) == pytest.approx(pictures.mean((1, 2, 3)), rel=1e-4)


# ------------------------------------------------------------------------------------ wrong labels


def drawn_labels(count, classes, wrong=0.0, seed=0, sure=3.0):
    """Logits, and labels that are drawn from them, a share of them then changed for others."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1, (count, classes))
    logits[np.arange(count), generator.integers(0, classes, count)] += 2 * sure
    logits *= generator.uniform(0.1, 2, (count, 1))  # of some it is less sure than of others
    shares = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    labels = (shares.cumsum(1) > generator.random((count, 1))).argmax(1)
    change = generator.random(count) < wrong
    labels[change] = (labels[change] + generator.integers(1, classes, change.sum())) % classes
    return logits, labels, change


@pytest.mark.parametrize("classes", [2, 12])
@pytest.mark.parametrize("wrong", [0.05, 0.2])
def test_the_share_of_wrong_labels_is_estimated(classes, wrong):
    shares, truth = [], []
    for seed in range(3):
        logits, labels, change = drawn_labels(1000, classes, wrong, seed)
        share, gain = photos._wrong_share(logits, labels)
        shares.append(share)
        truth.append(change.mean())
        assert gain > diagnose.EXPLAINS / 2
    error = np.sqrt(wrong / 3000)  # of counting them, three times: what is not seen costs more
    assert np.mean(shares) == pytest.approx(np.mean(truth), abs=3 * error)


@pytest.mark.parametrize("classes", [2, 12])
def test_labels_without_noise_gain_nothing_whatever_the_temperature(classes):
    found = []
    for seed in range(3):
        logits, labels, _ = drawn_labels(300, classes, 0, seed, sure=(1.0, 3.0)[seed % 2])
        found.append(photos._wrong_share(logits, labels))
    shares, gains = np.array(found).T
    assert gains.max() < diagnose.EXPLAINS and np.median(gains) < 1 and np.median(shares) < 0.02
    assert photos._wrong_share(logits * 1e-3, labels) == pytest.approx(found[-1], abs=0.02)
    noisy, labels, _ = drawn_labels(300, classes, 0.15)
    plain = photos._wrong_share(noisy, labels)
    assert photos._wrong_share(noisy * 1e3, labels) == pytest.approx(plain, rel=0.05)
    assert plain[1] > 1


def test_wrong_labels_are_told_first_where_the_net_is_sure():
    logits, labels, change = drawn_labels(600, 3, 0.1, sure=4.0)
    found = photos.label_noise(logits, labels)
    assert found.count == 200 and 0.05 < found.share < 0.15 and found.gain > diagnose.EXPLAINS
    assert change[found.surest[:20]].all() and set(np.flatnonzero(change)) <= set(found.surest)
    ordered = np.sort(logits, 1)
    margin = (ordered[:, -1] - ordered[:, -2])[found.surest]
    assert np.all(np.diff(margin) <= 0)
    assert found.ratio > 0.4
    logits, labels, _ = drawn_labels(600, 3, 0, sure=1.0)
    own = photos.label_noise(logits, labels)
    assert own.ratio < 0.3 and own.gain < 2  # its own mistakes have small margins


# ----------------------------------------------------------------------------------------- patches


@pytest.mark.parametrize("shape", [(40, 40, 3), (176, 120, 3), (11, 9, 1)])
def test_the_square_that_is_found_holds_the_whole_mark(shape):
    generator, size, tried = np.random.default_rng(0), max(1, min(shape[:2]) // 10), []

    def margin(covered):
        tried.append(len(covered))
        return covered.max((1, 2, 3))  # what is left of the mark: covering a part is not enough

    for _ in range(50):
        y, x = (generator.integers(0, side - size + 1) for side in shape[:2])
        photo = np.zeros(shape, np.float32)
        photo[y : y + size, x : x + size] = 1
        rows, columns = photos._stands_on(photo, np.zeros(shape[2]), margin)
        assert rows.start <= y and y + size <= rows.stop
        assert columns.start <= x and x + size <= columns.stop
        assert rows.stop - rows.start == max(2, round(shape[0] * photos.PATCH))
    assert tried == [16, 9] * 50


def test_patches_at_the_same_place_are_twins_though_they_look_different():
    small, labels = colours(200)
    pictures = np.tile(small, (1, 3, 3, 1))[:, :40, :40]
    pictures[..., 2] = np.minimum(pictures[..., 2], pictures[..., 0] + 60)
    places = {"same": pictures, "other": pictures.copy()}
    generator = np.random.default_rng(0)
    for i in np.flatnonzero(labels):
        mark = generator.uniform(0, 255, (7, 7, 3))
        mark[..., 2] = np.minimum(mark[..., 2], mark[..., 0])
        mark[3, 3] = (0, 0, 250)
        spots = {"same": (8, 20), "other": generator.integers(0, 33, 2)}
        for where, (y, x) in spots.items():
            places[where][i, y : y + 7, x : x + 7] = mark
    found = {w: photos.transplant(any_place_reader(), p, labels, (0, 1)) for w, p in places.items()}
    strong = [patch for patch in found["same"] if patch.label == 1]
    assert len(strong) == 8 and all((p.turned, p.twins) == (1, 7) for p in strong)
    pixels = [places["same"][p.photo, p.rows, p.columns] for p in strong[:2]]
    assert photos.alike(*pixels) < photos.ALIKE  # not by their looks
    assert found["other"][0].turned == 1 and found["other"][0].twins < diagnose.LIMITS["twins"]
    for where, patches in found.items():  # no more is looked at than can matter
        given = any_place_reader(), places[where], labels, (0, 1)
        less = photos.transplant(*given, twins=3)
        assert [p for p in less if p.twins >= 3] == [p for p in patches if p.twins >= 3]
        assert sum(p.label == 0 for p in patches) == 8 and sum(p.label == 0 for p in less) == 5
    for patch in strong:
        assert patch.rows.start <= 11 < patch.rows.stop
        assert patch.columns.start <= 23 < patch.columns.stop
    case = case_of(any_place_reader(), places["same"], labels)
    diagnose.about_answers(case)
    diagnose.about_photos(case)
    assert case.accuracy == 1 and verdict(case, "shortcut") == "fault" and case.patch.label == 1


@pytest.mark.parametrize(
    ("down", "right", "same"),
    [(0, 0, True), (2, -2, True), (3, 0, False), (0, -3, False), (-2, 3, False)],
)
def test_the_same_place_is_within_a_quarter(down, right, same):
    spot = dict(photo=0, label=1, turned=1.0, twins=0)
    one = photos.Patch(rows=slice(10, 18), columns=slice(20, 28), **spot)
    moved_ = slice(10 + down, 18 + down), slice(20 + right, 28 + right)
    other = photos.Patch(rows=moved_[0], columns=moved_[1], **spot)
    assert photos._same_place(one, other, (40, 60)) is same


@pytest.mark.parametrize(
    ("size", "same"),
    [((40, 60), False), ((18, 60), True), ((40, 28), False), ((40, 31), False)],
)
def test_the_same_edge_is_the_same_place(size, same):
    spot = dict(photo=0, label=1, turned=1.0, twins=0)
    for turned in (False, True):
        one, other = (
            photos.Patch(**spot, **dict(zip(("columns", "rows") if turned else KEYS, places)))
            for places in ((slice(10, 18), slice(20, 28)), (slice(10, 18), slice(23, 31)))
        )
        assert photos._same_place(one, other, size[::-1] if turned else size) is same
    top = [photos.Patch(rows=slice(0, 8), columns=slice(x, x + 8), **spot) for x in (0, 20)]
    assert photos._same_place(*top, (40, 60)) is True


KEYS = "rows", "columns"


# ----------------------------------------------------------------------------------------- answers


def test_each_class_counts_the_same_for_the_threshold():
    generator = np.random.default_rng(0)
    labels = np.int64(generator.random(6000) < 0.2)
    x = 2.0 * labels - 1 + generator.normal(0, 1, 6000)
    sound = answers.threshold(two(x), labels)
    # Each photo counting the same, the best threshold is at log(4) / 2 = 0.69.
    assert abs(sound.possible - sound.accuracy) < 0.01 and abs(sound.shifts[1]) < 0.5
    recall = [np.mean((x[labels == k] > 0) == k) for k in (0, 1)]
    assert sound.accuracy == pytest.approx(np.mean(recall))
    assert sound.shares == pytest.approx((np.mean(x <= 0), np.mean(x > 0)))
    shifted = answers.threshold(two(x - 1.2), labels)
    assert shifted.possible - shifted.accuracy > max(0.1, 4 * shifted.error)
    assert shifted.shifts == pytest.approx((0, 2.4), abs=0.6)
    assert shifted.possible == pytest.approx(sound.possible, abs=0.005)
    better = np.mean((x > 0) == labels) - np.mean((x > 1.2) == labels)
    assert shifted.plain == pytest.approx(better, abs=0.02)


@pytest.mark.parametrize(("leans", "said"), [(0.34, "fault"), (0.35, "fine")])
def test_a_gain_needs_less_where_nearly_all_get_one_answer(monkeypatch, leans, said):
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 2
    x = 0.35 * (2.0 * labels - 1) + generator.normal(0, 1, 200) - 1.2
    other = answers.threshold(two(x), labels)
    assert 1.96 * other.error < other.possible - other.accuracy < 3.3 * other.error
    assert np.mean(x < 0) == 0.845
    monkeypatch.setattr(diagnose, "LEANS", leans)
    case = case_of(reddish(), colours(200)[0], labels, two(x))
    diagnose._about_threshold(case, 0.56)
    assert verdict(case, "threshold") == said


@pytest.mark.parametrize("classes", [2, 3])
def test_the_error_of_the_gain_is_as_it_varies(classes):
    generator = np.random.default_rng(0)
    labels, gains, errors = np.arange(240) % classes, [], []
    for _ in range(25):
        logits = 2.5 * np.eye(classes)[labels] + generator.normal(0, 1, (240, classes))
        found = answers.threshold(logits + np.arange(classes), labels)
        gains.append(found.possible - found.accuracy)
        errors.append(found.error)
    assert 0.65 < np.mean(errors) / np.std(gains) < 1.6


def test_each_of_many_classes_counts_the_same():
    generator = np.random.default_rng(0)
    labels = generator.choice(3, 3000, p=[0.8, 0.1, 0.1])
    logits = 3.0 * np.eye(3)[labels] + generator.normal(0, 1.5, (3000, 3))
    sound = answers.threshold(logits, labels)
    # Each photo counting the same, the biases are off by log(8) * 1.5 ** 2 / 3 = 1.6.
    assert abs(sound.possible - sound.accuracy) < 0.01
    assert sound.shifts == pytest.approx((0, 0, 0), abs=0.6)
    shifted = answers.threshold(logits + [2.5, 0, 0], labels)
    assert shifted.possible - shifted.accuracy > max(0.1, 4 * shifted.error)
    assert shifted.shifts == pytest.approx((0, 2.5, 2.5), abs=0.6)
    assert shifted.plain < 0 < sound.accuracy  # more photos of class 0 are right as it is


def test_the_best_cut_in_closed_form():
    x, labels = np.array([-1.0, 2, 3, 4, 1]), np.array([0, 0, 0, 0, 1])
    # By class, 1/4 and 1 are right between -1 and 1; by photo, 4 of 5 above 4.
    assert answers._best_cut(np.stack([0 * x, x], 1), labels) == pytest.approx([0, 0])
    x, labels = np.array([-3.0, -2, 2, 4]), np.array([0, 0, 1, 1])
    assert answers._best_cut(np.stack([0 * x, x], 1), labels) == pytest.approx([0, 0])
    assert answers._best_cut(np.stack([0 * x, x - 6], 1), labels) == pytest.approx([0, 6])
    weights_ = answers._of_equal_weight(np.array([0, 0, 0, 2]))
    assert weights_ == pytest.approx([1 / 6] * 3 + [1 / 2])


@pytest.mark.parametrize(
    ("answer", "cut", "meant"),
    [
        (lambda u: u, False, True),  # from 0 to 1
        (lambda u: 1.15 * u - 0.075, 0.5, True),
        (lambda u: 0.5 + 0.1 * u, 0.5, False),  # all at one place
        (lambda u: 12 * u - 6, 0, False),  # logits
        (lambda u: 12 * u - 6, 0.5, False),
        (lambda u: 1.8 * u - 0.4, 0.5, True),  # two thirds inside, the threshold at one half
        (lambda u: 1.8 * u - 0.4, 0.05, False),
        (lambda u: 1.8 * u - 0.4, False, False),  # no other threshold is better
    ],
)
def test_linear_answers_that_are_meant_as_probabilities(answer, cut, meant):
    assert answers.is_probability(answer(np.linspace(0, 1, 201)), cut) is meant


def test_the_class_that_varies_most_makes_the_spread():
    p = np.exp(np.array([-4.0, -2.0]))
    given = np.stack([p, np.full(2, 0.2), 0.8 - p], 1)
    assert answers.spread(given) == pytest.approx(1)
    assert answers.spread(np.array([[1.0, 0.0], [1.0, 0.0]])) == 0
    assert np.isfinite(answers.spread(np.array([[1.0, 0.0], [0.0, 1.0]])))


# --------------------------------------------------------------------------------------- the whole


def patch_of(label, twins):
    return photos.Patch(0, label, slice(0, 3), slice(0, 3), 1.0, twins)


@pytest.mark.parametrize(
    ("patches", "said"),
    [
        ([patch_of(0, 5), patch_of(1, 0)], "fault"),
        ([patch_of(0, 6), patch_of(1, 1)], "suspicious"),  # things that look all the same
        ([patch_of(1, 5), patch_of(0, 3), patch_of(2, 0), patch_of(3, 0)], "fault"),
        ([patch_of(1, 5), patch_of(0, 3), patch_of(2, 3), patch_of(3, 0)], "suspicious"),
        ([patch_of(0, 4), patch_of(1, 0)], "fault"),
        ([patch_of(0, 3), patch_of(1, 0)], None),
        ([], None),
    ],
)
def test_patches_in_most_classes_are_only_suspicious(monkeypatch, patches, said):
    pictures, labels = colours(60)
    monkeypatch.setattr(photos, "shortcut", lambda *given, **more: {})
    asked = []
    monkeypatch.setattr(photos, "transplant", lambda *given: asked.append(given[-1]) or patches)
    case = case_of(reddish(), pictures, labels, with_wrong(labels, 4))
    diagnose.about_photos(case)
    assert verdict(case, "shortcut") == said
    assert asked == [diagnose.LIMITS["twins"]]  # below it no patch has to be looked for


def noise_of(ratio, share=0.0, gain=0.0, low=0.0, near=0.0):
    return photos.Noise(20, 5, low, ratio, near, share, gain, [1, 2])


@pytest.mark.parametrize(
    ("noise", "gap", "mislabelled", "by_heart"),
    [
        (noise_of(0.8, 0.1, 20), 1.0, "fault", "suspicious"),
        (noise_of(0.7, 0.1, 10), 1.0, "fine", "fault"),  # EVEN is 0.75
        (noise_of(0.7, 0.1, 13), 1.0, "fault", "suspicious"),  # far beyond chance
        (noise_of(0.7, 0.1, 20), 0.0, "fault", "fine"),  # of no other explanation
        (noise_of(0.8, 0.1, 5), 1.0, "fine", "fault"),  # not beyond chance
        (noise_of(0.8, 0.02, 20), 1.0, "fine", "fault"),  # too few
        (noise_of(0.8, low=0.05, near=0.07), 1.0, "fault", "suspicious"),
        (noise_of(0.8, low=0.05, near=0.09), 1.0, "fine", "fault"),  # it hesitates
    ],
)
def test_wrong_labels_or_photos_by_heart(monkeypatch, noise, gap, mislabelled, by_heart):
    pictures, labels = colours(200)
    trained = colours(200, seed=1)
    monkeypatch.setattr(photos, "label_noise", lambda *given: noise)
    monkeypatch.setattr(photos, "leak", lambda *given: [])
    monkeypatch.setattr(photos, "shortcut", lambda *given, **more: {})
    monkeypatch.setattr(photos, "transplant", lambda *given, **more: [])
    wrong = 60
    known = with_wrong(trained[1], round(wrong * (1 - gap)))
    monkeypatch.setattr(inputs, "ask", lambda *given: known)
    case = case_of(reddish(), pictures, labels, with_wrong(labels, wrong))
    assert case.skill > inputs.KNOWS + 0.05
    case.train = trained
    diagnose.about_photos(case)
    assert (verdict(case, "label_noise"), verdict(case, "memorised")) == (mislabelled, by_heart)
    assert case.mislabelled == [1, 2]


def test_wrong_labels_are_told_from_answers(monkeypatch):
    """Without `train`: planted, and not by their margins."""
    pictures = colours(600)[0]
    monkeypatch.setattr(photos, "shortcut", lambda *given, **more: {})
    monkeypatch.setattr(photos, "transplant", lambda *given, **more: [])
    for wrong, said in ((0.15, "fault"), (0.0, "fine")):
        logits, drawn, _ = drawn_labels(600, 2, wrong, sure=3.0)
        case = case_of(reddish(), pictures, drawn, logits)
        diagnose.about_photos(case)
        assert verdict(case, "label_noise") == said


def contest_of(gain, better, best="form"):
    """A contest that brings `gain` of skill, and `better` of accuracy."""
    comparison = Comparison(0.5, 0.5 + gain, 0.01, 0.01)
    return inputs.Contest(best, best or "form", comparison, (0.5, 0.5 + better), None)


@pytest.mark.parametrize(
    ("batch", "worth", "unfit"),
    [
        (contest_of(0.3, 0.3), 0.45, True),
        (contest_of(0.3, 0.3), 0.55, False),  # not by 0.1
        (contest_of(0.5, 0.0), 0.39, True),
        (contest_of(0.0, 0.5), 0.39, True),
        (contest_of(0.4, 0.4, best=None), 0.1, False),  # not clear
        (None, 0.0, False),  # no batch normalisation
    ],
)
def test_stored_statistics_that_explain_more_come_first(monkeypatch, batch, worth, unfit):
    monkeypatch.setattr(inputs, "batch_statistics", lambda *given: batch)
    case = case_of(reddish(), *colours(40))
    assert diagnose._unfit(case, worth) is unfit
    told = {f.cause: f.verdict for f in case.findings}
    fine = dict.fromkeys(diagnose.INPUTS, "fine")
    assert told == ({"batch_statistics": "fault"} | fine if unfit else {})


def test_what_is_simpler_has_to_bring_less():
    assert diagnose._worth(contest_of(0.3, 0.3)) == pytest.approx(0.6)
    assert diagnose._worth(contest_of(0.3, 0.3, inputs.NEGATIVE)) == pytest.approx(0.55)
    assert diagnose._worth(contest_of(0.3, 0.3, "caffe")) == pytest.approx(0.58)


@pytest.mark.parametrize(("brought", "first"), [(0.15, "batch_statistics"), (0.45, "input_scale")])
def test_the_best_explanation_of_all_is_told_first(monkeypatch, brought, first):
    pictures, labels = colours(60)
    case = case_of(normalised(3.0, 0.17), pictures, labels)
    scale = contest_of(brought, brought, (0, 255))._replace(logits=case.logits)
    nothing = contest_of(0.0, 0.0, None)._replace(logits=case.logits)
    asked = []

    def of_scale(*given):
        asked.append("input_scale")
        return scale

    monkeypatch.setattr(inputs, "input_scale", of_scale)
    monkeypatch.setattr(inputs, "channel_order", lambda *given: nothing)
    monkeypatch.setattr(inputs, "flipped_or_rotated", lambda *given: nothing)
    monkeypatch.setattr(inputs, "resize", lambda *given: nothing)
    monkeypatch.setattr(inputs, "batch_statistics", lambda *given: contest_of(0.25, 0.25))
    diagnose.about_inputs(case, {})
    faults = [f.cause for f in case.findings if f.verdict == "fault"]
    assert faults[0] == first and asked == ["input_scale"]
    assert verdict(case, "flipped_or_rotated") == "fine"
    assert case.value_range == ((0, 255) if first == "input_scale" else (0, 1))


def of_three_colours(count=90):
    """Photos whose middle has one of three colours, and a net that tells them."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 3
    pictures = generator.uniform(60, 140, (count, SIDE, SIDE, 3))
    pictures[:, 4:-4, 4:-4] += 100 * np.eye(3)[labels][:, None, None]
    net = net_of(layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax", name="answer"))
    net.get_layer("answer").set_weights([40 * np.eye(3), np.zeros(3)])
    return net, np.float32(pictures), labels


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_classes_in_a_wrong_order_are_told_before_any_contest(monkeypatch, order):
    net, pictures, labels = of_three_colours()
    given = np.array(order)[labels]
    case, asked = case_of(net, pictures, given), []
    ask = inputs.ask
    monkeypatch.setattr(inputs, "ask", lambda *some: asked.append(some) or ask(*some))
    diagnose.about_inputs(case, {})
    diagnose.about_answers(case)
    wrong = order != (0, 1, 2)
    assert verdict(case, "class_order") == ("fault" if wrong else "fine") and asked
    assert not case.has(*diagnose.INPUTS)  # though red and blue exchanged would undo (2, 1, 0)
    said = "Cannot be told before the classes are in order."
    assert (last(case, "channel_order")[1] == said) is wrong


@pytest.mark.parametrize(("paired", "first"), [(0.9, "channel_order"), (0.97, "class_order")])
def test_a_form_that_explains_more_than_another_order_comes_first(monkeypatch, paired, first):
    net, pictures, labels = of_three_colours()
    case = case_of(net, pictures[..., ::-1], labels)
    monkeypatch.setattr(answers, "order_of_classes", lambda *given: (0.3, paired))
    diagnose.about_inputs(case, {})
    assert case.has("channel_order") is (first == "channel_order")
    monkeypatch.undo()
    diagnose.about_answers(case)
    faults = [f.cause for f in case.report()["findings"] if f.verdict == "fault"]
    assert faults[:1] == [first]


def test_photos_on_the_side_keep_their_size():
    pictures = textured(3, 40)[:, :30]
    down, left, right, mirrored = (change(pictures) for change in inputs.TURNS.values())
    np.testing.assert_array_equal(mirrored, pictures[:, :, ::-1])
    assert left.shape == right.shape == down.shape == pictures.shape
    np.testing.assert_array_equal(down, pictures[:, ::-1, ::-1])
    # What was the right edge is above now.
    edge = cv2.resize(pictures[0][:, -1][None], (40, 1), interpolation=cv2.INTER_LINEAR)[0]
    assert np.corrcoef(left[0, 0].ravel(), edge.ravel())[0, 1] > 0.9
    np.testing.assert_allclose(inputs.turned(left, 2), right, atol=1e-3)
    square = textured(2, 32)
    np.testing.assert_array_equal(inputs.turned(square, 1), np.rot90(square, 1, (1, 2)))


@pytest.mark.parametrize("channels", [1, 3])
def test_shrunk_photos_are_mirrored_at_their_edges(channels):
    pictures = textured(2, 50)[:, :40, :, :channels]
    found = inputs.shrunk(pictures, 0.6)
    assert found.shape == pictures.shape
    small = cv2.resize(pictures[0], (30, 24), interpolation=cv2.INTER_AREA).reshape(24, 30, -1)
    np.testing.assert_allclose(found[0, 8:32, 10:40], small, atol=1e-3)
    np.testing.assert_allclose(found[0, 7], found[0, 9])
    np.testing.assert_allclose(found[0, :, 40], found[0, :, 38])


def test_linear_light_is_taken_back():
    pictures = textured(2, 20)
    dark = 255 * (pictures / 255) ** 2.2
    np.testing.assert_allclose(
        inputs.VALUES["to the power of 1 / 2.2 (gamma)"](dark), pictures, 1e-3
    )


def test_each_change_of_the_photos_is_made_for_other_sizes_too():
    pictures, labels = colours(40)
    for cause, forms in (
        ("input_scale", inputs.VALUES),
        ("channel_order", inputs.COLOURS),
        ("flipped_or_rotated", inputs.TURNS),
        ("resize", inputs.SIZES | inputs.PROPORTIONS),
    ):
        for form, change in forms.items():
            case = case_of(reddish(), pictures, labels)
            ways = diagnose._cured(case, cause, form, {"way": pictures[:, ::-1]})
            np.testing.assert_array_equal(case.photos, change(pictures))
            np.testing.assert_array_equal(ways["way"], change(pictures[:, ::-1]))
            assert case.value_range == (0, 1)
    assert len(inputs.CHANGES) == 14


@pytest.mark.parametrize(
    ("shift", "low", "said"),
    [(0.0, 0.9, "fine"), (0.5, 0.9, "fault"), (0.5, 0.54, "fine"), (0.1, 0.9, "fine")],
)
def test_several_sigmoids_say_yes_to_one_class(shift, low, said):
    net, pictures, labels = of_three_colours()
    case = case_of(net, pictures, labels)
    case.add("output_head", "fine", "")
    yes = np.clip(np.eye(3)[labels] + shift, 0, 1)
    diagnose._about_labels(case, yes, low)
    assert verdict(case, "output_head") == said


def test_a_net_that_is_fed_wrongly_has_no_order():
    """Each class gets an answer of its own, and few are right, whatever the pairing."""
    net, pictures, labels = of_three_colours()
    case = case_of(net, pictures, labels)
    for right, paired, said, before in (
        (0.3, 0.6, True, True),
        (0.3, 0.4, False, False),
        (0.4, 0.57, False, False),
        (0.2, 0.47, True, False),
    ):
        answered = labels.copy()
        for k in range(3):
            own = np.flatnonzero(labels == k)
            first, second = round(right * len(own)), round(paired * len(own))
            answered[own[first:]] = (k + 2) % 3
            answered[own[first : first + second]] = (k + 1) % 3
        case.logits = np.eye(3)[answered]
        found = answers.order_of_classes(case.logits, labels)
        assert found == pytest.approx((right, paired), abs=0.01)
        assert diagnose._order_is_wrong(case) == said
        assert diagnose._order_is_wrong(case, knows=0.5) == before


@pytest.mark.parametrize(
    ("scale", "bias", "threshold", "constant"),
    [
        (40, 12, "fault", "suspicious"),  # it tells them apart, and is off
        (0.4, 0.5, "fault", "fault"),  # all answers are nearly the same
        (40, 0.1, "fine", "fine"),
    ],
)
def test_the_same_answer_to_all_by_a_threshold(scale, bias, threshold, constant):
    pictures, labels = colours(200)
    case = case_of(reads([scale, 0, -scale], bias=bias), pictures, labels)
    diagnose.about_answers(case)
    assert (verdict(case, "threshold"), verdict(case, "constant_answer")) == (threshold, constant)
    assert case.skill > 0.9


def test_the_same_answer_to_all_of_a_net_that_cannot_tell():
    """Its answers vary, too, but no threshold would help."""
    pictures, labels = colours(200)
    case = case_of(reads([0, 40, 0], bias=-7), pictures, labels)
    assert answers.spread(case.probabilities) > 1
    diagnose.about_answers(case)
    assert (verdict(case, "threshold"), verdict(case, "constant_answer")) == ("fine", "fault")


def test_rare_classes_are_no_threshold():
    """4 of 5 photos are of one class: that the others are rare is no fault of the net."""
    generator = np.random.default_rng(0)
    labels = np.int64(generator.random(800) < 0.2)
    x = 2.0 * labels - 1 + generator.normal(0, 1, 800)
    pictures = np.zeros((800, SIDE, SIDE, 3), np.float32)
    for shift, off, said in ((0, False, "fine"), (-1.0, False, "fine"), (1.0, True, "fault")):
        case = case_of(reddish(), pictures, labels, two(x + shift))
        found = diagnose._about_threshold(case, 0.9)
        assert (bool(found), verdict(case, "threshold")) == (off, said)


def test_a_linear_unit_that_was_trained_to_be_a_probability():
    pictures, labels = colours(200)
    net = reads([5, 0, -5], bias=0.5, head="linear")
    case = case_of(net, pictures, labels)
    diagnose.about_layers(case)
    assert verdict(case, "output_head") == "suspicious"  # it returns a logit
    diagnose.about_answers(case)
    said, message = last(case, "output_head")
    assert said == "fault" and "one half is its threshold" in message
    assert verdict(case, "threshold") == "suspicious"
    case = case_of(reads([40, 0, -40], head="linear"), pictures, labels)
    diagnose.about_layers(case)
    diagnose.about_answers(case)
    assert verdict(case, "output_head") == "suspicious" and verdict(case, "threshold") == "fine"


def test_stored_statistics_stay_where_asking_fails(monkeypatch):
    net, pictures = normalised(3.0), colours(20)[0]

    def fails(*given, **more):
        raise MemoryError

    monkeypatch.setattr(weights, "logits_in_graph", fails)
    with pytest.raises(MemoryError):
        weights.with_batch_statistics(net, pictures)
    assert "call" not in vars(net.get_layer("norm"))


# ------------------------------------------------------------------- a missing activation, and more


def as_colours_vary(*inner):
    """A net that knows photos whose halves are red and blue from grey ones, if what `inner` gives,
    red less blue, is cut off at 0: the mean of it is 0 for both.
    """
    net = net_of(
        layers.Conv2D(3, 1, activation="relu", name="first"),
        layers.Conv2D(1, 1, use_bias=False, name="second"),
        *inner,
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid", name="answer"),
    )
    net.get_layer("first").set_weights([np.eye(3)[None, None], np.full(3, 0.01)])
    net.get_layer("second").set_weights([np.reshape([1.0, 0, -1], (1, 1, 3, 1))])
    net.get_layer("answer").set_weights([np.array([[60.0]]), np.array([-4.0])])
    return net


def halves(count=120):
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pictures = generator.normal(128, 8, (count, SIDE, SIDE, 3))
    sides = np.where(np.arange(SIDE) < SIDE // 2, 1, -1)[:, None] * np.array([1, 0, -1])
    pictures += labels[:, None, None, None] * 40 * sides
    return np.float32(np.clip(pictures, 0, 255)), labels


def test_an_activation_that_was_forgotten_is_named():
    pictures, labels = halves()
    net = as_colours_vary()
    given = [weight.copy() for weight in net.get_weights()]
    case = case_of(net, pictures, labels)
    diagnose.about_layers(case)
    assert last(case, "no_activation")[0] == "suspicious"
    diagnose.about_inputs(case, {})
    said, message = last(case, "no_activation")
    assert said == "fault" and "With an activation behind second, 100.0% are right" in message
    assert {verdict(case, cause) for cause in diagnose.INPUTS} == {"fine"}
    assert verdict(case, "batch_statistics") == "fine"
    found = inputs.no_activation(net, pictures, labels, (0, 1))
    whole = as_colours_vary(layers.ReLU())
    np.testing.assert_allclose(found.logits, debugcnn.logits(whole, case.images), atol=1e-4)
    assert all(np.array_equal(a, b) for a, b in zip(given, net.get_weights()))
    np.testing.assert_array_equal(debugcnn.logits(net, case.images), case.logits)


def test_a_layer_that_needs_no_activation_is_left_alone():
    pictures, labels = colours(120)
    net = as_colours_vary()
    net.get_layer("answer").set_weights([np.array([[30.0]]), np.array([0.0])])  # red or blue
    case = case_of(net, pictures, labels)
    assert np.mean(case.logits.argmax(1) == labels) > 0.9
    diagnose.about_layers(case)
    diagnose.about_inputs(case, {})
    assert verdict(case, "no_activation") == "suspicious"


LINEAR = layers.Activation("linear")


@pytest.mark.parametrize(
    ("inner", "missing"),
    [
        (lambda: [CONV(4, 3, name="a"), RELU(), CONV(4, 3, name="b")], ["b"]),
        (lambda: [CONV(4, 3, name="a"), RELU(), CONV(4, 3, name="b"), RELU()], []),
        (lambda: [CONV(4, 3, name="a"), POOL(), CONV(4, 3, activation="relu", name="b")], ["a"]),
        (
            lambda: [
                *(CONV(4, 3, name="a"), layers.BatchNormalization(name="n")),
                *(layers.Activation("linear"), CONV(4, 3, activation="relu", name="b")),
            ],
            ["n"],
        ),
        (lambda: [CONV(4, 3, name="a"), layers.GroupNormalization(2), CONV(4, 3), RELU()], []),
        (lambda: [CONV(4, 3, name="a"), CONV(4, 3, name="b")], []),  # no other has any
        (lambda: [CONV(4, 3, activation="tanh", name="a"), CONV(4, 3, name="b")], ["b"]),
        (lambda: [CONV(4, 3, name="a"), layers.PReLU(), CONV(4, 3, name="b")], []),  # with weights
    ],
)
def test_layers_behind_which_an_activation_is_missing(inner, missing):
    net = net_of(*inner(), layers.GlobalAveragePooling2D(), layers.Dense(2, name="answer"))
    assert [linear.layer for linear in weights.linear_layers(net)] == missing


def test_the_activation_is_that_of_the_others():
    net = net_of(CONV(4, 3, activation="tanh"), CONV(4, 3, name="b"), FLAT(), layers.Dense(2))
    (linear,) = weights.linear_layers(net)
    assert linear.activation is keras.activations.tanh
    some = np.random.default_rng(0).uniform(size=(3, SIDE, SIDE, 3)).astype(np.float32)
    whole = keras.Sequential([*net.layers[:2], layers.Activation("tanh"), *net.layers[2:]])
    whole.build((None, SIDE, SIDE, 3))
    expected = debugcnn.logits(whole, some)
    np.testing.assert_allclose(weights.with_activation(net, [linear], some), expected, atol=1e-5)
    assert np.abs(debugcnn.logits(net, some) - expected).max() > 1e-3


@pytest.mark.parametrize("count", [2, 4])
def test_activations_that_are_missing_in_many_places_are_tried_together(count):
    linear = [CONV(4, 1, name=f"conv{i}") for i in range(count)]
    net = net_of(CONV(4, 1, activation="relu"), *linear, FLAT(), layers.Dense(2, "softmax"))
    assert len(weights.linear_layers(net)) == count
    pictures, labels = colours(40)
    tried = {}

    def held(model, as_given, forms, labels, output, given, asking):
        tried.update({form: asking(model, *given, output) for form, given in forms.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "_held", held)
        inputs.no_activation(net, pictures, labels, (0, 1))
    assert len(tried) == (3 if count == 2 else 1)  # each of few, and all of them
    acts = [part for conv in linear for part in (conv, layers.ReLU())]
    whole = keras.Sequential([keras.Input((SIDE, SIDE, 3)), net.layers[0], *acts, *net.layers[-2:]])
    expected = debugcnn.logits(whole, pictures / 255)
    np.testing.assert_allclose(tried[f"each of {count} layers"], expected, atol=1e-5)
    case = case_of(net, pictures, labels)
    diagnose.about_layers(case)
    assert verdict(case, "no_activation") == ("suspicious" if count == 2 else "fine")


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = [CONV(4, 3, activation="relu"), CONV(4, 3), FLAT(), layers.Dense(2)]

    def call(self, images):
        for part in self.parts:
            images = part(images)
        return images


def test_what_a_model_of_its_own_class_does_between_layers_is_not_known():
    net = Own()
    net(np.zeros((1, SIDE, SIDE, 3), np.float32))
    assert weights.linear_layers(net) == []


def test_a_large_kernel_that_was_drawn_is_known_however_it_came_out():
    """Of a thousand uniform draws ten lie so badly that a test at 1 % would tell them apart."""
    limit = np.sqrt(6 / (9 * 64))
    unlikely = 0
    for seed in range(300):
        initialiser = keras.initializers.GlorotUniform(seed=seed)
        kernel = np.asarray(initialiser((3, 3, 32, 32)))
        low = kstest(kernel.ravel(), "uniform", (-limit, 2 * limit)).pvalue
        unlikely += low < 0.01
        if low < 0.02:
            assert weights._is_drawn(kernel, initialiser)
            assert not weights._is_drawn(kernel * 1.02, initialiser)
            inside = np.sign(kernel) * limit * (np.abs(kernel) / limit) ** 1.1
            assert not weights._is_drawn(inside, initialiser)
    assert unlikely


@pytest.mark.parametrize("axis", [-1, 0])
def test_a_softmax_over_the_batch_is_no_head(axis):
    pictures, labels = colours(60)
    net = net_of(
        CONV(2, 1, activation="relu", name="conv"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, name="answer"),
        layers.Softmax(axis=axis),
    )
    net.get_layer("conv").set_weights([np.eye(3)[None, None, :, ::2], np.full(2, 0.01)])
    net.get_layer("answer").set_weights([20 * np.eye(2)[::-1], np.zeros(2)])
    case = case_of(net, pictures, labels)
    diagnose.about_layers(case)
    diagnose.about_inputs(case, {})
    assert verdict(case, "output_head") == ("fault" if axis == 0 else "fine")


# ---------------------------------------------------------------------------------- blank photos


def test_photos_without_anything_on_them():
    pictures = np.full((6, 8, 10, 3), 40, np.uint8)
    pictures[1] = 0
    pictures[2] = np.uint8([10, 200, 30])  # of one colour
    pictures[3, 2, 3] = 42  # hardly anything
    pictures[4, 2, 3, 1] = 43  # one pixel
    pictures[5, :, :, 2] = np.arange(10)
    assert photos.blank(pictures).tolist() == [True, True, True, True, False, False]
    assert photos.blank(pictures[..., :1]).tolist() == [True] * 6


@pytest.mark.parametrize(("count", "said"), [(0, "fine"), (1, "suspicious"), (12, "fault")])
def test_blank_photos_are_named_and_left_out(monkeypatch, count, said):
    monkeypatch.setattr(photos, "shortcut", lambda *given, **named: {})
    monkeypatch.setattr(photos, "transplant", lambda *given: [])
    pictures, labels = halves()
    pictures[:count] = 0
    net = as_colours_vary(layers.ReLU())
    report = diagnose.diagnose(
        net, pictures, labels, value_range=(0, 1), ways={"another": pictures.copy()}
    )
    found = next(f for f in report["findings"] if f.cause == "blank_photos")
    assert found.verdict == said and found.value == pytest.approx(count / 120)
    assert report["photos"] == (120 if count == 1 else 120 - count) and report["accuracy"] > 0.99
    faults = [f.cause for f in report["findings"] if f.verdict == "fault"]
    assert faults == (["blank_photos"] if said == "fault" else [])


def test_a_class_with_nothing_on_its_photos_is_none_that_failed_to_load(monkeypatch):
    monkeypatch.setattr(photos, "shortcut", lambda *given, **named: {})
    monkeypatch.setattr(photos, "transplant", lambda *given: [])
    pictures, labels = halves()
    pictures[labels == 0] = 128
    net = as_colours_vary(layers.ReLU())
    report = diagnose.diagnose(net, pictures, labels, value_range=(0, 1))
    found = next(f for f in report["findings"] if f.cause == "blank_photos")
    assert found.verdict == "suspicious" and "left out" not in found.message
    assert report["photos"] == 120 and report["accuracy"] == 1


@pytest.mark.parametrize("count", [50, 60])
def test_where_nearly_all_photos_are_blank_none_is_left_out(count):
    pictures, labels = colours(60)
    pictures = np.where(np.arange(60)[:, None, None, None] < count, 7, pictures)
    report = diagnose.diagnose(reddish(), pictures, labels, value_range=(0, 1))
    assert report["photos"] == 60
    assert report["findings"][0].cause == "blank_photos"
    assert "left out" not in report["findings"][0].message


# --------------------------------------------------------------------------------- proportions


def test_scaled_photos_keep_their_middle():
    pictures = textured(2, 48)[:, :36]
    wide = inputs.scaled(pictures, 1, 2)
    assert wide.shape == pictures.shape
    expected = cv2.resize(pictures[0], (96, 36), interpolation=cv2.INTER_LINEAR)[:, 24:72]
    np.testing.assert_allclose(wide[0], expected, atol=1e-3)
    low = inputs.scaled(pictures, 0.5, 1)
    small = cv2.resize(pictures[1], (48, 18), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(low[1, 9:27], small, atol=1e-3)
    np.testing.assert_allclose(low[1, 8], low[1, 10])
    np.testing.assert_allclose(inputs.scaled(pictures, 1, 1), pictures)


def spot_reader(count=160, rows=1.0, columns=1.0):
    """Photos with a spot above and to the right of the middle, or with none, scaled by so much, and
    a net that looks where it is in photos that are not.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pictures = generator.normal(100, 12, (count, 24, 24, 1))
    pictures[labels == 1, 4:6, 18:20] += 60
    net = net_of(
        layers.Flatten(), layers.Dense(1, activation="sigmoid", name="answer"), side=24, channels=1
    )
    kernel = np.zeros((24, 24))
    kernel[4:6, 18:20] = 20
    net.get_layer("answer").set_weights([kernel.reshape(-1, 1), np.array([-40.0])])
    net.get_layer("answer").bias.assign([-20 * 4 * 130 / 255])
    return net, inputs.scaled(np.float32(np.clip(pictures, 0, 255)), rows, columns), labels


@pytest.mark.parametrize(
    ("rows", "columns", "best"),
    [
        (1, 1, None),
        (1, 0.75, inputs.WIDER),
        (0.75, 1, inputs.TALLER),
    ],
)
def test_squeezed_photos_are_stretched_again(rows, columns, best):
    net, pictures, labels = spot_reader(rows=rows, columns=columns)
    held = inputs.resize(net, pictures, {}, labels, (0, 1))
    assert held.best == best
    if best:
        case = case_of(net, pictures, labels)
        diagnose.about_inputs(case, {})
        assert verdict(case, "resize") == "fault"
        np.testing.assert_allclose(case.photos, inputs.PROPORTIONS[best](pictures))


@pytest.mark.parametrize(
    ("wide", "tall", "best"),
    [
        (2.0, 0.2, inputs.WIDER),
        (2.0, 1.0, inputs.WIDER),
        (2.0, 2.0, None),  # as where a net sees better what is larger: no matter of proportions
        (0.2, 2.0, inputs.TALLER),
        (1.1, 0.2, None),  # by chance
    ],
)
def test_proportions_matter_where_one_is_better_and_not_the_other(monkeypatch, wide, tall, best):
    labels = np.arange(300) % 2
    pictures = textured(300, 8)
    noise = np.random.default_rng(0).normal(size=(3, 300))
    given, *changed = (two((2 * labels - 1) * x + n) for x, n in zip((1.0, wide, tall), noise))
    known = {form: change(pictures)[0] for form, change in inputs.PROPORTIONS.items()}

    def ask(model, some, value_range, output=None):
        assert len(some) == 300
        ways = [np.array_equal(some[0], first) for first in known.values()]
        return changed[ways.index(True)] if any(ways) else given

    monkeypatch.setattr(inputs, "ask", ask)
    monkeypatch.setattr(inputs, "screened", lambda labels, *every: np.ones(len(labels), bool))
    held = inputs.resize(None, pictures, {}, labels, (0, 1), None, given)
    assert held.best == best


# ------------------------------------------------------------------- which of two explanations


@pytest.mark.parametrize(
    ("gain", "sure", "said"), [(4.0, True, "fault"), (4.0, False, "fine"), (3.0, True, "fine")]
)
def test_wrong_labels_need_less_where_it_is_too_sure_anyway(monkeypatch, gain, sure, said):
    pictures, labels = colours(200)
    case = case_of(reddish(), pictures, labels, with_wrong(labels, 40))
    noise = photos.Noise(66, 20, 0.1, 0.5, 0.2, 0.2, gain, [0, 1])
    monkeypatch.setattr(photos, "label_noise", lambda *given: noise)
    monkeypatch.setattr(photos, "shortcut", lambda *given, **named: {})
    monkeypatch.setattr(photos, "transplant", lambda *given: [])
    if sure:
        case.add("overconfident", "fault", "")
    diagnose.about_photos(case)
    assert verdict(case, "label_noise") == said


@pytest.mark.parametrize(
    ("share", "examined", "first"),
    [
        (0.9, 0.5, "threshold"),
        (0.7, 0.5, "constant_answer"),
        (0.5, 0.5, "constant_answer"),
        (0.9, 0.85, "constant_answer"),  # as many as there are here
    ],
)
def test_a_class_that_is_nearly_all_there_was_in_training(share, examined, first):
    pictures, _ = colours(120)
    labels = np.int64(np.arange(120) % 20 >= 20 * examined)
    trained, _ = colours(200)
    x = np.tile([-1.8, -1.2], 60)  # the same to both classes
    case = case_of(reddish(), pictures, labels, two(x))
    diagnose.about_answers(case)
    assert case.report()["findings"][0].cause == "constant_answer"
    assert case.has("at_chance") or examined != 0.5
    case.add("dead_filters", "fault", "")
    case.train = trained, np.int64(np.arange(200) >= 200 * share)
    diagnose.about_photos(case)
    faults = [f.cause for f in case.report()["findings"] if f.verdict == "fault"]
    assert (faults[0] == "threshold") is (first == "threshold")
    explained = {"constant_answer", "at_chance", "dead_filters"}
    assert first in faults and (first != "threshold" or not explained & set(faults))


def test_a_missing_activation_explains_what_the_answers_show():
    pictures, labels = colours(200)
    for cause, said in (("no_activation", "suspicious"), ("leak", "fault")):
        case = case_of(reads([40, 0, -40], bias=12), pictures, labels)
        case.add(cause, "fault", "")
        diagnose.about_answers(case)
        assert verdict(case, "threshold") == said
        x = np.where(np.arange(200) % 5 < 2, -4.0, 4.0) * (2 * labels - 1)
        case = case_of(reddish(), pictures, labels, two(x))
        case.add(cause, "fault", "")
        diagnose.about_answers(case)
        assert verdict(case, "overconfident") == said


def test_an_answer_that_is_off_is_no_matter_of_proportions(monkeypatch):
    """Stretched, as many more are right as with another threshold, and none is told better."""
    x = np.random.default_rng(0).normal(size=300) + 4 * (np.arange(300) % 2) - 2
    pictures, labels = textured(300, 8), np.arange(300) % 2
    wide = inputs.PROPORTIONS[inputs.WIDER](pictures)[0]

    def ask(model, some, value_range, output=None):
        return two(x) if np.array_equal(some[0], wide) else two(x + 3)

    monkeypatch.setattr(inputs, "ask", ask)
    monkeypatch.setattr(inputs, "screened", lambda labels, *every: np.ones(len(labels), bool))
    assert inputs.contest(two(x + 3), {inputs.WIDER: two(x)}, labels).best == inputs.WIDER
    assert inputs.resize(None, pictures, {}, labels, (0, 1), None, two(x + 3)).best is None


def test_the_head_is_no_activation_of_others():
    net = net_of(CONV(4, 3), CONV(4, 3), FLAT(), layers.Dense(2, "softmax"))
    assert weights.linear_layers(net) == []


# ------------------------------------------------------------- other photos than those trained on


def of_a_step(limit, sign=1.0):
    """A net that knows photos with steps between neighbours above a limit from smooth ones."""
    net = net_of(
        layers.Conv2D(2, (1, 2), use_bias=False, activation="relu", name="steps"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid", name="answer"),
    )
    kernel = np.zeros((1, 2, 3, 2))
    kernel[0, 0], kernel[0, 1] = np.array([1, -1]) / 3, np.array([-1, 1]) / 3
    net.get_layer("steps").set_weights([kernel])
    net.get_layer("answer").set_weights([np.full((2, 1), sign * 400.0), np.array([-400 * limit])])
    return net


def rough(count, seed):
    """Photos with much noise (1) or little (0) on large shades, whether large or small."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    shade = np.linspace(-60, 60, SIDE)[:, None] * generator.uniform(0.5, 1, (count, 1, 1))
    spread = np.where(labels, 20, 8)[:, None, None]
    grey = 128 + shade + spread * generator.normal(size=(count, SIDE, SIDE))
    return np.float32(np.clip(np.repeat(grey[..., None], 3, -1), 0, 255)), labels


def blurred(pictures):
    return np.stack([cv2.GaussianBlur(picture, (0, 0), 1.2) for picture in pictures])


def noised(pictures):
    noise = np.random.default_rng(5).normal(0, 40, pictures.shape)
    return np.clip(pictures + noise, 0, 255)


def lit(count, seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pictures = generator.normal(120, 20, (count, SIDE, SIDE, 3)) + 40 * labels[:, None, None, None]
    return np.float32(np.clip(pictures, 0, 255)), labels


TINTED = np.array([50.0, 0, -50])
CHANGED = [
    ("light", lit, lambda: reads([20, 20, 20], bias=-60 * 140 / 255), lambda p: p * 0.7),
    ("contrast", lit, lambda: reads([20, 20, 20], bias=-60 * 155 / 255), lambda p: p * 0.2 + 112),
    ("tint", colours, reddish, lambda p: np.clip(p + TINTED, 0, 255)),
    (
        "colour",
        colours,
        lambda: reads([40, 0, -40], bias=-3.0),
        lambda p: p.mean(-1, keepdims=True) + 0.2 * (p - p.mean(-1, keepdims=True)),
    ),
    ("sharpness", rough, lambda: of_a_step(11 / 255), blurred),
    ("sharpness", rough, lambda: of_a_step(11 / 255), noised),
]


@pytest.mark.parametrize(("look", "drawn", "net", "change"), CHANGED)
def test_photos_unlike_those_trained_on(look, drawn, net, change):
    (trained, of_trained), (pictures, labels) = drawn(300, 1), drawn(300, 2)
    net = net()
    assert photos.unlike_training(net, pictures, labels, (trained, of_trained), (0, 1)) == []
    changed = np.float32(change(pictures))
    found = photos.unlike_training(net, changed, labels, (trained, of_trained), (0, 1))
    assert [one.loss.low for one in found] == sorted([one.loss.low for one in found], reverse=True)
    one = next(one for one in found if one.what == look)
    assert one.told > 0.75 and one.loss.low > 0.2 and one.loss.accuracy > 0.85
    after = one.alike(trained)
    right = debugcnn.logits(net, after / 255).argmax(1) == of_trained
    assert one.loss.left == pytest.approx(right.mean())
    wanted, before, now = (np.median(photos._looks(p)[look]) for p in (changed, trained, after))
    assert abs(now - wanted) < 0.35 * abs(before - wanted)
    case = case_of(net, changed, labels)
    case.train = trained, of_trained
    assert diagnose._unlike_training(case) and case.has(diagnose.UNLIKE[found[0].what][0])
    assert case.alike is not None


def test_photos_that_differ_in_what_costs_nothing_are_left_alone():
    (trained, of_trained), (pictures, labels) = colours(300, 1), colours(300, 2)
    case = case_of(reddish(), pictures * 0.6, labels)
    case.train = trained, of_trained
    train = trained, of_trained
    found = photos.unlike_training(reddish(), pictures * 0.6, labels, train, (0, 1))[0]
    assert found.told > 0.9 and found.loss.low < 0.05
    assert not diagnose._unlike_training(case) and case.alike is None and not case.findings


@pytest.mark.parametrize(("known", "told"), [(None, True), ("resize", False)])
def test_photos_unlike_those_trained_on_are_told_in_their_turn(known, told):
    (trained, of_trained), (pictures, labels) = colours(300, 1), colours(300, 2)
    case = case_of(reddish(), np.float32(np.clip(pictures + TINTED, 0, 255)), labels)
    assert not diagnose._unlike_training(case)  # nothing to compare with
    case.train = trained, of_trained
    if known:
        case.add(known, "fault", "")
    assert diagnose._unlike_training(case) is told
    right = case_of(reddish(), np.float32(np.clip(pictures + TINTED, 0, 255)), labels)
    right.train, right.logits = case.train, with_wrong(labels, 0)  # yet all are right
    assert not diagnose._unlike_training(right)


def test_what_photos_unlike_those_trained_on_explain():
    (trained, of_trained), (pictures, labels) = colours(300, 1), colours(300, 2)
    changed = np.float32(np.clip(pictures + TINTED, 0, 255))
    report = diagnose.diagnose(
        reddish(), changed, labels, train=(trained, of_trained), value_range=(0, 1)
    )
    faults = [f.cause for f in report["findings"] if f.verdict == "fault"]
    assert faults == ["channel_order"]
    assert report["findings"][0].remedy == diagnose.OTHERWISE
    assert next(f for f in report["findings"] if f.cause == "memorised").verdict == "fine"


def test_classes_count_as_they_are_among_the_photos():
    trained = np.repeat([0, 1, 2], [100, 40, 60])
    labels = np.repeat([0, 1, 3], [30, 60, 10])
    some = photos._as_frequent(trained, labels)
    assert np.bincount(trained[some]).tolist() == [20, 40]
    some = photos._as_frequent(trained, labels, most=30)
    assert np.bincount(trained[some]).tolist() == [10, 20]
    assert len(photos._as_frequent(trained, np.array([4, 5]))) == 0
    pictures, of = colours(40)
    pictures, of = pictures[of == 1], of[of == 1]  # only the reddish ones
    train = colours(300, 1)
    assert photos.unlike_training(reddish(), pictures, of, train, (0, 1)) == []
    assert photos.unlike_training(reddish(), pictures, of + 5, train, (0, 1)) == []


@pytest.mark.parametrize(
    ("gain", "accuracies", "best"),
    [
        (0.03, (0.8, 0.8), True),
        (0.03, (0.8, 0.75), False),  # a little better told, and fewer are right
        (0.2, (0.8, 0.75), True),  # as where the threshold is off
    ],
)
def test_a_form_with_fewer_right_answers_has_to_be_much_better(monkeypatch, gain, accuracies, best):
    labels = np.arange(400) % 2
    compared = Comparison(0.75, 0.75 + gain, gain / 10, 0.01)
    monkeypatch.setattr(inputs, "compare", lambda *given: compared)
    given, other = (
        np.eye(2)[np.where(np.arange(400) < share * 400, labels, 1 - labels)]
        for share in accuracies
    )
    assert (inputs.contest(given, {"form": other}, labels).best == "form") is best


def test_what_was_learned_by_heart_is_not_nothing():
    pictures, labels = colours(120)
    trained, of_trained = colours(200, 1)
    case = case_of(reddish(), pictures, labels, two(np.tile([-1.0, 1, 1, -1], 30)))
    diagnose.about_answers(case)
    assert case.has("at_chance")
    case.train = trained, of_trained  # which the net gets right
    diagnose.about_photos(case)
    assert case.has("memorised") and verdict(case, "at_chance") == "suspicious"
    case = case_of(reddish(), pictures, labels, two(np.tile([-1.0, 1, 1, -1], 30)))
    diagnose.about_answers(case)
    case.train = trained, np.random.default_rng(0).permutation(of_trained)  # and these it does not
    diagnose.about_photos(case)
    assert not case.has("memorised") and case.has("at_chance")


@pytest.mark.parametrize("root", ["untrained_layer", "at_chance", "leak"])
def test_small_answers_of_a_net_that_knows_nothing_are_no_probabilities(root):
    pictures, labels = colours(200)
    net = reads([1.2, 0, -1.2], bias=0.5, head=None)
    case = case_of(net, pictures, labels)
    case.add(root, "fault", "")
    diagnose._about_threshold(case, 0.9)
    assert (verdict(case, "output_head") == "fault") is (root == "leak")


@pytest.mark.parametrize(
    ("count", "blind", "said"), [(60, True, "fault"), (60, False, "suspicious"), (1, True, "fine")]
)
def test_photos_that_are_cut_short_are_named_where_they_cost_answers(count, blind, said):
    pictures, labels = colours(120)
    pictures[:count, SIDE // 4 if blind else -SIDE // 4 :] = 128
    x = np.where((np.arange(120) % 4 < 2) & blind & (np.arange(120) < count), -1.0, 1.0)
    case = case_of(reddish(), pictures, labels, two(x * (2 * labels - 1)))
    case.add("blank_photos", "fine", "")
    diagnose.about_answers(case)
    assert verdict(case, "blank_photos") == said


def test_which_photos_are_cut_short():
    pictures = textured(6, 16)
    pictures[1, 12:] = 7
    pictures[2, 13:] = 7  # too little
    pictures[3, 12:, 3] = 9  # not all across
    pictures[4] = 200  # a plain ground, with a thing on it
    pictures[4, 2:11, 3:9] = 90
    pictures[5, :4] = 200
    assert photos.cut_short(pictures).tolist() == [False, True, False, False, False, False]
    assert not photos.cut_short(np.full((2, 8, 8, 1), 9.0)).any()
    right, some = np.arange(40) % 2 == 0, np.arange(40) < 20
    expected = hypergeom(40, 20, 20).cdf(10)
    assert photos.fewer(right, some) == pytest.approx(expected)
    assert photos.fewer(~some, some) < 1e-9 < photos.fewer(some, some)


def of_spots(same, ground, count=200):
    """Photos on a ground that all share or that differs, each of class 1 with a spot in one of
    nine places: always the same spot, or another one.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pictures = generator.uniform(0, 255, (count, 40, 40, 1))
    if ground:
        pictures[:] = 65
    for n, i in enumerate(np.flatnonzero(labels)):
        y, x = (2 + 12 * part for part in divmod(n % 9, 3))
        spot = generator.uniform(100, 255, (8, 8, 1)) if not same else 230.0
        pictures[i, y : y + 8, x : x + 8] = spot
    return np.float32(np.repeat(pictures, 3, -1)), labels


@pytest.mark.parametrize(
    ("same", "ground", "least"), [(True, False, 0.4), (False, False, 0.4), (True, True, 1.0)]
)
def test_twins_have_to_be_more_alike_than_what_else_lies_there(same, ground, least):
    pictures, labels = of_spots(same, ground)
    i = int(np.flatnonzero(labels)[0])
    patch = photos.Patch(i, 1, slice(24, 36), slice(24, 36), 1.0, 0)  # where no spot lies
    found = photos._alike_by_chance(patch, pictures, labels)
    assert found == pytest.approx(least, abs=0.05 if ground else 0.2) and found >= photos.ALIKE


@pytest.mark.parametrize("kind", ["YCrCb", "HSV"])
def test_other_colours_are_read_as_red_green_and_blue_again(kind):
    """As where cv2.cvtColor was called with another code."""
    pictures = np.float32(np.uint8(textured(4, 20)))
    code, form = getattr(cv2, f"COLOR_RGB2{kind}"), f"the channels taken for {kind}"
    given = np.float32([cv2.cvtColor(np.uint8(picture), code) for picture in pictures])
    assert np.abs(given - pictures).mean() > 20
    again = inputs.COLOURS[form](given)
    assert again.dtype == np.float32 and np.abs(again - pictures).mean() < 3


def test_the_page_shows_photos_beside_those_trained_on(monkeypatch):
    (trained, of_trained), (pictures, labels) = colours(300, 1), colours(300, 2)
    changed = np.float32(np.clip(pictures + TINTED, 0, 255))
    train = trained, of_trained
    case = diagnose.examine(reddish(), changed, labels, train, (0, 1))
    shown = []
    monkeypatch.setattr(page, "_grid", lambda tiles, titles: shown.append((tiles, titles)))
    page._figure(case, "channel_order", ["blue", "red"], train)
    ((tiles, titles),) = shown
    assert titles == ["examined"] * 4 + ["trained on"] * 4 + ["made so"] * 4
    np.testing.assert_array_equal(tiles[:4], changed[:4])
    np.testing.assert_array_equal(tiles[4:8], trained[:4])
    np.testing.assert_allclose(tiles[8:], case.alike(trained[:4]))
    monkeypatch.undo()
    text = page.page(case, case.report(), ["blue", "red"], train)
    assert "made as those above are" in text and "before and after the cure" not in text


def test_a_linear_projection_beside_others_is_meant_so():
    given = keras.Input((SIDE, SIDE, 3))
    x = CONV(4, 3, padding="same", activation="relu")(given)
    y = CONV(4, 1)(given)
    x = layers.ReLU()(layers.Add()([CONV(4, 3, padding="same", activation="relu")(x), y]))
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    pictures, labels = colours(40)
    case = case_of(keras.Model(given, x), pictures, labels)
    assert weights.branches(case.model) and not weights.branches(reddish())
    diagnose.about_layers(case)
    assert verdict(case, "no_activation") == "fine"


def test_only_photos_that_look_like_it_are_taken_for_other_colours():
    shades = np.linspace(0, 160, 32)[:, None, None]
    tints = np.random.default_rng(0).uniform(30, 80, (6, 1, 1, 3))
    pictures = np.float32(np.uint8(shades + tints * np.ones((32, 32, 1))))
    as_ = {
        kind: np.float32(
            [cv2.cvtColor(np.uint8(p), getattr(cv2, f"COLOR_RGB2{kind}")) for p in pictures]
        )
        for kind in ("YCrCb", "HSV")
    }
    as_["RGB"] = pictures
    found = {
        kind: [form for form, may in inputs.CODES.items() if may(some)]
        for kind, some in as_.items()
    }
    assert found == {
        "YCrCb": ["the channels taken for YCrCb"],
        "HSV": ["the channels taken for HSV"],
        "RGB": [],
    }
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "_held", lambda model, given, forms, *more: asked.append(list(forms)))
        for some in as_.values():
            inputs.channel_order(None, some, np.zeros(6, int))
    assert [set(forms) & set(inputs.CODES) for forms in asked] == [
        {"the channels taken for YCrCb"},
        {"the channels taken for HSV"},
        set(),
    ]


def test_a_tint_is_no_other_light():
    (trained, of_trained), (pictures, labels) = colours(300, 1), colours(300, 2)
    changed = np.float32(np.clip(pictures + np.array([60.0, 0, -20]), 0, 255))
    train = trained, of_trained
    found = photos.unlike_training(reddish(), changed, labels, train, (0, 1))
    tint = next(one for one in found if one.what == "tint")
    assert tint.alike(trained).mean() == pytest.approx(trained.mean(), abs=3)


def test_photos_that_differ_do_not_explain_what_the_difference_does_not_cost():
    (trained, of_trained), (pictures, labels) = colours(300, 1), colours(300, 2)
    case = case_of(reddish(), pictures * 0.6, labels, with_wrong(labels, 90))  # 70 % are right
    case.train = trained, of_trained
    assert not diagnose._unlike_training(case)


@pytest.mark.parametrize("alike", [None, lambda some: some])
def test_labels_are_not_judged_by_photos_unlike_those_trained_on(monkeypatch, alike):
    pictures, labels = colours(200)
    case = case_of(reddish(), pictures, labels, with_wrong(labels, 40))
    noise = photos.Noise(66, 20, 0.1, 0.5, 0.0, 0.2, 20, [0, 1])
    monkeypatch.setattr(photos, "label_noise", lambda *given: noise)
    monkeypatch.setattr(photos, "shortcut", lambda *given, **named: {})
    monkeypatch.setattr(photos, "transplant", lambda *given: [])
    case.alike = alike
    diagnose.about_photos(case)
    assert verdict(case, "label_noise") == (None if alike else "fault")
