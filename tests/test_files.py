"""Models in files of all ages."""

import json
import shutil
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import debugcnn
from debugcnn.files.keras2_layers import make_layer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tf_keras

old = tf_keras.layers


def chain(*layers, side=(32, 40)):
    return tf_keras.Sequential([tf_keras.Input((*side, 3)), *layers])


def backbone():
    """Two blocks as in MobileNetV2, the second one with a residual connection."""
    inputs = tf_keras.Input((32, 32, 3))
    x = old.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="Conv1")(inputs)
    for block in range(2):
        y = old.Conv2D(16, 1, use_bias=False, name=f"block_{block}_expand")(x)
        y = old.ReLU(6.0)(old.BatchNormalization(momentum=0.999)(y))
        y = old.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
        y = old.ReLU(6.0)(old.BatchNormalization(momentum=0.999)(y))
        y = old.BatchNormalization()(old.Conv2D(8, 1, use_bias=False)(y))
        x = old.Add()([x, y]) if block else y
    return tf_keras.Model(inputs, x)


def mobile_net():
    return chain(
        tf_keras.applications.MobileNetV2(
            include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.35
        ),
        old.GlobalAveragePooling2D(),
        side=(32, 32),
    )


def without_an_input():
    return tf_keras.Sequential(
        [
            old.Rescaling(1 / 255, input_shape=(24, 28, 3)),
            old.RandomFlip(),
            old.RandomZoom(0.1),
            old.Conv2D(4, 3, kernel_initializer="he_normal", kernel_regularizer="l2"),
            old.BatchNormalization(),
            old.LeakyReLU(alpha=0.1),
            old.SpatialDropout2D(0.2),
            old.MaxPooling2D(),
            old.Conv2D(4, 3, kernel_constraint=tf_keras.constraints.MaxNorm(3)),
            old.ELU(alpha=0.7),
            old.Flatten(),
            old.Dense(2, activation="softmax"),
        ]
    )


def frozen_in_part():
    inner = backbone()
    for layer in inner.layers[::3]:
        layer.trainable = False
    return chain(inner, old.GlobalAveragePooling2D(), old.Dense(1, "sigmoid"), side=(32, 32))


def two_chains_in_a_chain():
    """As Teachable Machine exports."""
    head = tf_keras.Sequential([old.Dense(6, "selu", input_shape=(8,)), old.Dense(2)])
    return tf_keras.Sequential(
        [tf_keras.Sequential([backbone(), old.GlobalAveragePooling2D()]), head]
    )


def transfer():
    """As in TensorFlow's tutorial: an augmentation, operations, a backbone, a head."""
    inputs = tf_keras.Input((32, 32, 3))
    x = tf_keras.Sequential([old.RandomFlip("horizontal"), old.RandomRotation(0.2)])(inputs)
    x = tf_keras.applications.mobilenet_v2.preprocess_input(x)
    x = backbone()(x, training=False)
    x = old.Dropout(0.2)(old.GlobalAveragePooling2D()(x))
    return tf_keras.Model(inputs, old.Dense(1)(x))


def operations():
    inputs = tf_keras.Input((24, 28, 3))
    x = old.Conv2D(4, 3)((inputs - 127.5) / 127.5)
    x = tf.nn.relu(x)
    x = tf.concat([x, tf.sqrt(1.0 + x)], -1)[:, ::2, 1:-1]
    x = tf.reduce_mean(x, [1, 2])
    return tf_keras.Model(inputs, tf.nn.softmax(old.Dense(3)(x)))


def caffe():
    inputs = tf_keras.Input((24, 28, 3))
    x = tf_keras.applications.vgg16.preprocess_input(inputs)  # x[..., ::-1] and bias_add
    x = old.GlobalMaxPooling2D()(old.Conv2D(4, 3)(x))
    return tf_keras.Model(inputs, x)


