"""What the benchmarks compute beside the times, and that the README tells what they measured."""

import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import cells
import keras
import measure
import numpy as np
import pytest
import run
import separator
import tensorflow as tf
import training
import yaml
from keras import layers
from PIL import Image

import debugcnn.quiet

ROOT = Path(__file__).parents[1]
RESULTS = json.loads((ROOT / "benchmarks" / "results.json").read_text())


# ---------------------------------------------------------------------------------- what is told


def test_the_pages_tell_what_was_measured():
    assert run.block(RESULTS) in (ROOT / "benchmarks" / "README.md").read_text()
    assert run.short(RESULTS) in (ROOT / "README.md").read_text()


def test_the_table_has_a_line_for_every_contender():
    measured = [RESULTS[name]["rows"] for name in run.TITLES if name in RESULTS]
    contenders = [label for rows in measured for label in rows]
    assert len(contenders) > 15
    assert len(list(run.table(RESULTS))) == 2 + len(contenders)


def a_row(**more):
    second = measure.spread([2.0])
    return {"seconds": second, "ratio": measure.spread([1.0]), "peak_bytes": 3e9} | more


def test_a_peers_time_is_that_of_the_whole_work():
    rows = {"ours": a_row(amount=100), "peer": a_row(amount=10)}
    *_, ours, peer = run.table({"filter_patterns": {"rows": rows}})
    assert ours.endswith("| ours | 2 s | 1 | 3,000 MB |  |")
    assert peer == "|  | peer | 20 s | **1.00** (1.00 to 1.00) | 3,000 MB |  |"


@pytest.mark.parametrize("name", ["grad_cam", "pipeline_in_training"])
def test_an_error_is_told_in_the_place_of_a_time(name):
    error = {"error": "ValueError: no map"}
    rows = {
        "ours": a_row(first_seconds=1),
        "a forward pass, x": error,
        "the same batch again": error,
    }
    results = {name: {"rows": rows} | dict.fromkeys(("date", "processor", "cores"), "1")}
    results[name]["versions"] = {}
    told = run.block(results)
    assert "|  | a forward pass, x | fails |  |  | `ValueError: no map` |\n" in told


def test_an_error_is_one_line_without_folders():
    error = RuntimeError("no file /some/where/else/photo.jpg\n  |or| `none`")
    assert measure.sentence(error) == "RuntimeError: no file photo.jpg /or/ 'none'"


def test_the_results_say_what_they_hold_for():
    for benchmark in RESULTS.values():
        assert benchmark["processor"] and benchmark["cores"] and benchmark["date"]
        assert {"tensorflow", "tf-keras-vis", "split-folders"} <= set(benchmark["versions"])
    assert not re.search(r"/(home|root|tmp|work|Users)/", json.dumps(RESULTS))


