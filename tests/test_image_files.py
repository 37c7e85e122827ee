"""Images of all kinds, read from files and folders."""

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import debugcnn
from debugcnn.files.images import Resizing, load_resized_variants


def ramp(height=6, width=8):
    return np.linspace(0, 255, height * width).reshape(height, width).round()


def loaded(path, channels=3, size=(6, 8)):
    (image,), _ = debugcnn.load_images(path, size, channels)
    assert image.dtype == np.float32 and image.shape == (*size, channels)
    return image


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("16.png", np.uint16(ramp() * 257)),
        ("16.tif", np.uint16(ramp() * 257)),
        ("one.tif", np.float32(ramp() / 255)),
        ("bytes.tif", np.float32(ramp())),
        ("large.tif", np.float32(ramp() * 257)),
        ("8.png", np.uint8(ramp())),
    ],
)
def test_images_with_more_than_8_bits_are_scaled(name, values, tmp_path):
    cv2.imwrite(str(tmp_path / name), values)
    for channels in (1, 3):
        image = loaded(tmp_path / name, channels)
        expected = np.repeat(ramp()[..., None], channels, -1)
        np.testing.assert_allclose(image, expected, atol=1)


@pytest.mark.parametrize(("most", "expected"), [(255, 1), (1, 0)])
def test_a_dark_image_of_16_bits_stays_dark(most, expected, tmp_path):
    cv2.imwrite(str(tmp_path / "dark.png"), np.uint16(ramp() / 255 * most))
    assert loaded(tmp_path / "dark.png").max() == expected


def test_images_are_turned_as_their_tag_says(tmp_path):
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[0] = 200  # the first row, which the tag says is the right side
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=tag)
    image = loaded(tmp_path / "turned.png", size=(8, 6))
    assert image[:, -1].min() == 200 and image[:, 0].max() == 0


@pytest.mark.parametrize(
    ("way", "rows", "columns"),
    [("squash", (0, 6), (0, 8)), ("crop", (0, 6), (0, 8)), ("pad", (1, 5), (0, 8))],
)
def test_images_are_squashed_cropped_or_padded(way, rows, columns, tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)  # twice as wide as high; into 6 x 8
    pixels[..., 0] = 100
    pixels[:, :10] = 250
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    (image,), _ = debugcnn.load_images(tmp_path / "wide.png", (6, 8), way=way)
    filled = np.argwhere(image[..., 0] > 0)
    assert filled.min(0).tolist() == [rows[0], columns[0]]
    assert (filled.max(0) + 1).tolist() == [rows[1], columns[1]]
    assert (image[3, 0] > 200).all() == (way != "crop")  # the left edge is cut off


def test_filters_of_resizing(tmp_path):
    Image.fromarray(np.uint8(np.indices((60, 80)).sum(0) % 2 * 255)).save(tmp_path / "board.png")
    (smooth,), _ = debugcnn.load_images(tmp_path / "board.png", (6, 8))
    (rough,), _ = debugcnn.load_images(tmp_path / "board.png", (6, 8), resample="nearest")
    assert np.ptp(smooth) < 40 and set(np.unique(rough)) <= {0, 255}


def test_floats_that_are_no_numbers_are_black(tmp_path):
    values = np.float32(ramp() / 255)
    values[0] = np.nan
    cv2.imwrite(str(tmp_path / "nan.tif"), values)
    image = loaded(tmp_path / "nan.tif")
    assert image[0].max() == 0 and image[-1].max() == 255


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_laid_on_white(kind, tmp_path):
    pixels = np.zeros((6, 8, 4), np.uint8)
    pixels[..., 0], pixels[:, 4:, 3] = 200, 255
    pixels[0, 0, 3] = 51  # a fifth
    image = Image.fromarray(pixels)
    if kind == "P":
        image = image.quantize(8)
    elif kind == "LA":
        image = image.convert("LA")
    image.save(tmp_path / "glass.png")
    red = {"RGBA": (200, 0, 0), "P": (200, 0, 0), "LA": (60, 60, 60)}[kind]
    image = loaded(tmp_path / "glass.png")
    assert (image[1:, :4] == 255).all()
    np.testing.assert_allclose(image[1:, 4:], np.broadcast_to(red, (5, 4, 3)), atol=1)
    if kind != "P":
        np.testing.assert_allclose(image[0, 0], 0.2 * np.array(red) + 0.8 * 255, atol=1)
    assert loaded(tmp_path / "glass.png", 4)[1:, :4, 3].max() == 0
    assert loaded(tmp_path / "glass.png", 1)[1, 0] == 255


def test_opaque_images_have_a_full_fourth_channel(tmp_path):
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "plain.png")
    assert loaded(tmp_path / "plain.png", 4)[..., 3].min() == 255


