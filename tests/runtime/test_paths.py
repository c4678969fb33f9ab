"""Files are complete or absent."""

from pathlib import Path

import pytest
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import complete_or_absent


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError])
def test_complete_or_absent_cleans_up(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), complete_or_absent(tmp_path / "a" / "place") as temporary:
        temporary.mkdir()
        (temporary / "half").write_text("x")
        raise error
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize("directory", [True, False])
def test_complete_or_absent_completes(tmp_path: Path, directory: bool) -> None:
    place = tmp_path / "a" / "place"
    with complete_or_absent(place) as temporary:
        assert temporary.parent == epath.Path(place).parent  # one file system: a rename will do
        if directory:
            temporary.mkdir()
        (temporary / "x" if directory else temporary).write_text("whole")
        assert not place.exists()
    assert (place / "x" if directory else place).read_text() == "whole"
    assert list(place.parent.iterdir()) == [place]


def test_complete_or_absent_reports_what_the_system_refuses(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="cannot write .*place: .*No space"),
        complete_or_absent(tmp_path / "place") as temporary,
    ):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_complete_or_absent_leaves_alone_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("old")
    with (
        pytest.raises(UserError, match="cannot write .*place.*exists"),
        complete_or_absent(tmp_path / "place") as temporary,
    ):
        temporary.write_text("new")
    assert (tmp_path / "place").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_complete_or_absent_replaces_where_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("old")
    with complete_or_absent(tmp_path / "place", replace=True) as temporary:
        temporary.write_text("new")
        assert (tmp_path / "place").read_text() == "old"  # at every moment one of both
    assert (tmp_path / "place").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
