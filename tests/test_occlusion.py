"""Occlusion of a model whose logit is known."""

import keras
import numpy as np
import pytest
from keras import layers

import debugcnn


def corner_model():
    """Its logit is the mean brightness of the pixels at the top right."""
    images = keras.Input((20, 30, 3))
    corner = layers.Cropping2D(((0, 14), (22, 0)))(images)
    model = keras.Model(images, layers.Dense(1)(layers.GlobalAveragePooling2D()(corner)))
    model.layers[-1].set_weights([np.full((3, 1), 1 / 3), np.zeros(1)])
    return model


def test_occlusion_is_the_loss_of_the_logit():
    model = corner_model()
    images = np.full((2, 20, 30, 3), 200, "f4")
    images[1] = 50
    lost = debugcnn.occlusion(model, images, 1, size=4, stride=4)
    # A square in the corner occludes 16 of its 48 pixels: 200 becomes 127.5 there.
    assert lost[0, 0, 29] == pytest.approx((200 - 127.5) * 16 / 48, rel=1e-4)
    assert lost[1, 0, 29] == pytest.approx((50 - 127.5) * 16 / 48, rel=1e-4)
    assert (lost[0, 8:] == 0).all() and (lost[0, :, :20] == 0).all()
    np.testing.assert_allclose(debugcnn.occlusion(model, images, 0, size=4, stride=4), -lost)
    np.testing.assert_allclose(debugcnn.occlusion(model, images, size=4, stride=4), lost)
    each = debugcnn.occlusion(model, images, [1, 0], size=4, stride=4)
    np.testing.assert_allclose(each, lost * np.float32([1, -1])[:, None, None])


def test_occlusion_reaches_every_pixel_and_takes_other_values():
    model = corner_model()
    image = np.ones((1, 20, 30, 3), "f4")
    lost = debugcnn.occlusion(model, image, 1, size=7, stride=5, value_range=(-1, 1))
    assert np.isfinite(lost).all()
    assert lost[0, 0, -1] == pytest.approx(1 * 6 * 7 / 48, rel=1e-4)
    assert lost.max() <= 1
    np.testing.assert_array_equal(
        debugcnn.occlusion(model, image, 1),
        debugcnn.occlusion(model, image, 1, size=20 // 5, stride=2),
    )
    for wrong in ({"size": 21}, {"size": -1}, {"stride": -2}):
        with pytest.raises(ValueError, match="do not fit images of 20 x 30"):
            debugcnn.occlusion(model, image, 1, **wrong)
    with pytest.raises(ValueError, match="target 2 is no class"):
        debugcnn.occlusion(model, image, 2)
