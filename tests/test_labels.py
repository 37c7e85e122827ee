"""The classes of folders, by name or by order."""

import pytest

from debugcnn import class_numbers


@pytest.mark.parametrize(
    ("folders", "names", "count", "numbers"),
    [
        (["a", "b"], [], 2, [0, 1]),
        (["a", "b"], None, 2, [0, 1]),
        (["cats", "Dogs"], ["dog", "cat"], 2, [1, 0]),
        (["cat"], ["dog", "cat", "owl"], 3, [1]),
        (["x", "y"], ["dog", "cat"], 2, [0, 1]),
    ],
)
def test_folders_are_classes_by_name_or_else_in_order(folders, names, count, numbers):
    assert class_numbers(folders, names, count)[0].tolist() == numbers


def test_what_is_assumed_is_said():
    assert "order are the classes: x = class 0, y = class 1." in class_numbers("xy", [], 2)[1]
    assert class_numbers("abcdefghijkl", [], 12)[1].endswith("j = class 9, ....")


@pytest.mark.parametrize(
    ("folders", "names", "sentence"),
    [(["a", "b", "c"], [], "in 3 folders"), (["cat", "owl"], ["cat", "dog"], "does not name owl")],
)
def test_folders_that_are_no_labels(folders, names, sentence):
    with pytest.raises(ValueError, match=sentence):
        class_numbers(folders, names, 2)
