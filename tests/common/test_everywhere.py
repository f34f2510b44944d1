"""Nothing is POSIX-only at import, and locks are what every system has."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from common.errors import UserError
from common.run import device, files

# Third parties may use what a system has, so they come first; the suite's own modules then find no POSIX module.
EVERYTHING = """
import importlib, multiprocessing, pkgutil, sys
import filelock, matplotlib.pyplot, safetensors.torch, scipy.stats, torch, torch.utils.data, tqdm, tyro
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for top in ("common", "papers", "reproductions"):
    package = importlib.import_module(top)
    for module in pkgutil.walk_packages(package.__path__, f"{top}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import hubconf
from common.run.device import peak_memory_bytes
assert peak_memory_bytes() == 0
print(len([name for name in sys.modules if name.partition(".")[0] in ("common", "papers", "reproductions")]))
"""


def test_every_module_imports_without_posix():
    done = subprocess.run([sys.executable, "-c", EVERYTHING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 250


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    said = []
    holding = (
        "import sys, time, pathlib; sys.path.insert(0, '.')\n"
        "from common.run.files import held\n"
        "with held(pathlib.Path(sys.argv[1]), print): print('held', flush=True); time.sleep(60)"
    )
    path = tmp_path / "lock"
    path.write_text("a longer text from an earlier holder that must not be read as its number\n")
    holder = subprocess.Popen([sys.executable, "-c", holding, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"

        def stop(number: str) -> None:
            said.append(number)
            holder.kill()

        with files.held(path, stop):  # waits until the killed holder is gone
            assert said == [str(holder.pid)] and path.read_text().strip() == str(os.getpid())
    finally:
        holder.kill()
        holder.communicate()


def test_a_disk_without_locks(tmp_path, monkeypatch):
    def unknown(handle: int, blocking: bool = True) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "lock_descriptor", unknown)
    with (
        pytest.raises(UserError, match=r"cannot use .*: No locks available; choose another"),
        files.lock(tmp_path),
    ):
        pass
    with files.held(tmp_path / "lock", print, needed=False):
        pass


def test_folders_are_not_opened_where_the_system_refuses(tmp_path, monkeypatch):
    def refused(*arguments: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.os, "name", "nt")
    monkeypatch.setattr(files.os, "open", refused)
    files.sync_folder(tmp_path)


def test_memory_is_unknown_where_the_system_does_not_say(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert device.peak_memory_bytes() == 0
