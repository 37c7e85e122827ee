"""How the benchmarks measure, and that the pages show what they measured."""

import json
import re
import shlex
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from conftest import ROOT
from keras import layers
from PIL import Image

import debugcnn
from benchmarks import run, separation, timing, training, views
from debugcnn.views import tracing
from injected_faults import models

RESULTS = run.read()

needs_peak_memory = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows does not report the peak memory of a process"
)


# ------------------------------------------------------------------------------------------- pages


def test_the_pages_show_the_stored_results():
    assert run.block(RESULTS) in run.PAGE.read_text()
    assert run.short(RESULTS) in run.README.read_text()


def test_the_table_has_a_line_for_every_contender():
    for name, benchmark in run.TIMED.items():
        assert set(RESULTS[name]["rows"]) == set(benchmark.contenders)
    contenders = sum(len(benchmark.contenders) for benchmark in run.TIMED.values())
    assert len(list(run.table(RESULTS))) == 2 + contenders


def row(seconds=2.0, **facts):
    return {"seconds": seconds, "ratio": [1.0, 1.0, 1.0], "peak_bytes": 3e9} | facts


def test_the_time_of_a_peer_is_that_of_the_whole_task():
    rows = {"ours": row(amount=100), "peer": row(amount=10)}
    *_, ours, peer = run.table({"filter_patterns": {"rows": rows}})
    assert ours.endswith("| ours | 2 s | 1 | 3,000 MB |  |")
    assert peer == "|  | peer | 20 s | **1.00** (1.00 to 1.00) | 3,000 MB |  |"


def test_an_error_takes_the_place_of_a_time():
    rows = {"ours": row(first_seconds=1.0), "a forward pass, x": {"error": "ValueError: no map"}}
    conditions = dict.fromkeys(("date", "processor", "cores", "versions"), "1")
    block = run.block({"grad_cam": conditions | {"rows": rows}})
    assert "|  | a forward pass, x | fails |  |  | `ValueError: no map` |\n" in block


def test_an_error_is_one_line_without_folders():
    error = RuntimeError("no file /some/where/else/photo.jpg\n  |or| `none`")
    assert timing.sentence(error) == "RuntimeError: no file photo.jpg /or/ 'none'"


def test_only_the_text_between_the_marks_is_replaced(tmp_path, monkeypatch):
    for name in ("PAGE", "README", "FIGURE"):
        monkeypatch.setattr(run, name, tmp_path / f"{name.lower()}.png")
    for page in (run.PAGE, run.README):
        page.write_text(f"before\n{run.BEGIN}REPLACED\n{run.END}\nafter")
    run.main(["--table"])
    assert run.PAGE.read_text() == f"before\n{run.block(RESULTS)}\nafter"
    assert run.README.read_text() == f"before\n{run.short(RESULTS)}\nafter"
    assert run.FIGURE.stat().st_size > 10_000


def test_the_results_say_what_they_hold_for():
    for measured in RESULTS.values():
        assert measured["processor"] and measured["cores"] and measured["date"]
    assert not re.search(r"/(home|root|tmp|work|Users)/", json.dumps(RESULTS))


def test_the_peers_are_pinned_to_the_versions_that_were_measured():
    lines = (ROOT / "benchmarks" / "requirements.txt").read_text().split()[2:]
    pins = dict(line.split("==") for line in lines)
    assert set(pins) == set(run.PEERS)
    for name, benchmark in run.TIMED.items():
        for peer, version in pins.items():
            if any(peer in label for label in benchmark.contenders):
                assert f"{peer} {version}" in RESULTS[name]["versions"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grad_kam"], "There is no benchmark grad_kam"),
        (["--minutes", "x"], "invalid positive value"),
        (["--minutes", "0"], "invalid positive value"),
        (["--repetitions", "0"], "invalid choice"),
        (["training", "--data", "nowhere"], "There is no folder"),
    ],
)
@needs_peak_memory
def test_wrong_arguments_get_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)
    assert message in capsys.readouterr().err + str(stopped.value)


@needs_peak_memory
def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(run.PEERS, "tf-explain", "no_such_module")
    monkeypatch.setitem(run.PEERS, "tf-keras-vis", "json")  # as if it were installed
    with pytest.raises(SystemExit, match="tf-explain is missing: run pip install"):
        run.main(["grad_cam"])
    monkeypatch.setitem(run.PEERS, "split-folders", "json")
    monkeypatch.setattr(run.shutil, "which", lambda name: name)
    with pytest.raises(SystemExit, match="There is no archive none.zip"):
        run.main(["separator", "--archive", "none.zip"])


