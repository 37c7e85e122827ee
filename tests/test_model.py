"""The trained model that the repository ships, and the numbers that are told of it."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import is_the_small_copy
from scipy.stats import norm

import debugcnn.quiet

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "cats_vs_dogs.keras"
UPRIGHT = MODEL.with_name("upright.keras")
METRICS = json.loads((ROOT / "models" / "metrics.json").read_text())
WAYS = ("upside down", "on the left side", "on the right side")


@pytest.fixture(scope="module")
def model():
    return debugcnn.load_model(MODEL)


def test_it_is_small_and_plain(model):
    side = METRICS["image_size"]
    assert MODEL.stat().st_size < 10e6
    assert model.count_params() == METRICS["parameters"] <= 1.5e6
    assert model.input_shape == (None, side, side, 3)
    assert model.output_shape == (None, 1)
    assert getattr(model, "optimizer", None) is None
    assert {weight.dtype for weight in model.weights} == {"float32"}


def test_its_last_map_is_fine_enough_for_a_heatmap(model):
    photos = np.zeros((1, *model.input_shape[1:]))
    assert list(debugcnn.activations(model, photos).values())[-1].shape[1] >= 16


def test_it_knows_the_shipped_pets(model):
    pets = [ROOT / "images" / f"{name}.jpg" for name in ("chelsea", "kitten", "german_shepherd")]
    photos, _ = debugcnn.load_images(pets, METRICS["image_size"])
    assert (model.predict(photos, verbose=0)[:, 0] > 0.5).tolist() == [False, False, True]


@pytest.mark.parametrize("file", [MODEL, UPRIGHT], ids=lambda file: file.stem)
def test_the_stored_responses_are_those_of_its_filters(file):
    model = debugcnn.load_model(file)
    stored = np.load(file.with_name(f"{file.stem}_filters.npz"))
    assert stored["digest"] == debugcnn.model_digest(model)
    photos, _ = debugcnn.load_images(ROOT / "images", model.input_shape[1])
    for layer in debugcnn.convolution_layers(model):
        highest = stored[f"{layer}/highest"]
        assert highest.shape == stored[f"{layer}/fires"].shape
        # Four photos cannot often beat two hundred.
        assert np.mean(debugcnn.responses(model, photos, layer).max(axis=0) > highest) < 0.3


def test_the_interval_is_wilsons():
    """The bounds are where a score test would just not reject: (p - p0)^2 = z^2 p0 (1 - p0) / n."""
    for bound in METRICS["test_interval"]:
        score = (METRICS["test_accuracy"] - bound) ** 2
        variance = norm.ppf(0.975) ** 2 * bound * (1 - bound) / METRICS["test_photos"]
        assert score == pytest.approx(variance, rel=1e-6)


def test_the_numbers_fit_together():
    assert sum(map(sum, METRICS["confusion"])) == METRICS["test_photos"]
    right = METRICS["confusion"][0][0] + METRICS["confusion"][1][1]
    assert right / METRICS["test_photos"] == pytest.approx(METRICS["test_accuracy"])
    assert sum(METRICS["counts"]["test"].values()) == METRICS["test_photos"]
    assert METRICS["upright"]["seconds"] < 90 * 60
    assert METRICS["seconds"] <= 120 * 60  # with the cure
    assert METRICS["pipeline_share"] <= 0.2


@pytest.mark.parametrize("page", ["README.md", "models/README.md"])
def test_a_page_tells_the_measured_numbers(page):
    text = (ROOT / page).read_text()
    low, high = METRICS["test_interval"]
    for number in (
        f"{METRICS['test_accuracy']:.1%}",
        f"{low:.1%} to {high:.1%}",
        f"{METRICS['validation_accuracy']:.1%}",
        f"{METRICS['test_photos']:,}",
        f"{METRICS['parameters']:,}",
        f"{METRICS['seconds'] / 60:.0f} minutes",
    ):
        assert number in text, f"{number} is not in {page}"


def test_the_cured_net_is_the_same_net_trained_on(model):
    before = debugcnn.load_model(UPRIGHT)
    told = METRICS["upright"]
    assert UPRIGHT.stat().st_size < 5e6
    assert before.input_shape == (None, told["image_size"], told["image_size"], 3)
    assert [w.shape for w in model.weights] == [w.shape for w in before.weights]
    assert told["epochs"] < len(METRICS["history"])
    assert told["seconds"] < METRICS["seconds"]
    for ours, other in zip(before.weights, model.weights):
        if ours.name == "kernel" and len(ours.shape) == 4:  # some epochs do not move far
            assert np.corrcoef(ours.numpy().ravel(), other.numpy().ravel())[0, 1] > 0.3


def test_the_cure_cures():
    before, after = METRICS["upright"]["validation_changed"], METRICS["validation_changed"]
    assert min(after[way] for way in WAYS) >= 0.92 > max(before[way] for way in WAYS)
    assert after["as it is"] >= before["as it is"] - 0.003
    assert METRICS["calibration_error"] < 0.02
    assert METRICS["peak_memory_bytes"] < 3e9


def test_the_pages_tell_what_was_turned():
    for page in ("README.md", "models/README.md"):
        text = (ROOT / page).read_text()
        for way in WAYS:
            before, after = (m["validation_changed"][way] for m in (METRICS["upright"], METRICS))
            assert f"{before:.1%}" in text and f"{after:.1%}" in text, f"{way} on {page}"


def test_its_accuracy_on_the_test_photos(model, real_archive, tmp_path):
    if not is_the_small_copy(real_archive):
        pytest.skip("the accuracy was measured on the copy at 180 x 180 pixels")
    command = [sys.executable, ROOT / "data_separator.py", real_archive, "--output"]
    subprocess.run([*command, tmp_path / "data"], check=True, capture_output=True)
    rows = keras.utils.image_dataset_from_directory(
        tmp_path / "data" / "test",
        class_names=["cats", "dogs"],
        image_size=model.input_shape[1:3],
        interpolation="area",
        shuffle=False,
        batch_size=128,
        verbose=False,
    )
    right = total = 0
    for photos, labels in rows:
        answers = model.predict_on_batch(np.rint(photos))[:, 0] > 0.5
        right += int(np.sum(answers == labels.numpy()))
        total += len(answers)
    assert total == METRICS["test_photos"]
    assert (
        abs(right - METRICS["test_accuracy"] * total) <= 2
    )  # float rounding may turn a doubtful one
