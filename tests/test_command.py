"""The command debugcnn, and debugcnn diagnose on files: arguments, exit status, what is written."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT
from keras import layers
from tiny_classifiers import model_of, red_halves, top_reader

from debugcnn import __main__, load_labelled
from debugcnn.diagnosis import command
from debugcnn.diagnosis.registry import CAUSES
from debugcnn.files.images import Resizing
from debugcnn.loading import AS_THEY_ARE, images_per_class, load_model_quietly


def write_images(folder, images, labels, names):
    """Images as PNG files, in a folder for each class."""
    for i, (image, label) in enumerate(zip(images, labels)):
        place = folder / names[label]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{i:03}.png"), np.uint8(image)[..., ::-1])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model that knows images redder at the top from others, such images, and one broken file."""
    folder = tmp_path_factory.mktemp("files")
    top_reader().save(folder / "model.keras")
    write_images(folder / "images", *red_halves(60), ("below", "top"))
    write_images(folder / "train", *red_halves(60, seed=4), ("below", "top"))
    (folder / "images" / "below" / "broken.png").write_bytes(b"no image")
    (folder / "empty").mkdir()
    return folder


def run(capsys, *arguments):
    """(exit status, standard output, standard error) of the command in this process."""
    status = __main__.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


# ------------------------------------------------------------------------------------ the command


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["-h"], 0), ([], 2)])
def test_the_command_lists_its_commands(capsys, arguments, status):
    assert __main__.main(arguments) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: debugcnn COMMAND ..."
    assert [line.split()[0] for line in lines[2:6]] == list(__main__.COMMANDS)


def test_an_unknown_command(capsys):
    status, out, error = run(capsys, "diagnoze", "x")
    assert (status, out) == (2, "")
    assert error == (
        "There is no command 'diagnoze': choose one of diagnose, inspect, heatmaps, separate.\n"
    )