def many_layers():
    inputs = tf_keras.Input((20, 24, 3))
    x = old.PReLU(shared_axes=[1, 2])(old.Conv2D(8, 3)(old.ZeroPadding2D(1)(inputs)))
    x = old.LayerNormalization()(old.SeparableConv2D(8, 3, padding="same")(x))
    y = old.BatchNormalization(scale=False)(old.DepthwiseConv2D(3, padding="same")(x))
    x = old.Add(name="block/add")([x, old.ReLU(6.0)(y)])
    x = old.Conv2DTranspose(8, 3, strides=2, padding="same", activation="tanh")(x)
    x = old.ThresholdedReLU(0.1)(old.Conv2D(8, 3, dilation_rate=2, groups=2)(old.Cropping2D(1)(x)))
    gate = old.Reshape((1, 1, 8))(old.Dense(8, "sigmoid")(old.GlobalAveragePooling2D()(x)))
    x = old.Multiply()([x, gate])
    y = old.GlobalMaxPooling2D()(old.Permute((2, 1, 3))(x))
    x = old.Concatenate()([old.GlobalAveragePooling2D()(x), y])
    return tf_keras.Model(inputs, old.Softmax()(old.Dense(3)(old.Activation("swish")(x))))


def attention():
    inputs = tf_keras.Input((16, 16, 3))
    x = old.Reshape((16, 8))(old.Conv2D(8, 4, strides=4)(inputs))
    x = old.LayerNormalization()(x)
    x = old.MultiHeadAttention(2, 4)(x, x) + x
    return tf_keras.Model(inputs, old.Dense(2)(old.GlobalAveragePooling1D()(x)))


def one_layer_twice():
    inputs = tf_keras.Input((20, 24, 3))
    conv = old.Conv2D(3, 3, padding="same", activation="relu")
    inner = chain(old.Conv2D(4, 3), side=(20, 24))
    x = old.Concatenate()([inner(conv(conv(inputs))), inner(inputs)])
    return tf_keras.Model(inputs, old.Dense(2)(old.GlobalAveragePooling2D()(x)))


def mixed_precision():
    options = {"dtype": "mixed_float16"}
    body = [old.Conv2D(4, 3, **options), old.BatchNormalization(**options), old.Flatten()]
    return chain(old.Rescaling(1 / 255.0), *body, old.Dense(2, dtype="float32"))


def adapted():
    normalise = old.Normalization()
    normalise.adapt(np.random.default_rng(0).uniform(0, 255, (8, 32, 40, 3)))
    return chain(normalise, old.Resizing(20, 24), old.Conv2D(4, 3), old.Flatten(), old.Dense(2))


def two_outputs():
    inputs = tf_keras.Input((20, 24, 3))
    x = old.Flatten()(old.Conv2D(4, 3)(inputs))
    return tf_keras.Model(inputs, [old.Dense(2)(x), old.Dense(3)(x)])


def built_later():
    model = tf_keras.Sequential([old.Conv2D(4, 3), old.Flatten(), old.Dense(2)])
    model.build((None, 20, 24, 3))
    return model


def layers_that_keras_3_lacks():
    from tf_keras.src.applications.convnext import LayerScale

    body = [old.RandomHeight(0.1), old.RandomWidth(0.1), old.Conv2D(4, 3), LayerScale(1.0, 4)]
    return chain(*body, old.GlobalAveragePooling2D(), old.Dense(2))


OLD = [
    layers_that_keras_3_lacks,
    *(without_an_input, frozen_in_part, two_chains_in_a_chain, transfer, operations, caffe),
    pytest.param(mobile_net, marks=pytest.mark.slow),
    *(many_layers, attention, one_layer_twice, mixed_precision, adapted, two_outputs, built_later),
]


def randomised(model):
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if "kernel" in weight.name:
            inputs = np.prod(weight.shape[:2] if "depthwise" in weight.name else weight.shape[:-1])
            weight.assign(generator.normal(0, inputs**-0.5, weight.shape))
        elif weight.dtype.is_floating and not weight.name.startswith(("mean", "variance")):
            middle = 1 if "variance" in weight.name or "gamma" in weight.name else 0
            weight.assign(generator.uniform(middle - 0.3, middle + 0.3, weight.shape))
    return model


def images_for(model):
    """A dark, a middling and a light one."""
    images = np.random.default_rng(1).uniform(0, 1, (3, *model.input_shape[1:]))
    return np.float32(images * np.reshape([1, 40, 255], (3, 1, 1, 1)))


def same_predictions(model, expected, images):
    for one, other in zip(
        keras.tree.flatten(model(images, training=False)),
        keras.tree.flatten(expected(images, training=False)),
    ):
        one, other = np.float64(one), np.float64(other)
        between_images = np.ptp(other, 0).max()
        assert between_images > 1e-4
        np.testing.assert_allclose(one, other, rtol=0, atol=0.02 * between_images)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("build", OLD, ids=lambda build: getattr(build, "__name__", None))
