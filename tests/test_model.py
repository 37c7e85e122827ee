"""The trained models that the repository ships, and the numbers that the pages report of them."""

import json

import keras
import numpy as np
import pytest
from conftest import ROOT, is_the_small_copy
from scipy.stats import norm

import debugcnn
from debugcnn import separator

MODEL = ROOT / "models" / "cats_vs_dogs.keras"
UPRIGHT = MODEL.with_name("upright.keras")
METRICS = json.loads((ROOT / "models" / "metrics.json").read_text())
ROTATIONS = ("upside down", "on the left side", "on the right side")


@pytest.fixture(scope="module")
def model():
    return debugcnn.load_model(MODEL)


@pytest.fixture(scope="module")
def upright():
    return debugcnn.load_model(UPRIGHT)


def test_it_is_small_and_plain(model):
    side = METRICS["image_size"]
    assert MODEL.stat().st_size < 10e6
    assert model.count_params() == METRICS["parameters"] <= 1.5e6
    assert model.input_shape == (None, side, side, 3)
    assert model.output_shape == (None, 1)
    assert getattr(model, "optimizer", None) is None
    assert {weight.dtype for weight in model.weights} == {"float32"}


def test_its_last_map_is_fine_enough_for_a_heatmap(model):
    images = np.zeros((1, *model.input_shape[1:]))
    assert list(debugcnn.activations(model, images).values())[-1].shape[1] >= 16


def test_it_knows_the_shipped_pets(model):
    files = [ROOT / "images" / f"{name}.jpg" for name in ("chelsea", "kitten", "german_shepherd")]
    images, _ = debugcnn.load_images(files, METRICS["image_size"])
    assert (model.predict(images, verbose=0)[:, 0] > 0.5).tolist() == [False, False, True]


@pytest.mark.parametrize("file", [MODEL, UPRIGHT], ids=lambda file: file.stem)
def test_the_stored_responses_are_those_of_its_filters(file, model, upright):
    model = model if file == MODEL else upright
    stored = np.load(file.with_name(f"{file.stem}_filters.npz"))
    assert stored["digest"] == debugcnn.model_digest(model)
    images, _ = debugcnn.load_images(ROOT / "images", model.input_shape[1])
    for layer in debugcnn.convolution_layers(model):
        highest = stored[f"{layer}/highest"]
        assert highest.shape == stored[f"{layer}/fires"].shape
        # Four images cannot often beat two thousand.
        assert np.mean(debugcnn.responses(model, images, layer).max(axis=0) > highest) < 0.3


def test_the_interval_is_wilsons():
    """The bounds are where a score test would just not reject: (p - p0)^2 = z^2 p0 (1 - p0) / n."""
    for bound in METRICS["test_interval"]:
        score = (METRICS["test_accuracy"] - bound) ** 2
        variance = norm.ppf(0.975) ** 2 * bound * (1 - bound) / METRICS["test_photos"]
        assert score == pytest.approx(variance, rel=1e-6)


def test_the_numbers_agree_with_each_other():
    assert sum(map(sum, METRICS["confusion"])) == METRICS["test_photos"]
    correct = METRICS["confusion"][0][0] + METRICS["confusion"][1][1]
    assert correct / METRICS["test_photos"] == pytest.approx(METRICS["test_accuracy"])
    assert sum(METRICS["counts"]["test"].values()) == METRICS["test_photos"]
    assert METRICS["upright"]["seconds"] < 90 * 60
    assert METRICS["seconds"] <= 120 * 60  # with the fine-tuning on rotated photos
    assert METRICS["pipeline_share"] <= 0.2


@pytest.mark.parametrize("page", ["README.md", "models/README.md"])
def test_the_pages_report_the_measured_numbers(page):
    text = (ROOT / page).read_text()
    low, high = METRICS["test_interval"]
    numbers = [
        f"{METRICS['test_accuracy']:.1%}",
        f"{low:.1%} to {high:.1%}",
        f"{METRICS['validation_accuracy']:.1%}",
        f"{METRICS['test_photos']:,}",
        f"{METRICS['parameters']:,}",
        f"{METRICS['seconds'] / 60:.0f} minutes",
    ]
    for measured in (METRICS["upright"], METRICS):
        numbers += [f"{measured['validation_changed'][rotation]:.1%}" for rotation in ROTATIONS]
    assert [number for number in numbers if number not in text] == []


def test_the_model_was_trained_further_from_the_upright_one(model, upright):
    measured = METRICS["upright"]
    assert UPRIGHT.stat().st_size < 5e6
    assert upright.input_shape == (None, measured["image_size"], measured["image_size"], 3)
    assert [w.shape for w in model.weights] == [w.shape for w in upright.weights]
    assert measured["epochs"] < len(METRICS["history"])
    assert measured["seconds"] < METRICS["seconds"]
    for before, after in zip(upright.weights, model.weights):
        if before.name == "kernel" and len(before.shape) == 4:  # some epochs do not move far
            assert np.corrcoef(before.numpy().ravel(), after.numpy().ravel())[0, 1] > 0.3


def test_the_fix_improves_rotated_images_and_costs_nothing():
    before, after = METRICS["upright"]["validation_changed"], METRICS["validation_changed"]
    assert min(after[r] for r in ROTATIONS) >= 0.92 > max(before[r] for r in ROTATIONS)
    assert after["as it is"] >= before["as it is"] - 0.003
    assert METRICS["calibration_error"] < 0.02
    assert METRICS["peak_memory_bytes"] < 3e9


@pytest.mark.slow  # needs the photos; the numbers themselves are tested above
def test_its_accuracy_on_the_test_photos(model, real_archive, tmp_path):
    if not is_the_small_copy(real_archive):
        pytest.skip("the accuracy was measured on the copy at 180 x 180 pixels")
    separator.main([str(real_archive), "--output", str(tmp_path / "data")])
    batches = keras.utils.image_dataset_from_directory(
        tmp_path / "data" / "test",
        class_names=["cats", "dogs"],
        image_size=model.input_shape[1:3],
        interpolation="area",
        shuffle=False,
        batch_size=128,
        verbose=False,
    )
    correct = total = 0
    for images, labels in batches:
        predicted = model.predict_on_batch(np.rint(images))[:, 0] > 0.5
        correct += int(np.sum(predicted == labels.numpy()))
        total += len(predicted)
    assert total == METRICS["test_photos"]
    # Float rounding may change an uncertain prediction.
    assert abs(correct - METRICS["test_accuracy"] * total) <= 2
