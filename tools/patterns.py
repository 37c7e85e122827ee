"""Draw the patterns of all filters of a model as one image, and how one grows as a GIF.

    python -m tools.patterns [MODEL] [FOLDER]

FOLDER/patterns.jpg shows all filters of MODEL, layer by layer, and FOLDER/ascent.gif one filter of
the second-to-last convolution. Without arguments, the model is the one that VisualizingCNN.ipynb
shows, and FOLDER is images/figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw

import debugcnn

if TYPE_CHECKING:
    import keras  # after debugcnn, which keeps TensorFlow quiet

SIDE, COLUMNS, MARGIN = 64, 32, 18  # pixels, tiles in a row, pixels
FILTER, STEPS = 86, (0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 18, 21, 24)  # of the GIF
HOLD = 8  # frames for which the last step stays


def sheet(model: keras.Model) -> np.ndarray:
    """The patterns of all filters, (height, width, 3) uint8 RGB, a heading above each layer."""
    parts = []
    width = COLUMNS * (SIDE + 2) - 2
    for layer in debugcnn.convolution_layers(model):
        patterns, _ = debugcnn.filter_patterns(model, layer)
        tiles = debugcnn.montage(patterns, SIDE, COLUMNS)
        tiles = np.pad(tiles, ((0, 0), (0, width - tiles.shape[1]), (0, 0)), constant_values=255)
        heading = Image.new("RGB", (width, MARGIN), "white")
        text = f"{layer}: {len(patterns)} filters, each drawn on {patterns.shape[1]} pixels"
        ImageDraw.Draw(heading).text((2, 3), text, fill="black")
        parts += [np.asarray(heading), tiles]
        print(text, flush=True)
    return np.uint8(np.clip(np.concatenate(parts), 0, 255))


def ascent(model: keras.Model, layer: str, filter_index: int, side: int = 160) -> list[np.ndarray]:
    """Frames (side, side, 3) uint8: the pattern after each number of STEPS, each from grey."""
    frames = []
    for steps in STEPS:
        pattern, _ = debugcnn.filter_patterns(model, layer, [filter_index], steps=steps)
        large = cv2.resize(pattern[0], (side, side), interpolation=cv2.INTER_CUBIC)
        frames.append(np.uint8(np.clip(large, 0, 255)))
    return frames


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.patterns", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("model", nargs="?", default="models/upright.keras")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("images/figures"))
    args = parser.parse_args(arguments)
    model = debugcnn.load_model(args.model)
    args.folder.mkdir(parents=True, exist_ok=True)
    layers = debugcnn.convolution_layers(model)
    arrays = ascent(model, layers[-2:][0], FILTER)
    frames = [Image.fromarray(array).quantize(64, dither=0) for array in arrays]
    frames += frames[-1:] * HOLD
    options = dict(save_all=True, append_images=frames[1:], duration=200, loop=0)
    frames[0].save(args.folder / "ascent.gif", **options)
    Image.fromarray(sheet(model)).save(args.folder / "patterns.jpg", quality=60, optimize=True)


if __name__ == "__main__":
    main()