def test_files_of_keras_2(build, suffix, tmp_path):
    tf_keras.backend.clear_session()
    expected = randomised(build())
    file = tmp_path / f"net{suffix}"
    if suffix == ".keras" and build is caffe:
        pytest.skip("tf_keras itself cannot save an ellipsis in a .keras file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected.save(file)
        before = file.read_bytes()
        model = debugcnn.load_model(file)
    assert isinstance(model, keras.Model) and file.read_bytes() == before
    same_predictions(model, expected, images_for(expected))
    if build is mixed_precision:
        precisions = [layer.dtype_policy.name for layer in expected.layers]
        assert [layer.dtype_policy.name for layer in model.layers] == precisions
        assert "mixed_float16" in precisions


@pytest.fixture
def kept(tmp_path):
    """A net of tf_keras, saved as HDF5, and a way to rewrite what the file says of its layers."""
    model = randomised(without_an_input())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "net.h5")

    def rewritten(change, name="net.h5"):
        with h5py.File(tmp_path / "net.h5", "a") as file:
            config = json.loads(file.attrs["model_config"])
            file.attrs["model_config"] = json.dumps(change(config) or config)
        return shutil.move(tmp_path / "net.h5", tmp_path / name)

    return model, rewritten


def layer(config, kind):
    return next(e["config"] for e in config["config"]["layers"] if e["class_name"] == kind)


def as_a_list(config):
    config["config"] = config["config"]["layers"][1:]  # without the InputLayer


def with_types_of_initialisers(config):
    for entry in config["config"]["layers"]:
        entry.pop("module", None)
        for key, value in entry["config"].items():
            if key.endswith("_initializer"):
                value["config"]["dtype"] = "float32"


def with_an_old_distribution(config):
    layer(config, "Conv2D")["kernel_initializer"] = {
        "class_name": "VarianceScaling",
        "config": {"scale": 2.0, "mode": "fan_in", "distribution": "normal", "seed": None},
    }


def with_the_size_of_images_apart(config):
    entries = config["config"]["layers"][1:]
    shape = entries[0]["config"].pop("batch_input_shape")
    config["config"] |= {"layers": entries, "build_input_shape": shape}


def with_a_list_as_axis(config):
    layer(config, "BatchNormalization").update(axis=[3], fused=True, renorm=False)


@pytest.mark.parametrize(
    "change",
    [
        as_a_list,
        with_types_of_initialisers,
        with_an_old_distribution,
        with_the_size_of_images_apart,
        with_a_list_as_axis,
    ],
)
def test_descriptions_of_other_years(kept, change):
    expected, rewritten = kept
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = debugcnn.load_model(rewritten(change))
    same_predictions(model, expected, images_for(expected))


def test_long_lists_of_names_come_in_parts(kept):
    expected, rewritten = kept
    with h5py.File(rewritten(lambda config: None), "a") as file:
        for group in file["model_weights"].values():
            names = group.attrs["weight_names"]
            del group.attrs["weight_names"]
            group.attrs["weight_names0"], group.attrs["weight_names1"] = names[:1], names[1:]
        path = file.filename
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = debugcnn.load_model(path)
    same_predictions(model, expected, images_for(expected))


