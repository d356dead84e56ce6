"""What services have still to be told of files, should a run be killed before it tells them."""

from __future__ import annotations

import pytest

from cc_source_routing.files.owed import OWED_PATH, forget_owed, read_owed, save_owed
from cc_source_routing.files.write import FileChanges, write_files
from cc_source_routing.model import ConfigFile

FILE = ConfigFile("/etc/source-routing/new", "new\n")
OLD = "/etc/source-routing/old"


def test_changes_are_announced_before_anybody_can_see_them(tmp_path):
    write_files(tmp_path, (ConfigFile(OLD, "old\n"),), ())
    announced = []

    def announce(changes: FileChanges) -> None:
        announced.append(changes)
        assert not (tmp_path / FILE.path[1:]).exists()
        assert (tmp_path / OLD[1:]).exists()

    done = write_files(tmp_path, (FILE,), (FILE.path, OLD, "/etc/never"), announce)
    assert announced == [done] == [FileChanges((FILE.path,), (), (OLD,))]
    write_files(tmp_path, (FILE,), (FILE.path, OLD), announce)
    assert len(announced) == 1, "nothing changes"


def test_of_two_changes_of_a_file_the_later_counts():
    first = FileChanges(("/a", "/b"), ("/x",), ("/c", "/d"))
    later = FileChanges(("/c", "/e"), ("/a",), ("/b",))
    assert first.then(later) == FileChanges(("/a", "/c", "/e"), (), ("/b", "/d"))


def test_what_is_saved_is_read_until_it_is_forgotten(tmp_path):
    changes = FileChanges(("/a",), (), ("/b",))
    save_owed(tmp_path, changes)
    assert read_owed(tmp_path) == changes
    forget_owed(tmp_path)
    assert read_owed(tmp_path) == FileChanges()


NO_PATHS = '{"written": [7], "unchanged": [], "removed": []}'


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"written": 7}', NO_PATHS])
def test_a_damaged_note_counts_for_nothing(tmp_path, text: str):
    place = tmp_path / OWED_PATH[1:]
    place.parent.mkdir(parents=True)
    place.write_text(text)
    assert read_owed(tmp_path) == FileChanges()


def test_where_it_cannot_be_saved_the_run_goes_on(tmp_path):
    (tmp_path / "run").write_text("no directory")
    save_owed(tmp_path, FileChanges(("/a",)))
    forget_owed(tmp_path)
    assert read_owed(tmp_path) == FileChanges()
