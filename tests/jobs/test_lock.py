import subprocess
import sys
from pathlib import Path

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
