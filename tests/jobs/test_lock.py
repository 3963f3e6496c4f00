import subprocess
import sys
from pathlib import Path

import pytest

from app.jobs import lock


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    first, second = lock.FileLock(tmp_path / "lock"), lock.FileLock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    assert lock.is_held(tmp_path / "lock")
    first.release()
    assert not lock.is_held(tmp_path / "lock")
    assert second.acquire()
    second.release()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = f"""
import pathlib, sys, time
from app.jobs.lock import FileLock
FileLock(pathlib.Path({str(path)!r})).acquire(); print("held", flush=True); time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert holder.stdout is not None and holder.stdout.readline().strip() == b"held"
    assert lock.is_held(path)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert not lock.is_held(path)


def test_an_absent_lock_is_not_held_and_not_made(tmp_path: Path) -> None:
    assert not lock.is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()


def test_looks_at_a_free_lock_do_not_refuse_each_other(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    code = f"""
import pathlib
from app.jobs.lock import is_held
print("ready", flush=True); input()
print(sum(is_held(pathlib.Path({str(path)!r})) for _ in range(20_000)))
"""
    looks = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        for _ in range(2)
    ]
    for look in looks:
        assert look.stdout is not None and look.stdout.readline().strip() == b"ready"
    for look in looks:
        assert look.stdin is not None
        look.stdin.write(b"\n")
        look.stdin.flush()
    answers = [look.communicate()[0].strip() for look in looks]
    assert answers == [b"0", b"0"]


def test_a_lock_that_was_removed_while_it_was_opened_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, take = tmp_path / "lock", lock._take
    holder, taker, third = (lock.FileLock(path) for _ in range(3))
    assert holder.acquire()

    def removed_first(descriptor: int) -> bool:
        holder.remove()  # it ends between the taker's opening of the file and its lock on it
        return take(descriptor)

    monkeypatch.setattr(lock, "_take", removed_first)
    assert taker.acquire()
    monkeypatch.undo()
    assert not third.acquire() and lock.is_held(path)
    taker.remove()
    assert not path.exists() and third.acquire()
    third.remove()
    third.remove()


def test_a_lock_that_moved_with_its_folder_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job").mkdir()
    take, taker = lock._take, lock.FileLock(tmp_path / "job" / "lock")

    def moved_first(descriptor: int) -> bool:
        (tmp_path / "job").rename(tmp_path / "trash")
        return take(descriptor)

    monkeypatch.setattr(lock, "_take", moved_first)
    assert taker.acquire() and lock.is_held(tmp_path / "trash" / "lock")
    taker.release()