@pytest.mark.slow  # the command itself is tested above, in process
def test_the_command_starts():
    command = [sys.executable, "-m", "benchmarks.run", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "benchmarks.run" in done.stdout and not done.stderr


# ------------------------------------------------------------------------------------------ timing


def test_ratios_are_those_of_the_same_round_and_amount():
    rows = timing.summary(
        {
            "ours": {"seconds": [1.0, 2.0, 4.0], "amount": 100},
            "peer": {"seconds": [3.0, 4.0, 4.0], "amount": 50},
            "broken": {"error": "TypeError: x"},
        }
    )
    assert rows["peer"]["ratio"] == [4.0, 2.0, 6.0]
    assert rows["peer"]["seconds"] == 4.0
    assert rows["ours"]["ratio"] == [1.0, 1.0, 1.0]
    assert rows["broken"] == {"error": "TypeError: x"}


CONTENDERS = """
import os

from benchmarks.timing import Task

def note(text):
    with open(os.environ["LOG"], "a") as log:
        log.write(text + " ")

def ours(gift):
    def work():
        note("ours")
        return bytearray(300_000_000)
    return Task(work, lambda made: {"amount": 2, "gift": gift, "size": len(made)})

def peer(gift):
    return lambda: note("peer")

def broken_at_work(gift):
    def work():
        raise ValueError("it is\\n  broken")
    return work

def broken_from_the_start(gift):
    raise ImportError("no such peer")
"""


@needs_peak_memory
def test_contenders_take_turns_and_a_broken_one_stops_no_other(tmp_path, monkeypatch):
    (tmp_path / "some_contenders.py").write_text(CONTENDERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    import some_contenders

    contenders = {
        "ours": some_contenders.ours,
        "broken": some_contenders.broken_at_work,
        "peer": some_contenders.peer,
        "absent": some_contenders.broken_from_the_start,
    }
    rows = timing.compare(contenders, repetitions=2, warm_up=1, arguments=["a gift"])
    assert rows["broken"] == {"error": "ValueError: it is broken"}
    assert rows["absent"] == {"error": "ImportError: no such peer"}
    turns = (tmp_path / "log").read_text().split()
    assert turns == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert rows["ours"]["gift"] == "a gift" and rows["ours"]["size"] == 300_000_000
    assert 0.3e9 < rows["ours"]["peak_bytes"] < 0.6e9 > rows["peer"]["peak_bytes"]
    assert rows["peer"]["first_seconds"] > 0


def test_all_twelve_maps_are_compared():
    model = keras.models.load_model(views.MODEL, compile=False)
    kinds = [type(layer).__name__ for layer in views._layers(model)]
    assert len(kinds) == 12 and set(kinds) == {"Conv2D", "MaxPooling2D"}
    assert isinstance(model.get_layer(views.LAST["ours"]), layers.Add)


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
            count = tf.numpy_function(rows.append, [tf.shape(images)[0]], [])
            with tf.control_dependencies([count]):
                return tf.identity(images)

    parts = [Counted(), layers.Conv2D(80, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((12, 12, 3)), *parts, layers.Dense(1, "sigmoid")])
    images = np.random.default_rng(0).uniform(0, 255, (2, 12, 12, 3)).astype(np.float32)
    getattr(debugcnn, method)(model, images, target=1, **METHODS[method])
    assert sum(rows) >= 80 and max(rows) <= tracing.BATCH


# --------------------------------------------------------------------------------------- separator


def test_what_a_separation_lets_through(tmp_path):
    blocks = np.random.default_rng(0).integers(0, 255, (4, 4, 5, 3), np.uint8)
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
    (tmp_path / "split/train/cats/Thumbs.db").write_bytes(b"no image")
    (tmp_path / "unpacked" / "PetImages" / "Cat").mkdir(parents=True)
    (tmp_path / "unpacked" / "PetImages" / "Cat" / "0.jpg").write_bytes(whole)
    found = {"images": 6, "broken_files": 2, "pairs_across_splits": 1}
    assert separation.let_through(tmp_path) == found


def test_the_class_folders_are_found_in_an_archive(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as zipped:
        for name in ("readme.txt", "a/extra/0.jpg", "PetImages/Cat/0.jpg", "PetImages/Dog/0.jpg"):
            zipped.writestr(name, b"")
    assert separation.class_folder_of(tmp_path / "photos.zip").as_posix() == "PetImages"
    monkeypatch.setattr(separation, "WORK", tmp_path)
    for _ in range(2):
        folder = separation.unpacked(tmp_path / "photos.zip")
        assert sorted(inside.name for inside in folder.iterdir()) == ["Cat", "Dog"]
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as zipped:
        zipped.writestr("PetImages/Cat/0.jpg", b"")
    with pytest.raises(ValueError, match="one.zip holds no two folders"):
        separation.class_folder_of(tmp_path / "one.zip")


def test_our_separation_is_a_task(tmp_path, monkeypatch):
    monkeypatch.setattr(separation, "WORK", tmp_path)
    images = np.random.default_rng(0).integers(0, 255, (40, 24, 24, 3), np.uint8)
    for number, image in enumerate(images):
        file = tmp_path / "source" / ("Cat", "Dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((96, 96)).save(file)
    task = separation.ours(str(tmp_path / "source"))
    task.prepare()
    found = {"images": 40, "broken_files": 0, "pairs_across_splits": 0}
    assert task.judge(task.work()) == found


# ---------------------------------------------------------------------------------------- training


def test_the_short_training_is_the_notebooks_with_other_parameters():
    program = training.program({"STAGES": [[8, 1, 0.0]], "DATA": "elsewhere"})
    values = {}
    for line in program.splitlines():
        if match := re.match(r"(STAGES|DATA|SEED) = (.*)", line):
            values[match[1]] = match[2]
    assert values["STAGES"] == "[[8, 1, 0.0]]" and values["DATA"] == "'elsewhere'"
    assert values["SEED"].startswith("0")
    assert program.count("model.fit(") == 1 and 'load("test"' not in program
    compile(program, "cells", "exec")


def test_the_short_training_that_is_documented_is_the_one_that_was_measured():
    page = (ROOT / "docs" / "training.md").read_text()
    words = shlex.split(re.search(r"papermill CatsVsDogs.ipynb out/quick.ipynb .*", page)[0])
    parameters = yaml.safe_load(words[words.index("-y") + 1])
    parameters["WARMUP"] = float(words[words.index("WARMUP") + 1])
    assert parameters == training.QUICK == RESULTS["training"]["quick"]


def test_the_peer_is_the_one_that_its_author_describes():
    model = models.original()
    assert model.input_shape == (None, 150, 150, 3)
    assert model.count_params() / 1e6 == pytest.approx(3.6, abs=0.05)
    filters = [layer.filters for layer in model.layers if isinstance(layer, layers.Conv2D)]
    assert filters == [32, 32, 64, 64, 128, 128]


@pytest.mark.parametrize(
    ("accuracies", "minutes"),
    [
        ([0.5, 0.93, 0.95], 2),
        ([0.94, 0.92, 0.93, 0.96], 3),
        ([0.94, 0.92], None),
        ([0.99], 1),
    ],
)
def test_the_goal_is_reached_when_no_later_validation_falls_below_it(accuracies, minutes):
    curve = [[i + 1, accuracy] for i, accuracy in enumerate(accuracies)]
    assert training.reached(curve) == minutes


@needs_peak_memory
def test_the_clock_of_the_peer_stands_still_while_it_is_validated(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("validation", 6)):
        for kind, low in (("cats", 0), ("dogs", 120)):
            folder = tmp_path / split / kind
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(low, low + 120, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")

    def tiny():
        parts = [layers.Rescaling(1 / 255), layers.GlobalAveragePooling2D()]
        return keras.Sequential([keras.Input((16, 16, 3)), *parts, layers.Dense(1, "sigmoid")])

    ticks = iter(range(0, 10_000, 15))  # seconds from each look at the clock to the next
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(models, "original", tiny)
    training.train_original(tmp_path, tmp_path, minutes=1)
    monkeypatch.undo()
    stored = json.loads((tmp_path / "curve.json").read_text())
    assert [minutes for minutes, _ in stored["curve"]] == [0.5, 0.75, 1.0]
    assert stored["epochs"] == 3 and stored["peak_bytes"] > 1e8
    assert all(0 <= accuracy <= 1 for _, accuracy in stored["curve"])


NOTEBOOK_CELLS = [
    ("EVERY = 5", ["parameters"]),
    ("print('Training on 4 images')", []),
    (
        "history = train()\nfor k in (1, 2):\n"
        "    print(f'epoch {k:2}  x   validation: accuracy 0.{k}00  loss 1', EVERY)",
        [],
    ),
]


@needs_peak_memory
@pytest.mark.parametrize("fails", [False, True])
def test_the_curve_of_ours_is_read_from_the_output_of_the_cells(tmp_path, monkeypatch, fails):
    sources = [("train = str" if not fails else "pass", []), *NOTEBOOK_CELLS]
    cells = [
        {"cell_type": "code", "source": [source], "metadata": {"tags": tags}}
        for source, tags in sources
    ]
    (tmp_path / "short.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(training, "NOTEBOOK", tmp_path / "short.ipynb")
    if fails:
        with pytest.raises(RuntimeError, match="The notebook's cells failed"):
            training.train_ours(tmp_path, tmp_path)
        return
    training.train_ours(tmp_path, tmp_path)
    stored = json.loads((tmp_path / "curve.json").read_text())
    assert [accuracy for _, accuracy in stored["curve"]] == [0.1, 0.2] and stored["epochs"] == 2
