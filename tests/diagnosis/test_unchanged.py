"""A diagnosis is the same each time, and changes neither the model nor the images."""

import numpy as np
import pytest
from faulty_cases import FAULTS, diagnosed, report_of
from tiny_classifiers import (
    colours,
    mean_colour_reader,
)

import debugcnn

single_unit = pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")


def test_a_diagnosis_is_the_same_each_time():
    again = diagnosed.__wrapped__("label_noise")
    assert again.report.to_json() == report_of("label_noise").to_json()


def assert_unchanged(model, weights, calls):
    assert all(np.array_equal(a, b, True) for a, b in zip(weights, model.get_weights()))
    assert not any("call" in vars(layer) for layer in model.layers)
    assert {layer.name: layer.call for layer in model.layers} == calls


@single_unit
@pytest.mark.parametrize("name", FAULTS)
def test_model_and_images_are_left_as_they_are(name):
    before = diagnosed(name)
    assert_unchanged(before.model, before.weights, before.calls)
    for array, copy in zip(before.arrays, before.copies):
        np.testing.assert_array_equal(array, copy)


def test_images_may_be_read_only():
    images, labels = colours(40)
    images.flags.writeable = labels.flags.writeable = False
    report = debugcnn.diagnose(mean_colour_reader(), images, labels, value_range=(0, 1))
    assert report.images == 40


def test_a_model_is_left_as_it_is_where_a_person_stops():
    model, images, labels, _ = FAULTS["batch_statistics"]()
    weights = [np.array(weight) for weight in model.get_weights()]
    calls = {layer.name: layer.call for layer in model.layers}

    def progress(steps):
        for step in steps:
            if step.cause == "leak":
                raise KeyboardInterrupt
            yield step

    with pytest.raises(KeyboardInterrupt):
        debugcnn.diagnose(model, images, labels, value_range=(0, 1), progress=progress)
    assert_unchanged(model, weights, calls)


def test_an_error_inside_a_layer_leaves_the_model_as_it_is(monkeypatch):
    model, images, labels, _ = FAULTS["batch_statistics"]()
    calls = {layer.name: layer.call for layer in model.layers}

    def fails(*args, **options):
        raise MemoryError

    monkeypatch.setattr("debugcnn.diagnosis.layers.logits_in_graph", fails)
    with pytest.raises(MemoryError):
        debugcnn.diagnose(model, images, labels, value_range=(0, 1))
    assert_unchanged(model, model.get_weights(), calls)
