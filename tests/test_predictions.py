"""Logits and probabilities, the heads that make them, and models with several outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from small_models import (
    SIDES,
    chain,
    colour_means,
    ensemble,
    images_for,
    plain,
    randomise_trainable,
    with_two_outputs,
)

import debugcnn


def headed(units, activation, change):
    """A model, and the same with `change` behind its prediction; both are confident."""
    base = chain(
        layers.Conv2D(4, 3, activation="relu", name="look"),
        head=[layers.GlobalAveragePooling2D(), layers.Dense(units, activation, name="decide")],
    )
    kernel = base.get_layer("decide").kernel
    kernel.assign(30 * kernel)
    return base, keras.Model(base.inputs[0], change(base.outputs[0]))


def there_and_back(y):
    checked = tf.debugging.check_numerics(tf.identity_n([1 - y, y])[1], "no number")
    return -tf.transpose(tf.stack(tf.unstack(-checked, axis=1), 0))


def put_together(y):
    first, last = tf.slice(y, (0, 0), (-1, 2)), 2 * y[:, 2:] / 2
    return tf.minimum(tf.concat([first, tf.add_n([last, last, -last])], 1), 0.99)


BEHIND = {
    "reshape": (3, "softmax", lambda y: layers.Reshape((3, 1))(y), [0, 1, 2]),
    "flatten": (3, "softmax", lambda y: layers.Flatten()(y), [0, 1, 2]),
    "clip": (3, "softmax", lambda y: ops.clip(y, 1e-7, 1 - 1e-7), [0, 1, 2]),
    "clip and reshape": (
        3,
        "softmax",
        lambda y: layers.Reshape((3,))(ops.clip(y, 1e-7, 1 - 1e-7)),
        [0, 1, 2],
    ),
    "maximum": (3, "softmax", lambda y: ops.maximum(y, 1e-7), [0, 1, 2]),
    "take": (3, "softmax", lambda y: ops.take(y, [2, 0], axis=1), [2, 0]),
    "slice": (3, "softmax", lambda y: y[:, 1:], [1, 2]),
    "logarithm": (3, "softmax", lambda y: ops.log(y), [0, 1, 2]),
    "cast": (3, "softmax", lambda y: ops.cast(y, "float64"), [0, 1, 2]),
    "squeeze": (1, "sigmoid", lambda y: ops.squeeze(y, -1), [0, 1]),
    "both classes": (1, "sigmoid", lambda y: layers.Concatenate()([1 - y, y]), [0, 1]),
    "labels": (3, "sigmoid", lambda y: layers.Reshape((3,))(y), [0, 1, 2]),
    "as they were": (3, "softmax", lambda y: layers.Lambda(there_and_back)(y), [0, 1, 2]),
    "put together": (3, "softmax", lambda y: layers.Lambda(put_together)(y), [0, 1, 2]),
    "softmax again": (3, "softmax", lambda y: layers.Softmax()(y), [0, 1, 2]),
}


@pytest.mark.parametrize("name", BEHIND)
def test_a_softmax_or_sigmoid_is_found_behind_other_operations(name):
    units, activation, change, classes = BEHIND[name]
    base, model = headed(units, activation, change)
    images = images_for(base)
    kind = "labels" if name == "labels" else "softmax"
    kind = "sigmoid" if name == "squeeze" else kind
    assert debugcnn.classifier_head(model) == (kind, len(classes), True)
    of_targets = [debugcnn.grad_cam(model, images, target) for target in range(len(classes))]
    for heatmaps, same in zip(of_targets, classes):
        np.testing.assert_allclose(heatmaps, debugcnn.grad_cam(base, images, same), rtol=1e-4)
    assert np.max(of_targets) > 0
    shares = debugcnn.probabilities(model, images)
    if name not in {"softmax again", "take", "slice", "put together"}:
        np.testing.assert_allclose(shares, debugcnn.probabilities(base, images), atol=1e-5)
    predicted = debugcnn.grad_cam(model, images)
    if name != "labels":  # where the model may be confident of several classes
        chosen = debugcnn.grad_cam(model, images, shares.argmax(1))
        np.testing.assert_array_equal(predicted, chosen)


def test_of_several_confident_labels_the_one_with_the_highest_logit_is_predicted():
    model, _ = headed(3, "sigmoid", lambda y: y)
    model.get_layer("decide").bias.assign([3e5, 5e5, 4e5])
    images = images_for(model)
    np.testing.assert_array_equal(debugcnn.probabilities(model, images), 1)
    second = debugcnn.grad_cam(model, images, 1)
    np.testing.assert_array_equal(debugcnn.grad_cam(model, images), second)
    assert (debugcnn.grad_cam(model, images, 0) != second).any()


def test_an_ensemble_predicts_by_its_probabilities_not_by_its_logits():
    images = keras.Input((*SIDES, 3))
    maps = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="look")(images))
    heads = [layers.Dense(2, "softmax") for _ in range(3)]
    model = randomise_trainable(
        keras.Model(images, layers.Average()([head(maps) for head in heads]))
    )
    for head, logit in zip(heads, (20, -2, -2)):  # one is confident of 1, two predict 0
        head.kernel.assign(head.kernel / 1e4)
        head.bias.assign([0, logit])
    images = images_for(model)
    of_0 = debugcnn.grad_cam(model, images, 0)
    assert (model(images).numpy().argmax(1) == 0).all()
    np.testing.assert_array_equal(debugcnn.grad_cam(model, images), of_0)
    assert (debugcnn.grad_cam(model, images, 1) != of_0).any()


def test_a_softmax_made_by_hand_gets_a_sentence():
    def by_hand(y):
        powers = ops.exp(y / 1000)
        return powers / ops.sum(powers, -1, keepdims=True)

    _, model = headed(3, None, by_hand)
    with pytest.raises(ValueError, match="softmax behind them is hidden"):
        debugcnn.grad_cam(model, images_for(model))
    np.testing.assert_allclose(
        debugcnn.probabilities(model, images_for(model)), model(images_for(model)), rtol=1e-5
    )


def test_logits_that_add_up_to_one_are_no_probabilities():
    model = chain(
        layers.Conv2D(4, 3), head=[layers.GlobalAveragePooling2D(), layers.Dense(3, name="decide")]
    )
    model.get_layer("decide").set_weights([np.zeros((4, 3)), np.float32([3, -1, -1])])
    expected = np.exp([3, -1, -1]) / np.exp([3, -1, -1]).sum()
    shares = debugcnn.probabilities(model, images_for(model))
    np.testing.assert_allclose(shares, [expected] * 3, rtol=1e-5)


def test_a_product_of_predictions_is_not_their_softmax():
    _, model = headed(3, "softmax", lambda y: y * y)
    assert debugcnn.classifier_head(model) == ("softmax", 3, False)


def test_an_image_whose_logits_add_up_to_one_hides_no_softmax():
    model = colour_means(np.eye(3), [0, 0, 0], None)
    heatmaps = debugcnn.grad_cam(model, plain([0.2, 0.3, 0.5], [0.9, 0.5, 0.5]), 0)
    np.testing.assert_allclose(heatmaps.max((1, 2)) * 24, [0.2, 0.9], rtol=1e-5)


def test_logits_get_the_softmax_or_sigmoid_that_is_missing():
    for units, activation, kind in [(3, "softmax", "softmax"), (1, "sigmoid", "sigmoid")]:
        base, _ = headed(units, activation, lambda y: y)
        base.get_layer("decide").kernel.assign(base.get_layer("decide").kernel / 3000)
        shares = debugcnn.probabilities(base, images_for(base))
        assert debugcnn.classifier_head(base).applied
        prediction = base(images_for(base)).numpy()
        of_classes = prediction if units > 1 else np.hstack([1 - prediction, prediction])
        np.testing.assert_allclose(shares, of_classes, rtol=1e-5)
        base.get_layer("decide").activation = keras.activations.linear
        assert debugcnn.classifier_head(base) == (kind, max(2, units), False)
        np.testing.assert_allclose(
            debugcnn.probabilities(base, images_for(base)), shares, rtol=1e-3, atol=1e-6
        )


def test_the_mean_of_an_ensemble_has_the_mean_of_its_logits():
    model = ensemble()
    images = images_for(model)
    _, together = debugcnn.evidence(model, images, 1, layer="net1/look")
    _, alone = debugcnn.evidence(model.get_layer("net1"), images, 1, layer="look")
    np.testing.assert_allclose(together, alone / 2, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("named", [False, True])
def test_one_of_two_outputs_is_chosen(named):
    model, kind = with_two_outputs(named)
    young = keras.Model(model.input, model.get_layer("young").output)
    images = images_for(model, 2)
    for names, alone, head in (
        ((0, "kind"), kind, ("softmax", 3, True)),
        ((1, "young"), young, ("sigmoid", 2, True)),
    ):
        for output in names:
            assert debugcnn.classifier_head(model, output) == head
            for view in (debugcnn.probabilities, debugcnn.grad_cam):
                np.testing.assert_allclose(
                    view(model, images, output=output), view(alone, images), rtol=1e-3, atol=1e-6
                )
        lost = debugcnn.occlusion(model, images, 1, size=20, output=output)
        expected = debugcnn.occlusion(alone, images, 1, size=20)
        np.testing.assert_allclose(lost, expected, rtol=1e-3, atol=1e-6)
    for call in (debugcnn.classifier_head, debugcnn.default_layer):
        with pytest.raises(ValueError, match="several outputs: .*'kind' or .*'young'"):
            call(model)
    with pytest.raises(ValueError, match="not 'old'"):
        debugcnn.grad_cam(model, images, output="old")
    with pytest.raises(ValueError, match="one output only"):
        debugcnn.grad_cam(kind, images, output=3)
