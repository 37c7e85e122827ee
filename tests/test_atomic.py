"""Files are written whole or not at all."""

import os
import stat
import sys

import pytest

from debugcnn.files.atomic import write_atomically

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files or limits")


def test_text_is_written_as_utf8_with_its_own_line_ends(tmp_path):
    write_atomically(tmp_path / "report.html", "Vélo 猫\n")
    write_atomically(str(tmp_path / "data.bin"), b"\r\n\0")
    assert (tmp_path / "report.html").read_bytes() == "Vélo 猫\n".encode()
    assert (tmp_path / "data.bin").read_bytes() == b"\r\n\0"
    assert sorted(os.listdir(tmp_path)) == ["data.bin", "report.html"]


def test_what_was_there_is_replaced_also_under_the_longest_name(tmp_path):
    file = tmp_path / ("x" * 250 + ".json")
    for text in ("first, and longer", "second"):
        write_atomically(file, text)
    assert file.read_text() == "second" and os.listdir(tmp_path) == [file.name]


@posix
def test_a_full_disk_leaves_what_was_there(tmp_path):
    import resource
    import signal

    file = tmp_path / "report.json"
    file.write_text("the last report")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError):
            write_atomically(file, "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_text() == "the last report" and os.listdir(tmp_path) == ["report.json"]


@pytest.mark.parametrize("error", [PermissionError, KeyboardInterrupt])
def test_an_error_at_the_last_moment_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(*paths):
        raise error

    (tmp_path / "report.json").write_text("the last report")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(error):
        write_atomically(tmp_path / "report.json", "new")
    assert (tmp_path / "report.json").read_text() == "the last report"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_missing_folder_and_invalid_text_raise_before_anything_is_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "report.json", "{}")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "report.json", "\udce9")
    assert os.listdir(tmp_path) == []


@posix
def test_permissions_are_those_of_other_files_and_stay(tmp_path):
    os.umask(mask := os.umask(0))
    write_atomically(tmp_path / "report.json", "{}")
    assert stat.S_IMODE((tmp_path / "report.json").stat().st_mode) == 0o666 & ~mask
    (tmp_path / "report.json").chmod(0o640)
    write_atomically(tmp_path / "report.json", "[]")
    assert stat.S_IMODE((tmp_path / "report.json").stat().st_mode) == 0o640


@posix
def test_links_stay_links_and_devices_stay_devices(tmp_path):
    (tmp_path / "target.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("target.json")
    write_atomically(tmp_path / "link.json", "[]")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "target.json").read_text() == "[]"
    (tmp_path / "null").symlink_to(os.devnull)
    write_atomically(tmp_path / "null", "[]")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    if sys.platform == "linux":
        with open(tmp_path / "out", "w") as out:
            write_atomically(f"/dev/fd/{out.fileno()}", "to an open file")
        assert (tmp_path / "out").read_text() == "to an open file"
