"""What YourCNN.ipynb calls to go on whatever model it is given."""

import matplotlib.pyplot as plt

from debugcnn.views import notebook


def test_a_section_goes_on_after_an_error(capsys):
    with notebook.section("The maps"):
        raise ValueError("No map.\nMore.")
    with notebook.section("The drawing"):
        plt.figure()
        raise KeyError("x")
    with notebook.section("The rest"):
        print("fine")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["The maps: left out. No map.", "The drawing: left out. KeyError: 'x'", "fine"]
    assert not plt.get_fignums()


def test_spread_takes_the_first_and_the_last():
    assert notebook.spread("abcdefg", 3) == ["a", "d", "g"]
    assert notebook.spread("ab", 6) == ["a", "b"]
    assert notebook.spread([], 6) == []


def test_a_table_escapes_bars_and_can_be_folded(capsys, monkeypatch):
    displayed = []
    monkeypatch.setattr(notebook, "display", lambda markdown: displayed.append(markdown.data))
    notebook.table(["layer", "shape"], [["a|b", 3]])
    notebook.table(["layer"], [["a"]], folded="all")
    assert displayed[0] == "| layer | shape |\n| --- | --- |\n| a\\|b | 3 |"
    assert displayed[1].startswith("<details><summary>all</summary>\n\n| layer |")