def test_height_and_width_of_images(tmp_path):
    Image.fromarray(np.uint8(np.indices((20, 10))[0] * 12)).save(tmp_path / "down.png")
    image = loaded(tmp_path / "down.png", size=(5, 9))
    assert np.ptp(image, axis=0).min() > 100 and np.ptp(image, axis=1).max() == 0


def folder_of(tmp_path, *names):
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".db", "._a.jpg")):
            (tmp_path / name).write_bytes(b"no image")
        else:
            Image.fromarray(np.full((6, 8, 3), 10 * i, np.uint8)).save(tmp_path / name)
    return tmp_path


def test_hidden_files_are_passed_over(tmp_path):
    folder_of(tmp_path, "a.jpg", "._a.jpg", ".hidden.png", "Thumbs.db", "b.webp", "c.JPEG")
    images, names = debugcnn.load_images(tmp_path, 6)
    assert names == ["a", "b", "c"] and images.shape == (3, 6, 6, 3)


def test_images_with_labels(tmp_path):
    names = [f"dog/{i}.png" for i in range(5)] + ["cat/x.png", "cat/._a.jpg", ".git/y.png"]
    folder_of(tmp_path, *names)
    (tmp_path / "empty").mkdir()
    images, names, labels, classes = debugcnn.load_labelled_images(tmp_path, (6, 8))
    assert classes == ["cat", "dog"]
    assert names == ["cat/x", "dog/0", "dog/1", "dog/2", "dog/3", "dog/4"]
    assert labels.tolist() == [0, 1, 1, 1, 1, 1]
    assert images[:, 0, 0, 0].tolist() == [50, 0, 10, 20, 30, 40]
    _, names, labels, _ = debugcnn.load_labelled_images(tmp_path, 6, limit=3)
    assert names == ["cat/x", "dog/0", "dog/2", "dog/4"] and labels.tolist() == [0, 1, 1, 1]


def test_a_folder_with_images_of_its_own_has_no_classes(tmp_path):
    folder_of(tmp_path, "a.jpg", "more/b.jpg")
    assert debugcnn.class_folders(tmp_path) == []
    assert debugcnn.class_folders(tmp_path / "a.jpg") == []
    with pytest.raises(ValueError, match="holds no folders with images, one for each class"):
        debugcnn.load_labelled_images(tmp_path, 6)


def test_wrong_images_get_a_sentence(tmp_path):
    folder_of(tmp_path, "classes/a/x.png", "none/Thumbs.db")
    for source, sentence in (
        (tmp_path / "classes", "holds no image .* directly; its folders are classes"),
        (tmp_path / "none", r"holds no image \(.jpg, .png, ...\) directly\.$"),
        (tmp_path / "lost.png", "There is no image or folder"),
        ([ROOT / "README.md"], "cannot be read as an image"),
    ):
        with pytest.raises(ValueError, match=sentence):
            debugcnn.load_images(source, 6)


def test_variants_are_those_of_single_calls(tmp_path):
    folder_of(tmp_path, "a.png", "b.jpg", "c.webp")
    pixels = np.uint8(np.indices((60, 80)).sum(0) % 2 * 255)
    Image.fromarray(pixels).save(tmp_path / "b.jpg")
    (tmp_path / "c.webp").write_bytes((tmp_path / "c.webp").read_bytes()[:40])
    files = [tmp_path / name for name in ("c.webp", "a.png", "lost.png", "b.jpg")]
    resizings = {
        "as trained": Resizing(),
        "nearest": Resizing(resample="nearest"),
        "crop": Resizing("crop"),
        "pad": Resizing("pad", "bicubic"),
    }
    variants, readable = load_resized_variants(files, (6, 9), 3, resizings)
    assert readable.tolist() == [False, True, False, True] and list(variants) == list(resizings)
    for name, (way, resample) in resizings.items():
        expected, _ = debugcnn.load_images(files[1::2], (6, 9), way=way, resample=resample)
        np.testing.assert_array_equal(variants[name], expected)


def test_unknown_ways_of_resizing_get_a_sentence(tmp_path):
    folder_of(tmp_path, "a.png")
    for options in ({"way": "stretch"}, {"resample": "best"}):
        with pytest.raises(ValueError, match=f"not with .*{list(options.values())[0]}"):
            debugcnn.load_images(tmp_path, 6, **options)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".bmp", ".tif"])
def test_a_readable_image_is_one_that_can_be_decoded_to_its_end(suffix, tmp_path):
    file = tmp_path / f"noise{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)).save(file)
    data = file.read_bytes()
    assert debugcnn.is_readable(file)
    for length in (len(data) * 3 // 4, len(data) // 4, 20, 0):
        file.write_bytes(data[:length])
        assert not debugcnn.is_readable(file), length
        with pytest.raises(ValueError, match="cannot be read as an image"):
            debugcnn.load_images(file, 6)
    assert not debugcnn.is_readable(tmp_path) and not debugcnn.is_readable(tmp_path / "lost.png")