def test_what_had_to_be_changed_is_said(kept):
    _, rewritten = kept
    with pytest.warns(UserWarning, match="Keras 2") as told:
        debugcnn.load_model(rewritten(with_a_list_as_axis))
    (told,) = {str(one.message) for one in told if one.category is UserWarning}
    assert told.startswith("net.h5 was written by Keras 2.21.0.")
    assert "BatchNormalization: axis as a number, without" in told and "LeakyReLU: alpha" in told


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda config: layer(config, "LeakyReLU").update(noise=0.5),
            r"layer 'leaky_re_lu\w*' \(LeakyReLU\) has noise = 0.5, which Keras 3 does not have",
        ),
        (
            lambda config: config["config"]["layers"][4].update(class_name="Bloom"),
            "it needs the class 'Bloom', which is not part of Keras: import the code that defines",
        ),
        (
            lambda config: layer(config, "Dense").update(units=3),
            r"The weights of its layer 'dense\w*' do not fit its description",
        ),
    ],
)
def test_what_would_change_a_prediction_gets_a_sentence(kept, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        debugcnn.load_model(kept[1](change))


def test_a_setting_that_keras_3_lacks_has_to_have_the_value_it_computes_with():
    changes = []
    config = {"name": "conv", "kernel_size": 3, "groups": 1}
    made = make_layer("DepthwiseConv2D", config, lambda *change: changes.append(change))
    assert made.kernel_size == (3, 3) and changes == [("DepthwiseConv2D", "without groups")]
    with pytest.raises(ValueError, match="has groups = 2, which Keras 3 does not have"):
        make_layer("DepthwiseConv2D", config | {"groups": 2}, lambda *change: None)


@pytest.mark.parametrize("left", [0, 1])
def test_weights_that_are_missing_get_a_sentence(kept, left):
    with h5py.File(kept[1](lambda config: None), "a") as file:
        (name,) = (name for name in file["model_weights"] if name.startswith("dense"))
        group, path = file["model_weights"][name], file.filename
        group.attrs["weight_names"] = group.attrs["weight_names"][:left]
    with pytest.raises(
        ValueError, match=r"The weights of its layer 'dense\w*' do not fit its desc"
    ):
        debugcnn.load_model(path)


def test_keras_1_gets_a_sentence(kept):
    with h5py.File(kept[1](lambda config: None), "a") as file:
        file.attrs["keras_version"] = "1.2.2"
        path = file.filename
    with pytest.raises(ValueError, match=r"Keras 1\.2\.2 wrote it: open it with Keras 2 and save"):
        debugcnn.load_model(path)


def test_an_operation_that_reaches_files_is_not_run(tmp_path):
    model = operations()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "a") as file:
        text = file.attrs["model_config"].replace('"math.subtract"', '"io.write_file"')
        file.attrs["model_config"] = text
    with pytest.raises(ValueError, match="uses the operation tf.io.write_file, which"):
        debugcnn.load_model(tmp_path / "net.h5")


class Bloom(old.Layer):
    def call(self, x):
        return x * 2


class Grow(keras.layers.Layer):
    def call(self, x):
        return x * 2


