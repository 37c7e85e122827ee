"""A seed for every test, and the photos of the data set for those that need them."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has one core; must precede TensorFlow
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
# A copy of Microsoft's archive whose photos were squashed to 180 x 180 pixels.
SMALL_COPY = "35456ad30461842495a7c4d3f7dc829f5f3128efb4ac491ebfb11941118dadb6"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Nets of a test, or of its fixtures, are drawn alike, whichever tests ran before."""
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(0)


def is_the_small_copy(archive):
    """Whether counts of photos are those of the copy that everything was measured on."""
    return hashlib.sha256(archive.read_bytes()).hexdigest() == SMALL_COPY


@pytest.fixture(scope="session")
def real_archive(tmp_path_factory):
    """The zip that the environment variable CATS_AND_DOGS names."""
    if named := os.environ.get("CATS_AND_DOGS"):
        return Path(named)
    parts = sorted(SHARED.glob("kagglecatsanddogs.zip.part?"))
    if not parts:
        pytest.skip("CATS_AND_DOGS does not name a zip of the photos")
    path = tmp_path_factory.mktemp("kaggle") / "kagglecatsanddogs.zip"
    with open(path, "wb") as file:
        file.writelines(part.read_bytes() for part in parts)
    return path
