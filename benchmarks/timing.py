"""Contenders in turn, each in a process of its own: seconds, peak memory and results."""

import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from debugcnn.hardware import peak_memory

PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "scipy",
    "tf-keras-vis",
    "tf-explain",
    "split-folders",
    "xplique",
)
DIGITS = 6  # significant ones, of what is stored
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Row = dict[str, Any]  # what was measured of a contender, or {"error": sentence}


class Task(NamedTuple):
    """What a contender does: the `work` that is timed, the facts that `judge` finds out about its
    result, and what `prepare` does before each round.
    """

    work: Callable[[], Any]
    judge: Callable[[Any], Row] = lambda result: {}
    prepare: Callable[[], None] = lambda: None


_contender: dict[str, Any] = {}  # in its process: its task, and the last result


def _set_up(contender, arguments):
    made = contender(*arguments)
    _contender["task"] = made if isinstance(made, Task) else Task(made)


def _repeat():
    _contender["result"] = None  # so that two results never count as the memory of one
    _contender["task"].prepare()
    begin = time.perf_counter()
    _contender["result"] = _contender["task"].work()
    return time.perf_counter() - begin


def _judge():
    return _contender["task"].judge(_contender["result"])


def peak_bytes() -> int:
    """Most memory that this process, or one that it waited for, ever held; not on Windows."""
    import resource  # Windows has none

    unit = 1 if platform.system() == "Darwin" else 1024
    return max(peak_memory(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)


def compare(
    contenders: Mapping[str, Callable[..., Any]],
    repetitions: int,
    warm_up: int = 1,
    arguments: Sequence[Any] = (),
) -> dict[str, Row]:
    """Time {label: contender} in turn, "ours" among them: what was measured of each.

    A contender, a function at the top of a module or a functools.partial of one, takes the
    `arguments`, sets up, and returns its work or a Task. Timed are the repetitions after `warm_up`
    of them, in one round one contender after the other, in the next the other way round. A row has
    - "seconds", the median, and "first_seconds", those of the first call;
    - "ratio", the median, minimum and maximum over the rounds of its time over ours, for the same
      "amount", where the judge gives one;
    - "peak_bytes" and what the judge found out.
    A contender that fails gets a row with its error. Raises RuntimeError if ours fails.
    """
    processes = {label: _Process(label, c, arguments) for label, c in contenders.items()}
    for number in range(-warm_up, repetitions):
        for process in list(processes.values())[:: 1 if number % 2 else -1]:
            process.repeat(first=number == -warm_up, timed=number >= 0)
    rows = {label: process.finish() for label, process in processes.items()}
    if "error" in rows["ours"]:
        raise RuntimeError(f"Ours failed, so there is nothing to compare: {rows['ours']['error']}")
    return summary(rows)


class _Process:
    """A contender in its process, until it fails, and its row."""

    def __init__(self, label, contender, arguments):
        self.label, self.row = label, {"seconds": []}
        self.pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self.ask(_set_up, contender, arguments)

    def ask(self, function, *values):
        """What a function returns there, or None if the contender fails or has failed."""
        if "error" in self.row:
            return None
        try:
            return self.pool.submit(function, *values).result()
        except Exception as error:  # whatever a peer raises belongs into the results
            self.row = {"error": sentence(error)}
            self.pool.shutdown()

    def repeat(self, first, timed):
        seconds = self.ask(_repeat)
        if seconds is not None and first:
            self.row["first_seconds"] = seconds
        if seconds is not None and timed:
            self.row["seconds"].append(seconds)
            print(f"  {self.label:36} {seconds:8.2f} s", flush=True)

    def finish(self):
        """The row, with memory and what the judge found out."""
        peak, judged = self.ask(peak_bytes), self.ask(_judge)  # judging takes memory, too
        if "error" not in self.row:
            self.row |= {"peak_bytes": peak} | judged
            self.pool.shutdown()
        return self.row


def summary(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Rows with the seconds of all rounds, as `compare` returns them."""
    ours, result = rows["ours"], {}
    for label, row in rows.items():
        result[label] = row = dict(row)
        if "seconds" in row:
            scale = ours.get("amount", 1) / row.get("amount", 1)
            pairs = zip(row["seconds"], ours["seconds"])
            ratios = [scale * theirs / own for theirs, own in pairs]
            row["ratio"] = [rounded(f(ratios)) for f in (median, min, max)]
            row["seconds"] = rounded(median(row["seconds"]))
        if "first_seconds" in row:
            row["first_seconds"] = rounded(row["first_seconds"])
    return result


def rounded(value: float) -> float:
    """`value` with DIGITS significant digits."""
    return float(f"{value:.{DIGITS}g}")


def sentence(error: BaseException) -> str:
    """An error in a line of a table, without a path of this machine."""
    text = re.sub(r"(/[\w.~+-]+)+/", "", " ".join(str(error).split()))  # no folders
    text = f"{type(error).__name__}: {text}".replace("|", "/").replace("`", "'")
    return text if len(text) <= 200 else text[:199] + "…"


def processor() -> str:
    """The name of the processor."""
    file = Path("/proc/cpuinfo")  # on Linux
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def conditions() -> Row:
    """What the numbers hold for: the date, the machine, and the versions of what is installed."""
    versions = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": ", ".join(versions),
    }
