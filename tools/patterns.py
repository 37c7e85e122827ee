"""Draw what every filter of a net looks for, as one picture, and how one pattern grows, as a GIF.

    python examples/patterns.py [MODEL] [FOLDER]

FOLDER/patterns.jpg holds all filters of MODEL, layer by layer, and FOLDER/ascent.gif a filter of
the second-to-last convolution. Without arguments: of the net that
VisualizingCNN.ipynb shows, into images/figures/.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import debugcnn.quiet
import cv2
import numpy as np
from PIL import Image, ImageDraw

SIDE, COLUMNS, MARGIN = 64, 32, 18  # pixels, tiles in a row, pixels
GROWING, STEPS = 86, (0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 18, 21, 24)  # the filter of the GIF


def sheet(model):
    """RGB picture (height, width, 3) uint8 of all filters, a heading above each layer."""
    parts = []
    for layer in debugcnn.convolution_layers(model):
        patterns, _ = debugcnn.filter_patterns(model, layer)
        tiles = debugcnn.montage(patterns, SIDE, COLUMNS)
        width = COLUMNS * (SIDE + 2) - 2
        tiles = np.pad(tiles, ((0, 0), (0, width - tiles.shape[1]), (0, 0)), constant_values=255)
        heading = Image.new("RGB", (width, MARGIN), "white")
        text = f"{layer}: {len(patterns)} filters, each drawn on {patterns.shape[1]} pixels"
        ImageDraw.Draw(heading).text((2, 3), text, fill="black")
        parts += [np.asarray(heading), tiles]
        print(text, flush=True)
    return np.uint8(np.clip(np.concatenate(parts), 0, 255))


def growing(model, layer, k, side=160):
    """Frames (side, side, 3) uint8: what comes of each number of STEPS, each drawn from grey."""
    frames = []
    for steps in STEPS:
        pattern, _ = debugcnn.filter_patterns(model, layer, [k], steps=steps)
        large = cv2.resize(pattern[0], (side, side), interpolation=cv2.INTER_CUBIC)
        frames.append(np.uint8(np.clip(large, 0, 255)))
    return frames


def main(model="models/upright.keras", folder="images/figures"):
    model, folder = debugcnn.load_model(model), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    layers = debugcnn.convolution_layers(model)
    frames = growing(model, layers[-2:][0], GROWING)
    first, *more = (Image.fromarray(frame).quantize(64, dither=0) for frame in frames)
    more += more[-1:] * 8  # the last one stays for a while
    first.save(folder / "ascent.gif", save_all=True, append_images=more, duration=200, loop=0)
    Image.fromarray(sheet(model)).save(folder / "patterns.jpg", quality=60, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
