"""Activations and what all views have in common: images of every kind, compiling, wrong input."""

import gc
import itertools
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_models import (
    SIDE,
    Subclassed,
    chain,
    classifier,
    functional,
    images_for,
    layer_of,
    noise,
    randomise,
    sequential,
    subclassed,
    trunk,
    with_two_outputs,
)

import debugcnn
from debugcnn.views import tracing
from debugcnn.views.tracing import all_layers


@pytest.mark.parametrize("build", ["sequential", "functional in functional", "subclassed"])
def test_activations_are_what_the_layers_return(build):
    model, images = classifier(build=build), noise()
    maps = debugcnn.activations(model, images)
    assert list(maps) == ["first", "pool", "last"]
    first = layer_of(model, "first")(layers.Rescaling(1 / 255)(images))
    np.testing.assert_allclose(maps["first"], first, rtol=1e-5, atol=1e-5)
    normalized = layer_of(model, "norm")(first, training=False)
    pooled = layer_of(model, "pool")(layer_of(model, "relu")(normalized))
    np.testing.assert_allclose(maps["pool"], pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps["last"], layer_of(model, "last")(pooled), rtol=1e-4, atol=1e-4)
    chosen = debugcnn.activations(model, images, [layer_of(model, "norm"), "last"])
    assert list(chosen) == ["norm", "last"]
    np.testing.assert_allclose(chosen["norm"], normalized, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(chosen["last"], maps["last"])
    assert list(debugcnn.activations(model, images, ["norm", "pool"])) == ["norm", "pool"]


def test_layers_of_one_name_in_two_nested_models_have_longer_names():
    left, right = (keras.Sequential(trunk(), name=name) for name in ("left", "right"))
    images = keras.Input((SIDE, SIDE, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.add([left(images), right(images)]))
    model = randomise(keras.Model(images, layers.Dense(1)(pooled)))
    maps = debugcnn.activations(model, noise())
    assert list(maps)[:2] == ["left/first", "left/pool"] and "right/last" in maps
    assert debugcnn.convolution_layers(model) == [name for name in maps if "pool" not in name]
    alone = debugcnn.activations(right, noise())
    np.testing.assert_allclose(maps["right/last"], alone["last"], rtol=1e-5)
    with pytest.raises(ValueError, match="left/first"):
        debugcnn.activations(model, noise(), ["first"])


def test_a_layer_that_runs_twice_counts_with_its_last_run():
    twice = layers.Conv2D(3, 3, padding="same", name="twice")
    head = [layers.GlobalAveragePooling2D(), layers.Dense(1)]
    model, images = randomise(sequential([twice, layers.ReLU(), twice, *head])), noise() / 255
    by_hand = twice(np.maximum(twice(images), 0))
    maps = debugcnn.activations(model, images)
    assert list(maps) == debugcnn.convolution_layers(model) == ["twice"]
    np.testing.assert_allclose(maps["twice"], by_hand, rtol=1e-4, atol=1e-4)
    reached = debugcnn.responses(model, images, "twice")
    np.testing.assert_allclose(reached, by_hand.numpy().max((1, 2)), rtol=1e-4)


def views_of(model, images, target=1):
    yield from debugcnn.activations(model, images).values()
    yield debugcnn.responses(model, images, "last")
    yield debugcnn.grad_cam(model, images, target)


def test_a_batch_equals_its_images_one_by_one(monkeypatch):
    monkeypatch.setattr(tracing, "BATCH", 2)
    model, images = classifier("softmax"), noise(3)
    targets = np.array([2, 0, 1])
    for together, *alone in zip(
        views_of(model, images, targets),
        *(views_of(model, images[i : i + 1], targets[i]) for i in range(3)),
        strict=True,
    ):
        np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-5)


def test_bytes_equal_floats():
    model, images = classifier(), np.uint8(noise())
    for of_bytes, of_floats in zip(
        views_of(model, images), views_of(model, np.float64(images)), strict=True
    ):
        np.testing.assert_array_equal(of_bytes, of_floats)


def test_bytes_enter_a_subclassed_model_that_expects_floats():
    model, images = subclassed([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)]), noise()
    np.testing.assert_array_equal(
        debugcnn.probabilities(model, np.uint8(images)),
        debugcnn.probabilities(model, np.floor(images)),
    )


def test_augmentation_inside_the_model_is_off():
    plain = classifier()
    parts = [layers.RandomFlip(), layers.RandomRotation(0.3), layers.Dropout(0.9)]
    model = functional([*parts, *plain.layers[1:]])
    for view, expected in zip(views_of(model, noise()), views_of(plain, noise()), strict=True):
        np.testing.assert_array_equal(view, expected)