def test_the_peers_are_pinned():
    lines = (ROOT / "benchmarks" / "requirements.txt").read_text().split()[2:]
    assert {"tf-keras-vis==0.8.7", "tf-explain==0.3.1", "xplique==1.3.3"} <= set(lines)
    pins = dict(line.split("==") for line in lines)
    for benchmark in RESULTS.values():
        used = set(benchmark.get("rows", ())) & set(pins) | {"tf-keras-vis", "split-folders"}
        assert used <= set(benchmark["versions"])
        for name in set(pins) & set(benchmark["versions"]):  # what came later is in later ones
            assert benchmark["versions"][name] == pins[name]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["grad_kam"], "grad_kam is no benchmark"),
        (["--minutes", "x"], "invalid positive value"),
        (["--minutes", "0"], "invalid positive value"),
        (["--repetitions", "0"], "invalid choice"),
    ],
)
def test_wrong_arguments_get_one_sentence(arguments, words):
    command = [sys.executable, ROOT / "benchmarks" / "run.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and words in done.stderr and "Traceback" not in done.stderr


# ------------------------------------------------------------------------------- how it is timed


def test_ratios_are_those_of_the_same_round_and_amount():
    told = measure.told(
        {
            "ours": {"seconds": [1.0, 2.0, 4.0], "amount": 100},
            "peer": {"seconds": [3.0, 4.0, 4.0], "amount": 50},
            "broken": {"error": "TypeError: x"},
        }
    )
    assert told["peer"]["ratio"] == {"median": 4.0, "minimum": 2.0, "maximum": 6.0}
    assert told["peer"]["seconds"] == {"median": 4.0, "minimum": 3.0, "maximum": 4.0}
    assert told["ours"]["ratio"] == {"median": 1.0, "minimum": 1.0, "maximum": 1.0}
    assert told["broken"] == {"error": "TypeError: x"}


CONTENDERS = """
import os

def note(text):
    with open(os.environ["LOG"], "a") as log:
        log.write(text + " ")

def ours(gift):
    def work():
        note("ours")
        return bytearray(300_000_000)
    return work, lambda made: {"amount": 2, "gift": gift, "size": len(made)}

def peer(gift):
    return lambda: note("peer")

def broken_at_work(gift):
    def work():
        raise ValueError("it is\\n  broken")
    return work

def broken_from_the_start(gift):
    raise ImportError("no such peer")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak memory so")
def test_contenders_take_turns_and_a_broken_one_stops_no_other(tmp_path, monkeypatch):
    (tmp_path / "some_contenders.py").write_text(CONTENDERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    import some_contenders as them

    contenders = {
        "ours": them.ours,
        "broken": them.broken_at_work,
        "peer": them.peer,
        "absent": them.broken_from_the_start,
    }
    measured = measure.compare(contenders, repetitions=2, warm_up=1, arguments=["a gift"])
    assert measured["broken"] == {"error": "ValueError: it is broken"}
    assert measured["absent"] == {"error": "ImportError: no such peer"}
    turns = (tmp_path / "log").read_text().split()
    assert turns == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert measured["ours"]["gift"] == "a gift" and measured["ours"]["size"] == 300_000_000
    assert 0.3e9 < measured["ours"]["peak_bytes"] < 0.6e9 > measured["peer"]["peak_bytes"]
    assert measured["peer"]["first_seconds"] > 0


METHODS = {
    "score_cam": {},
    "smooth_grad": {"samples": 40},
    "integrated_gradients": {"steps": 40},
    "occlusion": {"size": 2, "stride": 1},
    "rise": {"samples": 80},
}


@pytest.mark.parametrize("method", METHODS)
def test_memory_is_that_of_a_batch_however_much_is_tried(method):
    rows = []

    class Counted(layers.Layer):
        def call(self, images):
            with tf.control_dependencies(
                [tf.numpy_function(rows.append, [tf.shape(images)[0]], [])]
            ):
                return tf.identity(images)

    parts = [Counted(), layers.Conv2D(80, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((12, 12, 3)), *parts, layers.Dense(1, "sigmoid")])
    photos = np.random.default_rng(0).uniform(0, 255, (2, 12, 12, 3)).astype(np.float32)
    getattr(debugcnn, method)(model, photos, target=1, **METHODS[method])
    assert sum(rows) >= 80 and max(rows) <= debugcnn.views.tracing.BATCH


# ------------------------------------------------------------------------------------ separator


def test_what_a_separation_lets_through(tmp_path):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (4, 4, 5, 3), np.uint8)
    pictures = [Image.fromarray(block).resize((100, 80)) for block in blocks]
    places = {
        "train/cats/0.jpg": 0,
        "train/dogs/1.jpg": 1,
        "train/dogs/1-again.jpg": 1,  # a pair in one split
        "val/cats/2.jpg": 2,
        "test/cats/2-smaller.jpg": 2,  # a pair across two
        "test/dogs/3.jpg": 3,
    }
    for place, number in places.items():
        file = tmp_path / "split" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = pictures[number].resize((50, 40)) if "smaller" in place else pictures[number]
        picture.save(file, quality=90)
    whole = (tmp_path / "split/train/cats/0.jpg").read_bytes()
    (tmp_path / "split/train/cats/half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "split/train/cats/Thumbs.db").write_bytes(b"no photo")
    (tmp_path / "unpacked" / "PetImages" / "Cat").mkdir(parents=True)
    (tmp_path / "unpacked" / "PetImages" / "Cat" / "0.jpg").write_bytes(whole)
    assert separator._let_through(tmp_path) == {
        "photos": 6,
        "broken_files": 2,
        "pairs": 2,
        "pairs_across_splits": 1,
    }


def test_the_class_folders_are_found_in_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as zipped:
        for name in ("readme.txt", "a/extra/0.jpg", "PetImages/Cat/0.jpg", "PetImages/Dog/0.jpg"):
            zipped.writestr(name, b"")
    assert separator.class_folder_of(tmp_path / "photos.zip").as_posix() == "PetImages"
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as zipped:
        zipped.writestr("PetImages/Cat/0.jpg", b"")
    with pytest.raises(ValueError, match="one.zip holds no two folders"):
        separator.class_folder_of(tmp_path / "one.zip")


def test_turned_photos_are_four_different_ones(tmp_path):
    photo = np.random.default_rng(0).integers(0, 255, (8, 8, 1), np.uint8)
    photo = photo.repeat(8, 0).repeat(8, 1).repeat(3, 2)
    (tmp_path / "source" / "cats").mkdir(parents=True)
    Image.fromarray(photo).save(tmp_path / "source" / "cats" / "a.jpg", quality=95)
    separator._turned(tmp_path / "source", tmp_path / "target", 4)
    made = sorted((tmp_path / "target" / "cats").iterdir())
    for file, expected in zip(made, [photo, photo[:, ::-1], photo[::-1], photo[::-1, ::-1]]):
        assert np.abs(np.asarray(Image.open(file), float) - expected).mean() < 10
    assert len(made) == 4


# ------------------------------------------------------------------------------------- training


def test_the_short_training_is_the_notebooks_with_other_parameters():
    program = cells.training({"STAGES": [[8, 1, 0.0]], "DATA": "elsewhere"})
    names = {}
    for line in program.splitlines():
        if match := re.match(r"(STAGES|DATA|SEED) = (.*)", line):
            names[match[1]] = match[2]
    assert names["STAGES"] == "[[8, 1, 0.0]]" and names["DATA"] == "'elsewhere'"
    assert names["SEED"].startswith("0")
    assert program.count("model.fit(") == 1 and 'load("test"' not in program
    compile(program, "cells", "exec")


def test_the_readmes_short_training_is_the_one_that_was_measured():
    readme = (ROOT / "README.md").read_text()
    words = shlex.split(re.search(r"papermill CatsVsDogs.ipynb out/quick.ipynb .*", readme)[0])
    given = yaml.safe_load(words[words.index("-y") + 1])
    given["WARMUP"] = float(words[words.index("WARMUP") + 1])
    assert given == training.QUICK == RESULTS["training"]["quick"]


def test_the_notebooks_definitions_do_nothing_but_define():
    notebook = cells.definitions()
    assert notebook.build_model(128).count_params() == 1_097_313
    assert not hasattr(notebook, "history") and not hasattr(notebook, "photos")


def test_the_peers_are_those_that_their_authors_describe():
    model, optimizer, augment = training.original()
    assert model.input_shape == (None, 150, 150, 3) and augment is None
    assert model.count_params() / 1e6 == pytest.approx(3.6, abs=0.05)
    kernels = [layer.kernel.shape for layer in model.layers if isinstance(layer, layers.Conv2D)]
    assert [kernel[-1] for kernel in kernels] == [32, 32, 64, 64, 128, 128]
    assert isinstance(optimizer, keras.optimizers.RMSprop)
    model, optimizer, augment = training.xception()
    assert model.input_shape == (None, 180, 180, 3) and len(augment.layers) == 2
    separable = [layer for layer in model.layers if isinstance(layer, layers.SeparableConv2D)]
    assert [layer.filters for layer in separable] == [256, 256, 512, 512, 728, 728, 1024]
    assert isinstance(optimizer, keras.optimizers.Adam)


@pytest.mark.parametrize(
    "accuracies, minutes",
    [
        ([0.5, 0.93, 0.95], 2),
        ([0.94, 0.92, 0.93, 0.96], 3),
        ([0.94, 0.92], None),
        ([0.99], 1),
    ],
)
def test_the_goal_is_reached_when_no_later_validation_falls_below_it(accuracies, minutes):
    assert training.reached([[i + 1, a] for i, a in enumerate(accuracies)]) == minutes


def tiny():
    parts = [layers.Rescaling(1 / 255), layers.GlobalAveragePooling2D(), layers.Dense(1, "sigmoid")]
    model = keras.Sequential([keras.Input((16, 16, 3)), *parts])
    return model, keras.optimizers.Adam(0.1), None


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("validation", 6)):
        for kind, low in (("cats", 0), ("dogs", 120)):
            folder = tmp_path / "data" / split / kind
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(low, low + 120, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return tmp_path / "data"


class Clock:
    """15 seconds from each look to the next, but for a pause before one of them."""

    def __init__(self, pause_at=None):
        self.now, self.looks, self.pause_at = 0.0, 0, pause_at

    def perf_counter(self):
        self.looks += 1
        self.now += 615 if self.looks == self.pause_at else 15
        return self.now


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak memory so")
def test_a_pause_of_the_machine_counts_for_no_peer(data, tmp_path, monkeypatch):
    monkeypatch.setitem(training.PEERS, "tiny", (tiny, 4, 1))
    minutes = []
    for pause_at in (None, 8):  # before the third part ends
        monkeypatch.setattr(training, "time", Clock(pause_at))
        state = training.train_peer("tiny", data, tmp_path / str(pause_at), 5)
        minutes.append([at for at, _ in state["curve"]])
        assert max(state["seconds"]) == (615 if pause_at else 15)
    assert minutes[0] == minutes[1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak memory so")
def test_a_stopped_training_ends_like_one_that_was_not(data, tmp_path, monkeypatch):
    def train(folder):
        return training.train_peer("tiny", data, tmp_path / folder, 5)

    monkeypatch.setitem(training.PEERS, "tiny", (tiny, 4, 1))
    monkeypatch.setattr(training, "time", Clock())
    whole = train("whole")
    assert len(whole["curve"]) == 5 and whole["curve"][-1][1] > 0.9
    saves, save = [], training.save

    def stopping(file, state):
        save(file, state)
        saves.append(state["parts"])
        if len(saves) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save", stopping)
    with pytest.raises(KeyboardInterrupt):
        train("stopped")
    resumed = train("stopped")
    for key in ("parts", "seconds", "curve", "epochs"):
        assert resumed[key] == whole[key]
    for name in tf.train.list_variables(str(tmp_path / "whole" / whole["checkpoint"])):
        values = [
            tf.train.load_variable(str(tmp_path / place / state["checkpoint"]), name[0])
            for place, state in (("whole", whole), ("stopped", resumed))
        ]
        if np.asarray(values[0]).dtype.kind == "f":
            np.testing.assert_allclose(*values, rtol=1e-5)
    assert saves == [*range(1, whole["parts"] + 1)]
