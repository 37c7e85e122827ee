"""The example: drawn shapes, and the model that was trained on them."""

import cv2
import numpy as np
from conftest import ROOT
from keras import layers

import debugcnn
from examples import shapes

MODEL, IMAGES = ROOT / "examples" / "shapes.keras", ROOT / "examples" / "shapes"


def test_shapes_are_drawn_alike_each_time():
    first, labels = shapes.draw_many(8, np.random.default_rng([0, 1]))
    again, _ = shapes.draw_many(8, np.random.default_rng([0, 1]))
    assert first.shape == (8, shapes.HEIGHT, shapes.WIDTH, 3)
    assert labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    np.testing.assert_array_equal(first, again)
    committed = cv2.imread(str(IMAGES / "circle" / "circle-01.png"))[..., ::-1]
    assert np.abs(committed.astype(int) - first[0]).max() <= 2


def test_the_example_model_takes_0_to_1_and_is_mostly_correct():
    model = debugcnn.load_model(MODEL)
    assert not [layer for layer in model.layers if isinstance(layer, layers.Rescaling)]
    assert model.count_params() <= 60_000
    assert MODEL.stat().st_size < 500_000
    images = debugcnn.load_labelled(model, IMAGES)
    assert images.class_names == shapes.CLASSES
    assert len(images.labels) == shapes.KEPT * len(shapes.CLASSES)
    predicted = debugcnn.probabilities(model, images.pixels / 255).argmax(1)
    assert 0.85 < np.mean(predicted == images.labels) < 1
