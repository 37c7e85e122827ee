"""Overlays, grids and montages of images, and how figures are shown."""

import cv2
import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from small_models import SIDE, noise

import debugcnn
from debugcnn.views import figures


def test_overlay_lays_upsampled_heatmaps_in_inferno_over_rgb():
    images = np.zeros((2, 8, 8, 3), "u1")
    images[..., 0] = 200
    heatmaps = np.zeros((2, 2, 2), "f4")
    heatmaps[0, 0, 0], heatmaps[1, 1, 1] = 4, 1
    large = [cv2.resize(h, (8, 8), interpolation=cv2.INTER_LINEAR) for h in heatmaps]
    shares = np.stack(large) / heatmaps.max()
    colours = 255 * plt.colormaps["inferno"](shares)[..., :3]
    alpha = figures.OPACITY * shares[..., None]
    expected = (1 - alpha) * images + alpha * colours
    shown = debugcnn.overlay(images, heatmaps)
    assert shown.dtype == np.uint8 and shown.shape == images.shape
    np.testing.assert_allclose(shown, expected, atol=1.01)
    assert (shown[1, 0, 0] == [200, 0, 0]).all()
    np.testing.assert_array_equal(debugcnn.overlay(images, heatmaps, peak=4), shown)
    fainter = debugcnn.overlay(images, heatmaps, peak=8)
    assert np.abs(fainter[0] - 1.0 * images[0]).sum() < np.abs(shown[0] - 1.0 * images[0]).sum()


def test_overlay_shows_values_above_the_peak_like_the_peak():
    images, heatmaps = noise(2), np.random.default_rng(0).uniform(-1, 4, (2, SIDE, SIDE))
    shown = debugcnn.overlay(images, heatmaps, peak=2)
    np.testing.assert_array_equal(shown, debugcnn.overlay(images, np.clip(heatmaps, 0, 2), 2))


def test_overlay_without_positive_values_is_the_image():
    images = noise(2)
    for heatmaps in (np.full((2, 4, 4), -3.0), np.zeros((2, 4, 4))):
        np.testing.assert_allclose(debugcnn.overlay(images, heatmaps), images, atol=1)


def test_overlay_shows_grey_images_and_other_ranges():
    grey = np.full((1, 4, 4, 1), 0.5, "f4")
    shown = debugcnn.overlay(grey, np.zeros((1, 4, 4)), value_range=(-1, 1))
    assert shown.shape == (1, 4, 4, 3) and (shown == 191).all()


def test_grid_shows_each_image_once():
    figure = debugcnn.grid(noise(5), titles="abcde", columns=3)
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(figure.axes) == 6 and len(shown) == 5
    assert [axis.get_title() for axis in figure.axes] == [*"abcde", ""]
    np.testing.assert_array_equal(shown[4], np.uint8(noise(5)[4]))
    values = noise(2)[..., 0] / 255
    maps = debugcnn.grid(values, columns=2, cmap="gray")
    np.testing.assert_array_equal(maps.axes[1].images[0].get_array(), values[1])
    assert maps.axes[0].images[0].get_cmap().name == "gray"
    plt.close("all")


def test_grid_is_as_high_as_its_images():
    maps = np.zeros((5, 10, 20), "f4")
    assert debugcnn.grid(maps, columns=3, side=2).get_size_inches().tolist() == [6, 2]
    titled = debugcnn.grid(maps, titles="abcde", columns=3, side=2)
    assert titled.get_size_inches().tolist() == [6, 2.5]
    plt.close("all")


def test_montage_puts_every_tile_at_its_position():
    maps = np.arange(5, dtype="f4")[:, None, None] * np.ones((5, 4, 4), "f4") + 1
    picture = debugcnn.montage(maps, 6, columns=3, gap=2)
    assert picture.shape == (14, 22)
    np.testing.assert_allclose(picture[2:14:8, 2:22:8], [[1, 2, 3], [4, 5, 0]])
    assert (picture[6:8] == 0).all() and (picture[:, 6:8] == 0).all()
    patterns = debugcnn.montage(noise(2), 8)
    assert patterns.shape == (8, 18, 3) and (patterns[:, 8:10] == 255).all()


def test_show_displays_a_small_jpeg_and_closes_the_figure(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    debugcnn.show(debugcnn.grid(noise(2)))
    assert shown[0].data[:3] == b"\xff\xd8\xff" and not plt.get_fignums()
    debugcnn.show(debugcnn.grid(noise(2)), "Two images of noise.", quality=90)
    assert shown[1].alt == "Two images of noise." and len(shown[1].data) > len(shown[0].data)
    debugcnn.show(debugcnn.grid(noise(2)), format="png")
    assert shown[2].data[:4] == b"\x89PNG"


def test_to_rgb_of_any_number_of_channels():
    images = np.arange(16.0).reshape(1, 2, 2, 4)
    np.testing.assert_array_equal(debugcnn.to_rgb(images), images[..., :3])
    np.testing.assert_array_equal(
        debugcnn.to_rgb(images[..., :1]), np.repeat(images[..., :1], 3, -1)
    )
    assert (debugcnn.to_rgb(np.full((1, 2, 2, 3), np.nan)) == 127.5).all()


@pytest.mark.parametrize("count", [1, 30])
def test_the_drawing_of_few_and_of_many_layers(count):
    convolutions = [keras.layers.Conv2D(4, 3, padding="same") for _ in range(count)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *convolutions])
    figure = debugcnn.layers_figure(debugcnn.layer_table(model))
    up, down = figure.axes
    assert len(up.patches) == len(down.patches) == count
    texts = [text.get_text() for text in [*up.texts, *down.texts]]
    assert texts.count("8 x 8") == 1 and texts.count("4") == 1
    plt.close(figure)
