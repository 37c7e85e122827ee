"""What .github/SECURITY.md promises for files from strangers, one hostile file for each promise."""

import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib

import h5py
import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import debugcnn
from debugcnn import separator
from debugcnn.files import archives, decoding, hdf5, keras_archive
from debugcnn.files.images import Resizing, load_resized_variants

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")
SUFFIXES = [".keras", ".h5"]
TRUST = "if you trust the file, call load_model with safe_mode=False"


@pytest.fixture(autouse=True)
def no_hang():
    """A test that waits for a pipe, or loops, fails instead."""
    if os.name != "posix":
        yield
        return

    def fail(*_):
        raise TimeoutError("the test takes more than a minute")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def sequential(*layers):
    """The description of a model of Keras 3 for images of 8 x 8 pixels."""
    return keras.saving.serialize_keras_object(
        keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.Flatten(name="end")])
    )


def entry(kind, module="keras.layers", **config):
    """The description of an object as Keras 3 writes it."""
    config = {"name": kind.lower()} | config if module == "keras.layers" else config
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def function(full_name):
    module, _, name = full_name.rpartition(".")
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def with_layers(*entries):
    """A description with these layers, of any kind, in place of those of a model."""
    config = sequential()
    config["config"]["layers"][1:1] = entries
    return config


def weights_of(fill=lambda file: None):
    """The bytes of an HDF5 file that a function fills."""
    with h5py.File(data := io.BytesIO(), "w") as file:
        fill(file)
    return data.getvalue()


def keras_file(path, config, version="3.14.0", fill=lambda file: None, packed=0, **more):
    """A .keras file; `more` are other entries, or other contents of these."""
    entries = {
        "metadata.json": json.dumps({"keras_version": version}),
        "config.json": json.dumps(config),
        "model.weights.h5": weights_of(fill),
    }
    with zipfile.ZipFile(path, "w", packed) as file:
        for name, data in (entries | {k.replace("_", "."): v for k, v in more.items()}).items():
            file.writestr(name, data)
    return path


def h5_file(path, config, version="3.14.0", fill=lambda file: None):
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = version
        file.create_group("model_weights").attrs["layer_names"] = []
        fill(file["model_weights"])
    return path


def model_file(tmp_path, suffix, config, *options, **more):
    write = keras_file if suffix == ".keras" else h5_file
    return write(tmp_path / f"model{suffix}", config, *options, **more)


