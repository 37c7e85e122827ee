"""What libraries write to standard error past Python."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def standard_error_silenced() -> Iterator[None]:
    """Discard what this process writes to standard error, C and C++ libraries included."""
    stderr = os.dup(2)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
