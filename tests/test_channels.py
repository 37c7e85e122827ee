"""Where a convolution ends, and what its channels return over many images."""

import numpy as np
from keras import layers
from small_models import chain

import debugcnn


def test_ends_and_channels_that_never_change():
    model = chain(
        layers.Conv2D(4, 3, name="first"),
        layers.BatchNormalization(),
        layers.ReLU(name="relu"),
        layers.Conv2D(2, 3, activation="relu", name="second"),
    )
    second = model.get_layer("second")
    kernel, bias = second.get_weights()
    kernel[..., 0], kernel[..., 1], bias[:] = 0.1, 0, [1, -1]  # one that changes, one that cannot
    second.set_weights([kernel, bias])
    assert debugcnn.convolution_ends(model) == ["relu", "second"]
    images = np.random.default_rng(0).uniform(0, 1, (6, *model.input_shape[1:])).astype("f4")
    summaries = debugcnn.summarize_channels(model, np.tile(images, (7, 1, 1, 1)))
    assert list(summaries) == ["first", "relu", "second", "decide"]
    constant, count, not_finite, highest, is_map = summaries["second"]
    assert (constant, count, not_finite, is_map) == (1, 2, 0, True)
    maps = debugcnn.activations(model, images, ["second"])["second"]
    assert highest == np.float32(maps.max())
    assert debugcnn.summarize_channels(model, images[:1])["second"].constant == 1
    kernel[..., 0], bias[:] = 0, [np.inf, -1]
    second.set_weights([kernel, bias])
    assert debugcnn.summarize_channels(model, images)["second"][:3] == (2, 2, maps.size // 2)
