"""The image of all patterns of a model, and the film of one."""

import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageSequence

from tools import patterns


def test_all_patterns_are_drawn_and_one_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(patterns, "STEPS", (0, 4, 24))
    monkeypatch.setattr(patterns, "FILTER", 9)
    layers = [
        keras.Input((16, 16, 3)),
        keras.layers.Conv2D(40, 3, name="first"),
        keras.layers.Conv2D(4, 3, name="second"),
    ]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    patterns.main([str(tmp_path / "model.keras"), str(tmp_path / "out")])
    sheet = cv2.imread(str(tmp_path / "out" / "patterns.jpg"))
    # 40 filters fill two rows of 32, and 4 filters one, with a heading above each layer.
    assert sheet.shape == (2 * 18 + 2 * 66 - 2 + 64, 32 * 66 - 2, 3)
    assert sheet[-30, 300:].min() > 240 and sheet[-30, :200].std() > 5
    with Image.open(tmp_path / "out" / "ascent.gif") as film:
        frames = [np.asarray(film.convert("RGB"), float) for _ in ImageSequence.Iterator(film)]
    assert len(frames) == 3 and frames[0].std() < 12 < frames[-1].std()


@pytest.mark.slow  # the command itself is tested above, in process
def test_the_command_starts():
    command = [sys.executable, "-m", "tools.patterns", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tools.patterns" in done.stdout and not done.stderr