def refused(path, match, memory=300 * 2**20, **options):
    """The sentence with which a file is refused, in bounded time and memory."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(ValueError, match=match) as error:
            debugcnn.load_model(path, **options)
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < 20
    sentence = str(error.value)
    assert "\n" not in sentence and "\x1b" not in sentence and "Traceback" not in sentence
    return sentence


# Code in models

GALLERY = "keras.visualization.plot_image_gallery"
PLACES = {
    "function of a Lambda layer": lambda f: entry("Lambda", function=f, arguments={}),
    "mask of a Lambda layer": lambda f: entry("Lambda", function=function("keras.ops.abs"), mask=f),
    "output shape of a Lambda layer": lambda f: entry(
        "Lambda", function=function("keras.ops.abs"), output_shape=f
    ),
    "arguments of a Lambda layer": lambda f: entry(
        "Lambda", function=function("keras.ops.map"), arguments={"f": f}
    ),
    "activation": lambda f: entry("Activation", activation=f),
    "activation of a convolution": lambda f: entry(
        "Conv2D", filters=2, kernel_size=3, activation=f
    ),
    "initializer": lambda f: entry("Conv2D", filters=2, kernel_size=3, kernel_initializer=f),
    "layer in a layer": lambda f: entry("TimeDistributed", layer=entry("Activation", activation=f)),
    "compiled model in a model": lambda f: sequential() | {"compile_config": {"loss": f}},
}
REACHING_OUT = {
    "writes an image": function(GALLERY),
    "writes an image, as a class": entry("plot_image_gallery", "keras.visualization"),
    "opens a file": function("keras.saving.KerasFileEditor"),
    "loads a SavedModel": function("keras.layers.TFSMLayer"),
    "downloads data": function("keras.datasets.mnist.load_data"),
    "downloads weights": function("keras.applications.VGG16"),
    "downloads weights, as a class": entry("VGG16", "keras.applications"),
    "resolves names": function("keras.activations.deserialize"),
    "hidden": function("keras._legacy.preprocessing.image.apply_affine_transform"),
    "hidden, as a class": entry("apply_affine_transform", "keras._legacy.preprocessing.image"),
    "Python code": {"class_name": "__lambda__", "config": {"code": "4wAA", "defaults": None}},
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("place", PLACES)
def test_a_function_that_does_more_than_compute_needs_permission_anywhere(tmp_path, place, suffix):
    if place == "compiled model in a model" and suffix == ".keras":
        pytest.skip("what belongs to training is left out, as a test below shows")
    path = model_file(tmp_path, suffix, with_layers(PLACES[place](function(GALLERY))))
    assert GALLERY in refused(path, TRUST)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", REACHING_OUT)
def test_functions_that_reach_out_need_permission(tmp_path, kind, suffix):
    layer = entry("Lambda", function=REACHING_OUT[kind], arguments={})
    refused(model_file(tmp_path, suffix, with_layers(layer)), TRUST)


def test_what_belongs_to_training_is_left_out_also_of_a_model_in_a_model(tmp_path):
    inner = sequential() | {"compile_config": {"loss": function(GALLERY), "optimizer": "adam"}}
    inner["config"]["name"] = "inner"
    config = with_layers(inner) | {"compile_config": {"loss": function(GALLERY)}}
    model = debugcnn.load_model(keras_file(tmp_path / "model.keras", config))
    assert not model.compiled and not model.get_layer("inner").compiled


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_keras_sees_only_what_has_permission(tmp_path, suffix, monkeypatch):
    seen = []
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **how: seen.append(how["safe_mode"]))
    layer = entry("Lambda", function=function(GALLERY), arguments={})
    path = model_file(tmp_path, suffix, with_layers(layer))
    refused(path, TRUST)
    assert not seen
    debugcnn.load_model(path, safe_mode=False)
    assert seen == [False]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("full_name", "expected"),
    [
        ("keras.ops.negative", lambda x: -x),
        ("keras.ops.relu", lambda x: np.maximum(x, 0)),
        ("keras.activations.tanh", np.tanh),
        ("keras.applications.mobilenet_v2.preprocess_input", lambda x: x / 127.5 - 1),
    ],
)
def test_functions_that_compute_need_none(tmp_path, full_name, expected, suffix):
    layer = entry("Lambda", function=function(full_name), arguments={}, output_shape=[8, 8, 3])
    path = model_file(tmp_path, suffix, with_layers(layer))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    result = debugcnn.load_model(path)(x)
    np.testing.assert_allclose(result, expected(x).reshape(2, -1), atol=1e-5)


def test_functions_of_the_user_need_none(tmp_path):
    layer = entry("Lambda", function=function("builtins.double"), arguments={})
    path = keras_file(tmp_path / "model.keras", with_layers(layer))
    refused(path, "needs the class 'double', which is not part of Keras")
    model = debugcnn.load_model(path, custom_objects={"double": lambda x: 2 * x})
    np.testing.assert_allclose(model(np.ones((1, 8, 8, 3))), 2)


KERAS_2 = {
    "class_name": "Sequential",
    "config": {
        "name": "model",
        "layers": [
            {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 8, 8, 3]}},
            {"class_name": "Flatten", "config": {"name": "flatten"}},
            {"class_name": "Dense", "config": {"name": "dense", "units": 2}},
        ],
    },
}


def keras_2(kind, **config):
    """A description as of Keras 2 with one more layer."""
    description = json.loads(json.dumps(KERAS_2))
    layer = {"class_name": kind, "config": {"name": "more"} | config}
    description["config"]["layers"].insert(1, layer)
    return description


CODE = ["4wAAAAAAAAAA", None, None]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "layer",
    [
        keras_2("Lambda", function=CODE, function_type="lambda"),
        keras_2("Lambda", function="plot_image_gallery", module="keras.visualization"),
        keras_2("Lambda", function=function("keras.ops.abs"), output_shape=CODE),
        keras_2("Activation", activation=function(GALLERY)),
    ],
    ids=["code", "name", "code for the shape", "activation"],
)
def test_the_same_holds_for_files_of_keras_2(tmp_path, layer, suffix):
    refused(model_file(tmp_path, suffix, layer, "2.15.0"), TRUST)


# Files that a model names


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("version", ["2.15.0", "3.14.0"])
@pytest.mark.parametrize("kind", ["StringLookup", "IntegerLookup", "TextVectorization"])
def test_vocabularies_are_not_read_from_other_files(tmp_path, kind, version, suffix):
    words = tmp_path / "words.txt"
    os.mkfifo(words) if os.name == "posix" else words.write_text("secret")  # a pipe would hang
    if version < "3":
        config = keras_2(kind, vocabulary=str(words))
    else:
        config = with_layers(entry(kind, vocabulary=str(words)))
    path = model_file(tmp_path, suffix, config, version)
    assert "reads its vocabulary from the file" in refused(path, TRUST)


def test_keras_2_is_rebuilt_in_the_safe_mode_of_keras(tmp_path, monkeypatch):
    """Also without the check of the description, which comes first."""
    monkeypatch.setattr("debugcnn.files.models.check_permission", lambda *description: None)
    words = tmp_path / "words.txt"
    words.write_text("secret\n")
    path = h5_file(tmp_path / "a.h5", keras_2("StringLookup", vocabulary=str(words)), "2.15.0")
    refused(path, "vocabulary file outside of the model archive")
    path = h5_file(tmp_path / "b.h5", keras_2("Lambda", function=CODE), "2.15.0")
    refused(path, TRUST)


def soft_link(group, name, secret):
    group[f"{name} "] = np.zeros((192, 2))
    group[name] = h5py.SoftLink(f"{group.name}/{name} ")


def external_link(group, name, secret):
    group[name] = h5py.ExternalLink(secret, "secret")


def external_storage(group, name, secret):
    group.create_dataset(name, (192, 2), "float32", external=[(str(secret), 0, 192 * 2 * 4)])


def virtual(group, name, secret):
    layout = h5py.VirtualLayout((192, 2), "float32")
    layout[:] = h5py.VirtualSource(secret, "secret", (192, 2))
    group.create_virtual_dataset(name, layout)


LEADING_OUT = [soft_link, external_link, external_storage, virtual]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("version", ["2.15.0", "3.14.0"])
@pytest.mark.parametrize("lead_out", LEADING_OUT, ids=lambda lead_out: lead_out.__name__)
def test_weights_are_not_taken_from_other_files(tmp_path, lead_out, version, suffix):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["secret"] = np.ones((192, 2), np.float32)

    def fill(group):
        if suffix == ".h5":
            group = group.create_group("dense").create_group("dense")
            lead_out(group, "kernel", secret)
        else:
            group = group.create_group("layers/dense/vars")
            lead_out(group, "0", secret)
        group["bias" if suffix == ".h5" else "1"] = np.zeros(2, np.float32)

    config = KERAS_2 if version < "3" else with_layers(entry("Dense", units=2))
    path = model_file(tmp_path, suffix, config, version, fill=fill)
    refused(path, "is a link, perhaps to another file|takes its numbers from another file")


# Bombs in models


def claiming(shape, **options):
    def fill(group):
        name = "dense/dense/kernel" if group.name == "/model_weights" else "layers/dense/vars/0"
        group.create_dataset(name, shape, "float32", chunks=True, compression="gzip", **options)

    return fill


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("version", ["2.15.0", "3.14.0"])
@pytest.mark.parametrize("shape", [(2**15, 2**15), (2**40,)])
def test_weights_that_claim_more_than_their_file_can_hold(tmp_path, shape, version, suffix):
    config = KERAS_2 if version < "3" else with_layers(entry("Dense", units=2))
    path = model_file(tmp_path, suffix, config, version, fill=claiming(shape))
    assert path.stat().st_size < 2**17
    refused(path, "its weights claim to take more than 50 times the room of the file")


def test_chunks_that_are_larger_than_their_weights(tmp_path):
    def fill(group):
        group.create_dataset("x", (8,), maxshape=(None,), chunks=(2**29,), compression="gzip")

    path = h5_file(tmp_path / "model.h5", KERAS_2, "2.15.0", fill=fill)
    refused(path, "its weights claim to take more than 50 times the room of the file")


def test_weights_are_compared_with_the_description_before_they_are_read(tmp_path):
    def fill(group):
        group = group.create_group("dense")
        group.create_dataset("kernel", (2**22,), chunks=True, compression="gzip")
        group["bias"] = np.zeros(2)
        group.attrs["weight_names"] = ["kernel", "bias"]

    path = h5_file(tmp_path / "model.h5", KERAS_2, "2.15.0", fill=fill)
    tracemalloc.start()
    with pytest.raises(ValueError, match="weights of its layer 'dense' do not fit"):
        debugcnn.load_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23  # the weights take 2 ** 24 bytes


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("version", ["2.15.0", "3.14.0"])
def test_layers_that_are_larger_than_their_weights_are_not_built(tmp_path, version, suffix):
    config = with_layers(entry("Flatten"), entry("Dense", units=2**20))
    if version < "3":
        config = json.loads(json.dumps(KERAS_2))
        config["config"]["layers"][-1]["config"]["units"] = 2**20
    path = model_file(tmp_path, suffix, config, version)
    refused(path, "its layer 'dense' is larger than the weights in the file")
    assert keras.Layer.add_weight.__name__ == "add_weight"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("index", "length"), [(0, 0), (1, 2**64 - 16), (0, 2**63), (1, 5000)], ids=str
)
def test_a_heap_of_texts_that_leads_to_itself(tmp_path, index, length, suffix):
    """The HDF5 library would loop without end."""

    def fill(group):
        group.attrs["name"] = "a text"

    path = model_file(tmp_path, suffix, sequential(), fill=fill)
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL\x01") + 16  # the first object in the heap
    struct.pack_into("<H6xQ", data, at, index, length)
    if suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("model.weights.h5")
            begin = info.header_offset + 30 + len(info.filename)
        weights = bytes(data[begin : begin + info.file_size])
        keras_file(path, sequential(), model_weights_h5=weights)
    else:
        path.write_bytes(data)
    refused(path, "it is damaged or breaks off")


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
def test_texts_of_more_than_64_mb_are_not_unpacked(tmp_path, name):
    bomb = {name.replace(".", "_"): b" " * (2**26 + 1)}
    path = keras_file(tmp_path / "model.keras", sequential(), packed=8, **bomb)
    assert path.stat().st_size < 2**17
    refused(path, f"its {name} is larger than 64 MB")


def test_the_description_in_an_h5_file_is_bounded_too(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "MAX_ATTRIBUTE", 2**20)
    with h5py.File(tmp_path / "model.h5", "w", libver="latest") as file:
        file.attrs.create("model_config", np.full(2**20 + 1, b"x", "S1"))
    refused(tmp_path / "model.h5", "its model_config is larger than 1 MB")


def test_weights_that_unpack_to_much_more_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_archive, "FLOOR", 2**22)
    weights = weights_of() + bytes(2**22)
    path = keras_file(tmp_path / "model.keras", sequential(), packed=8, model_weights_h5=weights)
    assert path.stat().st_size < 2**20
    refused(path, "its weights unpack to more than 50 times their size")


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_what_unpacks_to_more_than_the_archive_says_is_damaged(tmp_path, name):
    size = 2**25 + 12345
    bomb = {name.replace(".", "_"): b" " * size}
    path = keras_file(tmp_path / "model.keras", sequential(), packed=8, **bomb)
    data = path.read_bytes()
    assert data.count(struct.pack("<I", size)) == 2  # in the header, in the table of contents
    path.write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", 99)))
    refused(path, "it is damaged or breaks off", memory=2**24)


def test_assets_are_bounded_together(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_archive, "MAX_TEXT", 2**20)
    assets = {f"assets/{i}": bytes(2**19) for i in range(3)}
    path = keras_file(tmp_path / "model.keras", sequential(), packed=8, **assets)
    refused(path, "its assets are larger than 1 MB")


def test_a_description_may_not_be_nested_without_end(tmp_path):
    path = keras_file(tmp_path / "model.keras", {}, config_json="[" * 10**6)
    refused(path, "its description is nested too deeply")


@pytest.mark.parametrize("more", [{}, {"readme_txt": b"x" * 99}], ids=["", "more"])
def test_keras_gets_a_packed_model_unpacked_and_nothing_else(tmp_path, more, monkeypatch):
    """It would unpack it without bounds, and more than the three parts onto the disk."""
    seen = []

    def load(path, *arguments, **options):
        with zipfile.ZipFile(path) as archive:
            seen.extend((info.filename, info.compress_type) for info in archive.infolist())

    path = keras_file(tmp_path / "model.keras", sequential(), packed=8, **more)
    assert debugcnn.load_model(path).count_params() == 0
    monkeypatch.setattr(keras.models, "load_model", load)
    debugcnn.load_model(path)
    assert sorted(seen) == [("config.json", 0), ("metadata.json", 0), ("model.weights.h5", 0)]


# No regular files, and names


@posix
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_regular_file_is_not_opened(tmp_path, kind):
    folder = tmp_path / "images"
    (folder / "cats").mkdir(parents=True)
    path = folder / "cats" / "x.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))
    refused(path, "is no regular file")
    assert not debugcnn.is_readable(path)
    for source in (path, folder / "cats"):
        with pytest.raises(ValueError, match="cannot be read as an image"):
            debugcnn.load_images(source, 6)
    with pytest.raises(ValueError, match="cannot be read as an image"):
        debugcnn.load_labelled_images(folder, 6)
    _, readable = load_resized_variants([path], 6, 3, {"": Resizing()})
    assert readable.tolist() == [False]


@pytest.mark.parametrize("name", ["x" * 300, "x\0.keras", "\udce9.keras"])
def test_names_that_no_file_can_have_get_a_sentence(name):
    refused(name, "There is no model file")
    assert not debugcnn.is_readable(name) and debugcnn.class_folders(name) == []
    with pytest.raises(ValueError, match="There is no image or folder"):
        debugcnn.load_images(name, 6)
    with pytest.raises(ValueError, match="cannot be listed"):
        debugcnn.image_files(name)
    with pytest.raises(ValueError, match="holds no folders with images"):
        debugcnn.load_labelled_images(name, 6)


def test_what_may_not_be_read_gets_a_sentence(tmp_path, monkeypatch):
    """The user who runs the tests may be allowed everything, so the system is made to refuse."""
    for folder in ("cats", "dogs"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "x.png")
    path = keras_file(tmp_path / "model.keras", sequential())

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        assert "Permission denied" in refused(path, "cannot be loaded")
        assert not debugcnn.is_readable(tmp_path / "cats" / "x.png")
        with pytest.raises(ValueError, match="cannot be read as an image"):
            debugcnn.load_images(tmp_path / "cats" / "x.png", 6)
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        patch.setattr(os, "scandir", refuse)
        with pytest.raises(ValueError, match="cannot be listed: Permission denied"):
            debugcnn.labelled_files(tmp_path)


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), OverflowError("large")])
def test_whatever_fails_in_the_readers_gets_a_sentence(tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    path = keras_file(tmp_path / "model.keras", sequential())
    monkeypatch.setattr(keras.models, "load_model", fail)
    refused(path, "cannot be loaded as a Keras model: .+")


def test_names_in_a_file_cannot_command_a_terminal(tmp_path):
    config = with_layers(entry("Dense", units=2, name="\x1b[31mred\x1b[0m"))
    assert "red" in refused(keras_file(tmp_path / "model.keras", config), "cannot be loaded")


def test_weights_that_cannot_be_loaded_say_why(tmp_path):
    config = with_layers(entry("Dense", units=2, name="dense"))
    refused(
        keras_file(tmp_path / "model.keras", config),
        "the weights of <Dense name=dense, built=True> cannot be loaded: Layer 'dense' expected 2",
    )


# Images


def png(width, height, data=b""):
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    end = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end


def encoded(kind, width=8, height=8, **options):
    Image.new("RGB", (width, height), "red").save(data := io.BytesIO(), kind, **options)
    return data.getvalue()


def jpeg(width, height):
    data = encoded("JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">2H", height, width) + data[at + 4 :]


def gif(width, height):
    data = encoded("GIF")
    return data[:6] + struct.pack("<2H", width, height) + data[10:]


def bmp(width, height):
    data = encoded("BMP")
    return data[:18] + struct.pack("<2i", width, height) + data[26:]


def tiff(width, height):
    """A TIFF whose first two tags, its width and height, say something else."""
    data = bytearray(encoded("TIFF"))
    (at,) = struct.unpack_from("<I", data, 4)
    for number, value in enumerate((width, height)):
        struct.pack_into("<HHII", data, at + 2 + 12 * number, 256 + number, 4, 1, value)
    return bytes(data)


def refused_image(tmp_path, data, match):
    """An image is refused with a sentence, before anything of its size is allocated."""
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        assert not debugcnn.is_readable(path)
        with pytest.raises(ValueError, match=match):
            debugcnn.load_images(path, 6)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [png, jpeg, gif, bmp, tiff], ids=lambda make: make.__name__)
def test_more_pixels_than_allowed_are_not_decoded(tmp_path, make):
    refused_image(tmp_path, make(20_000, 10_001), "is not read, since it has more than 200 mega")
    refused_image(tmp_path, make(65_000, 65_000), "is not read, since it has more than 200 mega")


def test_the_bound_on_pixels_is_a_parameter(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded("PNG", 100, 80))
    for bound, readable in ((8000, True), (7999, False)):
        assert debugcnn.is_readable(path, max_pixels=bound) == readable
    with pytest.raises(ValueError, match="since it has more than 0.007999 megapixels"):
        debugcnn.load_images(path, 6, max_pixels=7999)
    assert debugcnn.load_images(path, 6, max_pixels=8000)[0].shape == (1, 6, 6, 3)


def test_a_guard_of_pillow_neither_warns_nor_stays_off(tmp_path, recwarn):
    before = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "x.png"
    path.write_bytes(png(10_000, 10_000))  # Pillow warns from 89 megapixels on
    assert not debugcnn.is_readable(path)
    assert not recwarn.list and Image.MAX_IMAGE_PIXELS == before == 89_478_485


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        b"P6 8 8 255\n" + bytes(192),
        encoded("ICO"),
        encoded("PDF"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
    ids=["EPS", "PPM", "ICO", "PDF", "SVG"],
)
def test_only_formats_for_images_are_opened_whatever_a_file_is_called(tmp_path, data):
    refused_image(tmp_path, data, "cannot be read as an image")


@pytest.mark.parametrize("size", [(8, -9), (8, -(2**31)), (-8, 8), (-8, -8), (0, 8)])
def test_negative_sizes(tmp_path, size):
    refused_image(tmp_path, bmp(*size), "is not read, since|cannot be read as an image")


@posix
def test_a_file_without_end_is_not_read(tmp_path):
    path = tmp_path / "x.webp"
    with open(path, "wb") as file:
        file.write(encoded("WEBP"))
        file.truncate(2**31 + 1)  # takes no room on the disk
    refused_image(tmp_path, b"", "cannot be read as an image")
    with pytest.raises(ValueError, match="is not read, since it is larger than 2 GB"):
        debugcnn.load_images(path, 6)


def test_nothing_happens_on_import():
    program = (
        "import sys, cv2, os\n"
        "before = cv2.getNumThreads(), dict(os.environ)\n"
        "import debugcnn, debugcnn.separator, debugcnn.files.images, debugcnn.files.duplicates\n"
        "import debugcnn.files.labels, debugcnn.files.atomic, debugcnn.files.archives\n"
        "debugcnn.load_images, debugcnn.labelled_files, debugcnn.class_numbers\n"
        "from PIL import Image\n"
        "assert (cv2.getNumThreads(), dict(os.environ)) == before\n"
        "assert Image.MAX_IMAGE_PIXELS == 89478485\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == ""


def test_the_page_names_the_bounds_that_hold():
    page = " ".join((ROOT / ".github" / "SECURITY.md").read_text("utf-8").split())
    for sentence in (
        f"unpack to at most {keras_archive.MAX_TEXT // 2**20} MB",
        f"weights to at most {keras_archive.MAX_EXPANSION} times their packed size (or "
        f"{keras_archive.FLOOR // 2**20} MB)",
        f"at most {hdf5.MAX_EXPANSION} times the size of their file (or {hdf5.FLOOR // 2**20} MB)",
        f"at most {decoding.MAX_PIXELS // 10**6} megapixels",
        f"to a depth of {archives.MAX_DEPTH}, {archives.MAX_INNER_BYTES // 2**30} GB of them",
        f"files of at most {separator.MAX_BYTES // 2**20} MB",
    ):
        assert sentence in page, sentence
