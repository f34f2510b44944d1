"""What the papers share. Imported first by every entry, so it is here that a missing environment is noticed.

This file is read by any Python 3, which an old one needs to be told its age in a line.
"""

import importlib.util
import os
import signal
import sys

PROGRAMS = ("-m", "__main__.py", "nas-replications", "nas-replications.exe")  # sys.argv[0] of our commands
NEEDED = ("torch", "numpy", "scipy", "safetensors", "yaml", "tyro", "tqdm", "PIL", "filelock")


def _remedy(root):
    """How to get the environment of the suite that lies in ``root``."""
    if not os.path.exists(os.path.join(root, "Makefile")):
        return "install the package with what it needs: pip install it without --no-deps"
    venv, make = os.path.join(root, ".venv"), "run make venv in " + root
    if os.path.abspath(sys.prefix) == venv:  # an environment from before the package was needed
        return make
    activate = [venv, "Scripts", "activate"] if os.name == "nt" else ["source " + venv, "bin", "activate"]
    first = "" if os.path.isdir(venv) else make + ", then "
    return first + "activate the environment: " + os.path.join(*activate)


def _check():
    """Raises ModuleNotFoundError for what this Python lacks; a command ends with that line alone and status 2."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    old = sys.version_info < (3, 11)
    if not missing and not old:
        return
    lacks = "is {}.{}, 3.11 or newer is needed".format(*sys.version_info) if old else "lacks " + ", ".join(missing)
    line = "this Python ({}) {}; {}".format(sys.executable or "?", lacks, _remedy(root))
    if _program() in PROGRAMS:
        sys.stderr.write("error: " + line + "\n")
        raise SystemExit(2)
    raise ModuleNotFoundError(line, name=missing[0] if missing else None)


def _program():
    """What this process was started as; "-m" while python -m looks for its module."""
    return os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""


def _listen():
    """Ctrl-C and SIGTERM while our command is still being imported end it with a line (common.cli.signals goes on)."""
    if _program() not in PROGRAMS or _program() == "__main__.py":  # another program's, which imports us
        return

    def leave(number, _):
        sys.stderr.write("error: {}\n".format("interrupted" if number == signal.SIGINT else "stopped by SIGTERM"))
        sys.stderr.flush()
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            try:
                signal.signal(number, leave)
            except ValueError:  # not in the main thread
                return


_listen()
_check()
if _program() in PROGRAMS:
    os.environ["MPLBACKEND"] = "agg"  # figures go to files, whatever the user has set for notebooks
