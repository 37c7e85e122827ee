"""What keeps a training going, beside what test_notebooks.py sees of it."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from debugcnn import hardware, training


def compiled():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid")])
    optimizer = keras.optimizers.AdamW(0.1)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"], run_eagerly=True)
    return model


def fitted(folder, epochs, model=None, settings=(1,), every=1):
    """A model after that many epochs of 4 steps in all, and its Training."""
    model = model or compiled()
    state = training.Training(folder, model, 4, list(settings), every)
    state.side = 2
    x = np.random.default_rng(0).normal(size=(8, 2))
    y = x[:, :1] > 0
    model.fit(
        x,
        y,
        batch_size=2,
        initial_epoch=state.done,
        epochs=epochs,
        validation_data=(x, y),
        callbacks=[state],
        shuffle=False,
        verbose=0,
    )
    return model, state


def test_a_training_in_two_parts_ends_like_one(tmp_path):
    whole, _ = fitted(tmp_path / "whole", 4)
    first = fitted(tmp_path / "parts", 2)[1].history
    parts, state = fitted(tmp_path / "parts", 4)
    assert state.history[:2] == first  # with their seconds: they were not trained again
    for one, other in zip(whole.get_weights(), parts.get_weights()):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert [line["epoch"] for line in state.history] == [1, 2, 3, 4]
    assert state.history == json.loads((tmp_path / "parts" / "history.json").read_text())


def test_an_empty_folder_starts_from_the_model_as_it_is(tmp_path):
    model, _ = fitted(tmp_path / "first", 2)
    before = [weight.copy() for weight in model.get_weights()]
    _, state = fitted(tmp_path / "first" / "second", 2, model)
    assert state.done == 2 and state.history == []
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))
    _, state = fitted(tmp_path / "first" / "second", 3, model)
    assert [line["epoch"] for line in state.history] == [3]


def test_what_was_written_after_the_last_weights_is_forgotten(tmp_path):
    fitted(tmp_path, 2)
    file = tmp_path / "history.json"
    lines = json.loads(file.read_text())
    file.write_text(json.dumps([*lines, lines[-1] | {"epoch": 3}]))
    _, state = fitted(tmp_path, 2)
    assert [line["epoch"] for line in state.history] == [1, 2]


def test_every_second_epoch_is_printed_also_when_it_is_done_already(tmp_path, capsys):
    fitted(tmp_path, 4, every=2)
    first = capsys.readouterr().out
    assert [line.split()[1] for line in first.splitlines()] == ["2", "4"]
    fitted(tmp_path, 4, every=2)
    assert capsys.readouterr().out == first


def test_other_settings_are_refused(tmp_path):
    fitted(tmp_path, 1)
    with pytest.raises(ValueError, match="other images or parameters"):
        fitted(tmp_path, 1, settings=(2,))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not know it")
def test_the_peak_of_the_memory_is_in_bytes_and_stays_when_it_was_given_back():
    program = (
        "from debugcnn.hardware import peak_memory\n"
        "peaks = [peak_memory()]\n"
        "large = b'x' * 2**28\n"
        "peaks.append(peak_memory())\n"
        "del large\n"
        "print(*peaks, peak_memory())"
    )
    root = Path(hardware.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, check=True)
    before, during, after = map(int, run.stdout.split())
    assert 2**27 < during - before < 2**29
    assert abs(after - during) < 2**24  # Linux counts some pages late


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("sse avx2 fma", "float32"),
        ("avx512f avx512_bf16", "mixed_bfloat16"),
        ("amx_bf16 amx_tile", "mixed_bfloat16"),
    ],
)
def test_short_numbers_are_taken_where_the_processor_computes_in_them(flags, policy, monkeypatch):
    monkeypatch.setattr(hardware.Path, "exists", lambda file: True)
    monkeypatch.setattr(hardware.Path, "read_text", lambda file: f"flags\t: {flags}\n")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert hardware.precision() == policy


def test_the_machine_has_a_name():
    assert "cores" in hardware.hardware() or "GPU" in hardware.hardware()


def test_the_fused_normalisation_does_what_the_plain_one_does():
    x = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 7)).astype(np.float32)
    plain, fused = keras.layers.BatchNormalization(), training.FusedBatchNormalization()
    np.testing.assert_allclose(plain(x, training=True), fused(x, training=True), atol=1e-4)
    np.testing.assert_allclose(plain.moving_mean, fused.moving_mean, rtol=1e-4)
    # Keras keeps the variance of the images, the fused layer the unbiased one.
    count = 4 * 5 * 6
    grown = (np.asarray(fused.moving_variance) - 0.99) / (np.asarray(plain.moving_variance) - 0.99)
    np.testing.assert_allclose(grown, count / (count - 1), rtol=1e-3)
    fused.moving_variance.assign(plain.moving_variance)
    np.testing.assert_allclose(plain(x), fused(x), atol=1e-4)
