"""What a notebook needs that has to go on whatever model it is given."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

Item = TypeVar("Item")


@contextmanager
def section(title: str) -> Iterator[None]:
    """Print an error that is raised inside as one sentence, and let the notebook go on.

    The sentence begins with `title`. Only a ValueError is expected: any other error is printed with
    its type. Figures that were not shown yet are closed.
    """
    try:
        yield
    except Exception as error:
        plt.close("all")
        message = (str(error).strip() or "no message").splitlines()[0]
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        print(f"{title}: left out. {kind}{message}")


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spaced, the first and the last among them.

    >>> spread("abcdefg", 3)
    ['a', 'd', 'g']
    """
    indices = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[index] for index in indices]


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]], folded: str | None = None) -> None:
    """Display rows as a Markdown table; `folded` is the line to click on if it is folded up."""
    text = "\n".join(map(_row, [header, ["---"] * len(header), *rows]))
    if folded:
        text = f"<details><summary>{folded}</summary>\n\n{text}\n\n</details>"
    display(Markdown(text))


def _row(cells):
    escaped = (str(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
