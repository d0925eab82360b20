"""Folders that are claimed, what is kept in them, and how they go."""

from pathlib import Path

import numpy as np
import pytest

from gandl_lib import files


class Killed(BaseException):
    """Nothing catches it."""


def test_arrays_are_made_once(tmp_path):
    made = {"a": np.arange(3), "DNA spots": np.float64(0.1) * np.ones((2, 2)), "well": np.array(["A01", "B02"])}
    first = files.kept(tmp_path / "new" / "x.npz", lambda: made)
    again = files.kept(tmp_path / "new" / "x.npz", lambda: pytest.fail("made twice"))
    for found in (first, again):
        assert found.keys() == made.keys()
        for name in made:
            np.testing.assert_array_equal(found[name], made[name], strict=True)


@pytest.mark.parametrize("steps", range(5))
def test_whatever_a_kill_leaves_of_a_folder_can_be_claimed_again(tmp_path, monkeypatch, steps):
    folder, left = tmp_path / "x.partial", [steps]

    def begin():
        files.claim(folder, "begun.json", {"seed": 0})
        for name in ("a", "b", "c"):
            files.kept(folder / f"{name}.npz", lambda: {"x": np.zeros(1)})

    def dying(do):
        def counted(path):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            do(path)

        return counted

    begin()
    with monkeypatch.context() as patched:
        for name in ("unlink", "rmdir"):
            patched.setattr(Path, name, dying(getattr(Path, name)))
        with pytest.raises(Killed):
            files.unclaim(folder, "begun.json")
    assert (folder / "begun.json").exists() == (steps < 4)
    begin()
    files.unclaim(folder, "begun.json")
    assert not folder.exists()