@pytest.mark.parametrize("name", __main__.COMMANDS)
def test_each_command_has_help(capsys, name):
    with pytest.raises(SystemExit) as stopped:
        __main__.main([name, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and text.startswith("usage: ") and "-h, --help" in text


def test_the_help_of_diagnose_lists_causes_and_exit_status():
    text = command.parser().format_help()
    assert all(f"  {name} " in text and cause.title in text for name, cause in CAUSES.items())
    assert text.rstrip().endswith(command.EXIT_STATUS)


def test_arguments_that_argparse_refuses(capsys):
    for arguments in (["diagnose"], ["diagnose", "a", "b", "--images", "many"]):
        with pytest.raises(SystemExit) as stopped:
            __main__.main(arguments)
        assert stopped.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("debugcnn diagnose: error:")


# ----------------------------------------------------------------------------------------- mistakes

MISTAKES = [
    (("none.keras", "images"), "There is no model file"),
    (("model.keras", "none"), "There is no folder"),
    (("model.keras", "model.keras"), "There is no folder"),
    (("model.keras", "images", "--train", "none"), "There is no folder"),
    (
        ("model.keras", "images", "--images", "0"),
        "--images is a number of images from 1 up, not 0.",
    ),
    (("model.keras", "images", "--value-range", "1", "0"), "--value-range is the lowest"),
    (("model.keras", "images", "--value-range", "0"), "--value-range is the lowest"),
    (("model.keras", "images", "--value-range", "0", "1", "2"), "caffe or torch, not 0 1 2."),
    (("model.keras", "images", "--value-range", "jet"), "caffe or torch, not jet."),
    (("model.keras", "images", "--limit", "leak"), "--limit is a cause and a number"),
    (("model.keras", "images", "--limit", "leak=much"), "such as leak=0.02, not 'leak=much'."),
    (("model.keras", "images", "--json", "none/report.json"), "cannot be written"),
    (("model.keras", "images", "--html", "empty"), "cannot be written"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES)
def test_mistakes_are_answered_in_one_sentence(files, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(files)
    monkeypatch.setattr(command, "_diagnosed", lambda args: pytest.fail("It was begun."))
    status, out, error = run(capsys, "diagnose", *arguments)
    assert (status, out) == (2, "") and sentence in error and error.count("\n") == 1


def test_mistakes_are_answered_without_tensorflow(files):
    program = (
        "import sys\nfrom debugcnn.__main__ import main\n"
        f"for arguments in {[list(arguments) for arguments, _ in MISTAKES]}:\n"
        "    assert main(['diagnose', *arguments]) == 2\n"
        "assert main(['diagnoze']) == 2 and main([]) == 2 and main(['--help']) == 0\n"
        "heavy = {'tensorflow', 'keras', 'matplotlib', 'scipy', 'cv2'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = _python("-c", program, folder=files)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(MISTAKES) + 1 and "Traceback" not in done.stderr


def _python(*arguments, folder):
    environment = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "Agg"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        **dict(cwd=folder, env=environment, capture_output=True, text=True, timeout=300),
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("model.keras", "empty"), "holds no folders with images"),
        (("model.keras", "images/below"), "holds no folders with images"),
        (("model.keras", "images", "--images", "12"), "Too few labelled images (5, 6 by class)"),
        (("model.keras", "images", "--classes", "top", "left"), "does not name below"),
        (("model.keras", "images", "--classes", "a", "b", "below", "top"), "labels are 0 to 1"),
        (("model.keras", "images", "--limit", "leek=1"), "There is no cause 'leek'"),
        (("model.keras", "images", "--output", "3"), "leave output=3 out"),
        (("model.keras", "images", "--output", "other"), "leave output='other' out"),
        (("images/top/001.png", "images"), "cannot be loaded as a Keras model"),
    ],
)
def test_what_cannot_be_examined_is_answered_in_one_sentence(
    files, monkeypatch, capsys, arguments, sentence
):
    monkeypatch.chdir(files)
    status, _, error = run(capsys, "diagnose", *arguments)
    assert status == 2 and sentence in error and error.count("\n") == 1


def test_where_memory_runs_out(files, monkeypatch, capsys):
    def fails(args):
        raise MemoryError

    monkeypatch.setattr(command, "_diagnosed", fails)
    status, _, error = run(capsys, "diagnose", files / "model.keras", files / "images")
    assert (status, error) == (2, "Out of memory: give fewer images (--images).\n")


# ---------------------------------------------------------------------------------------- diagnosis


@pytest.fixture(scope="module")
def healthy(files):
    """(exit status, files written) of the diagnosis of a model that is as it should be, in a
    process of its own.
    """
    done = _python(
        *("-m", "debugcnn", "diagnose", "model.keras", "images", "--value-range", "0", "1"),
        *("--train", "train", "--json", "report.json", "--html", "report.html"),
        folder=files,
    )
    return done


def test_a_healthy_model_in_a_process_of_its_own(files, healthy):
    assert healthy.returncode == 0, healthy.stderr
    assert "Traceback" not in healthy.stderr and "Warning" not in healthy.stderr
    lines = healthy.stdout.splitlines()
    assert lines[0] == "1 images in images cannot be read and are left out."
    assert "60 images, accuracy 100.0% as fed" in lines
    assert lines[-2:] == ["Report: report.json", "Report: report.html"]


def test_the_report_as_json(files, healthy):
    record = json.loads((files / "report.json").read_text())
    assert set(record) == {
        *("accuracy", "accuracy_as_fed", "auc", "images", "value_range"),
        *("findings", "measurements"),
    }
    assert (record["accuracy"], record["auc"], record["images"]) == (1, 1, 60)
    keys = {"cause", "verdict", "value", "limit", "message", "fix"}
    assert all(set(finding) == keys for finding in record["findings"])
    assert [f["cause"] for f in record["findings"] if f["verdict"] == "fault"] == []
    assert {finding["cause"] for finding in record["findings"]} == set(CAUSES)
    more = keys | {"measurement", "above"}
    assert all(set(measured) == more for measured in record["measurements"])
    examined = {f["cause"]: f["verdict"] for f in record["findings"]}
    assert examined["leak"] == examined["memorised"] == "fine"  # the training images were read


def test_the_report_as_a_page(files, healthy):
    page = (files / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and "No fault found" in page


def test_a_fault_is_exit_status_1(files, capsys, tmp_path):
    """With two halves, exchanged classes and images upside down are the same."""
    options = "--value-range", 0, 1, "--classes", "top", "below", "--images", 40
    report = tmp_path / "report.json"
    model, images = files / "model.keras", files / "images"
    status, out, error = run(capsys, "diagnose", model, images, *options, "--json", report)
    assert status == 1 and "Traceback" not in error
    assert out.splitlines()[1] == "39 images, accuracy 0.0% as fed, 100.0% after the fix"
    assert out.splitlines()[2].startswith("fault       flipped_or_rotated")
    record = json.loads(report.read_text())
    assert (record["accuracy"], record["accuracy_as_fed"], record["images"]) == (1, 0, 39)
    # The same with a limit that nothing exceeds is suspicious of nothing.
    limits = "--limit", "flipped_or_rotated=2", "--limit", "leak=0.5"
    status, out, _ = run(capsys, "diagnose", model, images, *options, *limits, "--json", report)
    record = json.loads(report.read_text())
    chosen = [f for f in record["findings"] if f["cause"] == "flipped_or_rotated"]
    assert chosen[0]["verdict"] == "fine" and chosen[0]["limit"] == 2


def test_what_the_command_gives_to_the_diagnosis(files, monkeypatch, capsys):
    """All options arrive."""
    received = {}

    def diagnose(model, images, labels, **options):
        received.update(options, images=images, labels=labels)
        raise ValueError("Enough.")

    monkeypatch.setattr("debugcnn.diagnosis.engine.diagnose", diagnose)
    status, out, error = run(
        *(capsys, "diagnose", files / "model.keras", files / "images", "--train", files / "train"),
        *("--value-range", "caffe", "--output", "0", "--limit", "leak=0.02"),
        *("--limit", "shortcut:pasted_patch=0.9", "--images", 30),
    )
    assert (status, error) == (2, "Enough.\n")
    assert received["value_range"] == "caffe" and received["output"] == 0
    assert received["limits"] == {"leak": 0.02, "shortcut:pasted_patch": 0.9}
    assert received["class_names"] == ["below", "top"]
    assert np.bincount(received["labels"]).tolist() == [14, 15]  # one cannot be read
    assert len(received["train"][0]) == len(received["train"][1]) == 30
    assert set(received["resized_variants"]) == {
        *("taking the nearest pixel", "a crop from the middle", "padding")
    }
    assert all(v.shape == received["images"].shape for v in received["resized_variants"].values())


# ------------------------------------------------------------------------------------------ loading


def test_images_and_labels_of_a_folder(files):
    loaded = load_labelled(top_reader(), files / "images")
    assert loaded.pixels.shape == (60, 16, 16, 3) and loaded.pixels.dtype == np.float32
    assert loaded.class_names == ["below", "top"] and loaded.unreadable == 1
    assert [file.parent.name for file in loaded.files] == ["below"] * 30 + ["top"] * 30
    np.testing.assert_array_equal(loaded.labels, np.repeat([0, 1], 30))
    images, labels = red_halves(60)
    expected = np.concatenate([images[labels == k] for k in (0, 1)])
    np.testing.assert_array_equal(loaded.pixels, np.floor(expected))


def test_names_give_the_order_of_the_classes(files):
    loaded = load_labelled(top_reader(), files / "train", class_names=["top", "below"])
    assert loaded.class_names == ["top", "below"]
    assert {f.parent.name: k for f, k in zip(loaded.files, loaded.labels)} == {"top": 0, "below": 1}


def test_few_images_are_spread_evenly(files):
    every = load_labelled(top_reader(), files / "train")
    few = load_labelled(top_reader(), files / "train", per_class=3)
    assert len(few.files) == 6 and set(few.files) < set(every.files)
    positions = [every.files.index(file) for file in few.files[:3]]
    assert np.ptp(np.diff(positions)) <= 1 and positions[-1] - positions[0] >= 15
    chosen = load_labelled(top_reader(), files / "train", chosen=lambda file: "05" in file.stem)
    assert {file.stem for file in chosen.files} == {"005", *(f"05{i}" for i in range(10))}


def test_resized_variants_are_of_the_same_images(files, tmp_path):
    wide = np.random.default_rng(0).uniform(0, 255, (4, 16, 32, 3))
    write_images(tmp_path, wide, np.arange(4) % 2, ("a", "b"))
    (tmp_path / "a" / "broken.png").write_bytes(b"no image")
    variants = {"cropped": Resizing("crop"), "padded": Resizing("pad")}
    loaded = load_labelled(top_reader(), tmp_path, variants=variants)
    assert set(loaded.variants) == set(variants) and AS_THEY_ARE not in loaded.variants
    assert all(v.shape == loaded.pixels.shape == (4, 16, 16, 3) for v in loaded.variants.values())
    # In order of their classes, images 0 and 2 come first; a crop keeps the middle as it is.
    np.testing.assert_allclose(loaded.variants["cropped"][1], np.uint8(wide[2, :, 8:24]), atol=1)
    assert np.ptp(loaded.variants["padded"][:, 0], axis=(1, 2)).max() < 3


def test_folders_that_do_not_fit(files, tmp_path):
    model = model_of(layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax"))
    with pytest.raises(ValueError, match="lie in 2 folders, and the model has 3 classes"):
        load_labelled(model, files / "images")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="None of the 2 images in .* can be read"):
        load_labelled(top_reader(), tmp_path)


def test_how_many_of_each_class_make_a_total(files):
    for total, each in ((60, 30), (61, 30), (3, 1), (1, 1), (0, 1)):
        assert images_per_class(files / "images", total) == each


def test_a_model_is_loaded_without_warnings(files, recwarn):
    model = load_model_quietly(files / "model.keras")
    np.testing.assert_array_equal(model.get_weights()[0], top_reader().get_weights()[0])
    assert not recwarn.list