def test_layers_of_ones_own(tmp_path):
    expected = randomised(chain(old.Conv2D(2, 3), Bloom(), old.Flatten(), old.Dense(2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected.save(tmp_path / "old.h5")
    model = debugcnn.load_model(tmp_path / "old.h5", custom_objects={"Bloom": Grow})
    same_predictions(model, expected, images_for(expected))
    new = keras.Sequential([keras.Input((8, 8, 3)), Grow(), keras.layers.Flatten()])
    new.save(tmp_path / "new.keras")
    with pytest.raises(ValueError, match="it needs the class 'Grow', which is not part of Keras"):
        debugcnn.load_model(tmp_path / "new.keras")
    assert debugcnn.load_model(tmp_path / "new.keras", custom_objects={"Grow": Grow}).built


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["3", "2"])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_python_code_in_a_file_runs_only_if_it_was_allowed(library, suffix, tmp_path):
    layers = library.layers
    expected = library.Sequential(
        [library.Input((8, 8, 3)), layers.Lambda(lambda x: x / 2), layers.Flatten()]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected.save(tmp_path / f"net{suffix}")
    with pytest.raises(ValueError, match="Lambda layer in it holds Python code.*safe_mode=False"):
        debugcnn.load_model(tmp_path / f"net{suffix}")
    model = debugcnn.load_model(tmp_path / f"net{suffix}", safe_mode=False)
    same_predictions(model, expected, images_for(expected))


def of_a_newer_keras(source, target, *settings):
    """The file as a Keras would write it whose convolutions and initialisers have more settings."""
    with zipfile.ZipFile(source) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    config = parts["config.json"]
    for old_, more in settings:
        assert old_ in config
        config = config.replace(old_, old_ + more)
    parts |= {"config.json": config, "metadata.json": b'{"keras_version": "3.99.0"}'}
    with zipfile.ZipFile(target, "w") as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return target


def test_settings_of_a_newer_keras_that_say_none_are_left_out(new, tmp_path):
    expected, folder = new
    more = (b'"filters": 2', b', "shine": null'), (b'"seed": null', b', "gloss": null')
    file = of_a_newer_keras(folder / "net.keras", tmp_path / "net.keras", *more)
    before = file.read_bytes()
    same_predictions(debugcnn.load_model(file), expected, images_for(expected))
    assert file.read_bytes() == before


def test_a_file_of_another_keras_3_says_which_one_to_install(new, tmp_path):
    more = (b'"filters": 2', b', "shine": 1')
    file = of_a_newer_keras(new[1] / "net.keras", tmp_path / "net.keras", more)
    with pytest.raises(ValueError, match=r"Keras 3\.99\.0 wrote it, and .* install that version"):
        debugcnn.load_model(file)


# Names, and files that are no models


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    model = keras.Sequential(
        [keras.Input((8, 10, 3)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()]
    )
    folder = tmp_path_factory.mktemp("new")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for suffix in ("h5", "keras", "weights.h5"):
            save = model.save_weights if suffix == "weights.h5" else model.save
            save(folder / f"net.{suffix}")
    return model, folder


@pytest.mark.parametrize(
    ("made", "name"), [("net.h5", "net.keras"), ("net.keras", "net.h5"), ("net.keras", "net")]
)
def test_a_file_opens_under_any_name(new, made, name, tmp_path):
    expected, folder = new
    shutil.copyfile(folder / made, tmp_path / name)
    same_predictions(debugcnn.load_model(tmp_path / name), expected, images_for(expected))


def cut(source, target):
    data = source.read_bytes()
    target.write_bytes(data[: len(data) // 2])


def flipped(source, target):
    data = bytearray(source.read_bytes())
    data[len(data) // 3] ^= 255
    target.write_bytes(data)


def packed(inside):
    def write(source, target):
        with zipfile.ZipFile(target, "w") as file:
            file.writestr(inside, b"...")

    return write


def containing(data):
    return lambda source, target: target.write_bytes(data)


@pytest.mark.parametrize(
    ("source", "make", "sentence"),
    [
        ("net.keras", cut, "it is damaged or breaks off: copy or download it again."),
        ("net.h5", cut, "it is damaged or breaks off: copy or download it again."),
        ("net.keras", flipped, "it is damaged or breaks off: copy or download it again."),
        ("net.weights.h5", shutil.copyfile, "it holds weights, but no description of the layers"),
        ("net.keras", containing(b""), "it is empty."),
        ("net.keras", containing(b"A text.\n"), "it is text: give the path of a .keras or .h5"),
        ("net.keras", containing(b"<!DOCTYPE html><html>"), "it is a web page: download the file"),
        ("net.keras", containing(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        ("net.keras", containing(b"\x80\x05\x95"), "it is a Python pickle"),
        ("net.keras", containing(b'{"class_name": "Sequential"}'), "it holds no weights"),
        ("net.keras", containing(b"\x1c\0\0\0TFL3\xff"), "it is a TensorFlow Lite file"),
        ("net.keras", containing(b"\xff\xfe\xfd" * 99), "it is neither HDF5 nor a zip"),
        ("net.keras", packed("net/data.pkl"), "PyTorch wrote it."),
        ("net.keras", packed("net/saved_model.pb"), "it is a zipped SavedModel"),
        ("net.keras", packed("best.keras"), "unpack it and give 'best.keras'."),
        ("net.keras", packed("cat.jpg"), "give a .keras or .h5 file."),
    ],
)
def test_what_is_no_model_gets_a_sentence(new, source, make, sentence, tmp_path):
    make(new[1] / source, tmp_path / "given.keras")
    with pytest.raises(ValueError, match="'given.keras'|given.keras") as error:
        debugcnn.load_model(tmp_path / "given.keras")
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_weights_of_keras_2_get_the_same_sentence(tmp_path):
    built_later().save_weights(tmp_path / "net.h5")
    with pytest.raises(ValueError, match="it holds weights, but no description of the layers"):
        debugcnn.load_model(tmp_path / "net.h5")


def test_hdf5_of_other_programs(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(ValueError, match="it is an HDF5 file, but Keras did not write it."):
        debugcnn.load_model(tmp_path / "data.h5")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["saved_model.pb"], "is a SavedModel folder, which Keras 3 does not open"),
        (["config.json", "metadata.json"], "is an unpacked .keras file"),
        ([], "is a folder: give the path of a .keras or .h5 file."),
    ],
)
def test_folders_get_a_sentence(files, sentence, tmp_path):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=sentence):
        debugcnn.load_model(tmp_path)