@keras.saving.register_keras_serializable()
class Saved(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.look, self.decide = layers.Conv2D(2, 3, name="look"), layers.Dense(1)

    def call(self, images):
        return self.decide(tf.reduce_mean(self.look(images), (1, 2)))


def test_a_subclassed_model_from_a_file(tmp_path):
    model, images = Saved(), noise()
    model(images)
    model.save(tmp_path / "saved.keras")
    loaded = debugcnn.load_model(tmp_path / "saved.keras")
    assert debugcnn.convolution_layers(loaded) == ["look"]
    np.testing.assert_array_equal(
        debugcnn.grad_cam(loaded, images, 1), debugcnn.grad_cam(model, images, 1)
    )


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts(channels):
    body = [*trunk(), layers.GlobalAveragePooling2D(), layers.Dense(1)]
    model = randomise(keras.Sequential([keras.Input((SIDE, SIDE, channels)), *body]))
    images = noise(channels=channels)
    assert debugcnn.grad_cam(model, images, 1).shape == (3, SIDE, SIDE)
    patterns, _ = debugcnn.filter_patterns(model, "last", [0], steps=2)
    assert patterns.shape[-1] == channels


def test_a_model_that_never_ran_is_built_on_the_images():
    body = [*trunk(), layers.GlobalAveragePooling2D(), layers.Dense(1)]
    for model in (keras.Sequential(body), Subclassed(body)):
        with pytest.raises(ValueError, match="built"):
            debugcnn.convolution_layers(model)
        assert debugcnn.grad_cam(model, noise(), 1).shape == (3, SIDE, SIDE)
        assert debugcnn.convolution_layers(model) == ["first", "last"]
    # Nothing but the channels is fixed in such a model.
    assert debugcnn.grad_cam(Subclassed(body), noise(2, 20), 1).shape == (2, 20, 20)


def state(model):
    parts = all_layers(model)
    return [sorted(vars(part)) for part in parts], [part.trainable for part in parts]


def test_the_model_is_left_as_it_was():
    model, images = classifier(build="functional in functional"), noise()
    model.compile("sgd", "binary_crossentropy")
    model.layers[1].layers[2].trainable = False
    prediction, call = model.predict(images, verbose=0), keras.Operation.__call__
    before = state(model), model.get_config(), model.get_weights()
    debugcnn.activations(model, images)
    debugcnn.filter_patterns(model, "last", [0], steps=2)
    debugcnn.grad_cam(model, images)
    assert state(model) == before[0] and model.get_config() == before[1]
    for weights, expected in zip(model.get_weights(), before[2], strict=True):
        np.testing.assert_array_equal(weights, expected)
    assert keras.Operation.__call__ is call
    np.testing.assert_array_equal(model.predict(images, verbose=0), prediction)
    model.fit(images, np.ones(3), verbose=0)
    assert (model.get_weights()[-1] != before[2][-1]).any()


def test_a_second_call_runs_what_the_first_one_compiled(monkeypatch):
    model, images = classifier(), noise()
    first = list(views_of(model, images))
    runs, call = [], keras.Operation.__call__

    def counted(*args, **kwargs):
        runs.append(1)
        return call(*args, **kwargs)

    monkeypatch.setattr(keras.Operation, "__call__", counted)
    debugcnn.activations(model, images)
    debugcnn.grad_cam(model, images, 1)
    assert not runs
    for view, same in zip(views_of(model, images[:2]), first, strict=True):
        np.testing.assert_allclose(view, same[:2], rtol=1e-5, atol=1e-5)
    debugcnn.grad_cam(model, np.uint8(images), 1)
    assert runs
    (once,) = debugcnn.activations(model, images, iter(["first"])).values()
    (again,) = debugcnn.activations(model, images, ["first"]).values()
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("build", ["functional", "functional in functional", "subclassed"])
def test_what_changes_between_two_calls_counts(build):
    model, images = classifier("softmax", build), noise()
    before = list(views_of(model, images))
    randomise(model, seed=2)
    again = randomise(classifier("softmax", build), seed=2)
    for view, same, old in zip(views_of(model, images), views_of(again, images), before):
        np.testing.assert_allclose(view, same, rtol=1e-5, atol=1e-5)
        assert np.abs(view - old).max() > 1e-3
    layer_of(model, "last").activation = keras.activations.tanh
    (last,) = debugcnn.activations(model, images, ["last"]).values()
    assert np.abs(last).max() <= 1 and last.min() < 0
    heatmaps = debugcnn.grad_cam(model, images, 1)
    dense = layer_of(model, "dense")
    dense.enable_lora(2)
    dense.lora_kernel_a.assign(np.linspace(-1, 1, 10).reshape(5, 2))
    dense.lora_kernel_b.assign(np.linspace(2, -1, 6).reshape(2, 3))
    assert np.abs(debugcnn.grad_cam(model, images, 1) - heatmaps).max() > 1e-3


def test_another_precision_between_two_calls_counts():
    model, images = classifier(), noise()
    (exact,) = debugcnn.activations(model, images, ["last"]).values()
    layer_of(model, "last").dtype_policy = "mixed_float16"
    (rough,) = debugcnn.activations(model, images, ["last"]).values()
    np.testing.assert_array_equal(rough, np.float32(np.float16(rough)))
    assert (rough != exact).any()
    np.testing.assert_allclose(rough, exact, atol=0.01 * exact.max())


def test_a_model_is_freed_although_functions_were_compiled_for_it():
    model = classifier()
    list(views_of(model, noise()))
    reference = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert reference() is None


def test_functions_are_compiled_for_each_setting():
    """By layer, class, output, precision and method, though all else is the same."""
    model, _ = with_two_outputs(named=True)
    images = images_for(model)
    heatmaps = {
        (output, target): debugcnn.grad_cam(model, images, target, output=output)
        for output, targets in (("kind", (0, 1, 2)), ("young", (0, 1)))
        for target in targets
    }
    for first, second in itertools.combinations(heatmaps.values(), 2):
        assert (first != second).any()
    maps, gradients = debugcnn.evidence(model, images, 1, output="kind")
    assert maps.shape == gradients.shape != heatmaps["kind", 1].shape


def test_digest():
    model = chain(layers.Conv2D(4, 3, name="look"))
    same = chain(layers.Conv2D(4, 3, name="other"))
    assert debugcnn.model_digest(model) == debugcnn.model_digest(same)
    bias = model.get_layer("look").bias
    bias.assign(bias + np.float32([0, 0, 0, 1e-6]))
    assert debugcnn.model_digest(model) != debugcnn.model_digest(same)
    wide, high = (  # the same six weights in other shapes
        keras.Sequential(
            [keras.Input((n,)), layers.Dense(6 // n, use_bias=False, kernel_initializer="ones")]
        )
        for n in (2, 3)
    )
    assert debugcnn.model_digest(wide) != debugcnn.model_digest(high)


@pytest.fixture(scope="module")
def logits_classifier():
    return classifier("logits")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: debugcnn.grad_cam(m, x, 3), "target 3 .* 0 to 2"),
        (lambda m, x: debugcnn.grad_cam(m, x, -1), "target -1 .* 0 to 2"),
        (lambda m, x: debugcnn.grad_cam(m, x, [0, 1]), "one class for each of the 3"),
        (lambda m, x: debugcnn.grad_cam(m, x, "cat"), "'cat'"),
        (lambda m, x: debugcnn.grad_cam(m, x, 0, layer="lust"), "'lust'.* did you mean last"),
        (lambda m, x: debugcnn.grad_cam(m, x, 0, layer=layers.ReLU(name="alien")), "'alien'"),
        (lambda m, x: debugcnn.grad_cam(m, x, 0, layer=["last"]), "'last'.* did you mean"),
        (lambda m, x: debugcnn.grad_cam(m, x, 0, layer="dense"), "'dense' returns no map"),
        (lambda m, x: debugcnn.activations(m, x, ["dense"]), "'dense' returns no map"),
        (lambda m, x: debugcnn.activations(m, x[0]), r"image\[None\]"),
        (lambda m, x: debugcnn.activations(m, x[:0]), r"\(0, 16, 16, 3\)"),
        (lambda m, x: debugcnn.activations(m, x.astype(str)), "numbers"),
        (lambda m, x: debugcnn.grad_cam(m, x[:, :9]), r"\(3, 9, 16, 3\).*16, 16, 3"),
        (lambda m, x: debugcnn.grad_cam(m, x[..., :1]), r"\(3, 16, 16, 1\).*16, 16, 3"),
        (lambda m, x: debugcnn.filter_patterns(m, "last", [5]), "0 to 4"),
        (lambda m, x: debugcnn.filter_patterns(m, "dense"), "'dense' returns no map"),
        (lambda m, x: debugcnn.responses(m, x, "nothing"), "'nothing'"),
        (lambda m, x: debugcnn.responses(m, x[0], "last"), r"image\[None\]"),
        (lambda m, x: debugcnn.responses(m, x[..., :1], "last"), "any, any, 3"),
    ],
)
def test_wrong_input_gets_one_sentence(logits_classifier, call, words):
    with pytest.raises(ValueError, match=words) as error:
        call(logits_classifier, noise())
    assert "\n" not in str(error.value) and str(error.value)[-1] in ".?"


def test_models_that_are_no_image_classifiers_are_refused():
    numbers = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    with pytest.raises(ValueError, match="image"):
        debugcnn.convolution_layers(numbers)
    dense = sequential([layers.Flatten(), layers.Dense(1)])
    with pytest.raises(ValueError, match="no convolution"):
        debugcnn.convolution_layers(dense)
    with pytest.raises(ValueError, match="no convolution"):
        debugcnn.activations(dense, noise())
    with pytest.raises(ValueError, match="convolutional"):
        debugcnn.grad_cam(dense, noise())
    with pytest.raises(ValueError, match="a classifier"):
        debugcnn.grad_cam(sequential(trunk()), noise())


def test_the_views_start_quietly_and_without_ipython():
    """The base installation has no IPython."""
    command = (
        "import sys; sys.modules['IPython'] = None; import debugcnn; "
        "print(debugcnn.grad_cam.__name__, debugcnn.overlay.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "grad_cam overlay\n", "")
