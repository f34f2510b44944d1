"""Full and broken disks: one line, the state before stays, no litter; and the same command goes on afterwards."""

import errno
import os

import pytest

from common.errors import UserError, of_disk
from common.run import files as records
from reproductions.data.download import download
from tests import fresh
from tests.reliability.proof import cases, disks, kills


@pytest.mark.parametrize("act", disks.FAULTS, ids=lambda act: act[0])
def test_a_training_on_a_failing_disk(act, tmp_path, one_starved):
    case, words, whole = one_starved
    assert disks.once(case, words, tmp_path / "run", whole, [act[0], 9, act[1]]) == ""


@pytest.fixture(scope="module")
def one_starved(tmp_path_factory):
    root, case = tmp_path_factory.mktemp("disk"), cases.named("evnas-train nb201")
    words = cases.words_of(case, root)
    return case, words, kills.whole(case, words, root)


def test_what_no_writer_expects_is_still_one_line():
    assert "No space left" in of_disk(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x"))
    with pytest.raises(FileNotFoundError):
        of_disk(FileNotFoundError(errno.ENOENT, "absent"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_standard_output_on_a_full_disk():
    words = ["-c", "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
             "from papers.evnas.__main__ import VERBS, main\nmain('evnas', VERBS, ['describe', 'EvNASA'])"]  # fmt: skip
    done = fresh.run(words)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: the disk fails")


@pytest.mark.parametrize("after", [100, 5000])
def test_a_download_to_a_full_disk(after, tmp_path):
    """The file that is written accepts ``after`` bytes; closing it fails again."""
    source, target = tmp_path / "source", tmp_path / "data" / "target"
    source.write_bytes(os.urandom(300_000))
    program = (
        "import resource, signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({after}, resource.RLIM_INFINITY))\n"
        "from pathlib import Path\nfrom common.errors import UserError\n"
        "from reproductions.data.download import download\n"
        f"try:\n    download(['{source.as_uri()}'], Path('{target}'))\n"
        "except UserError as error:\n    import os; os._exit(7 if 'cannot write' in str(error) else 8)"
    )
    done = fresh.run(["-c", program])
    assert done.returncode == 7, done.stderr
    assert not list(target.parent.iterdir())  # nothing half-written, no notes, no lock
    download([source.as_uri()], target)
    assert target.read_bytes() == source.read_bytes()


def test_a_lock_that_was_taken_away_meanwhile_is_made_anew(tmp_path):
    """Who waited for a lock file that its holder then removed holds the file that the next ones find."""
    path, order = tmp_path / ".lock", []

    def busy(holder):
        order.append("waits")
        first.__exit__(None, None, None)  # the holder ends, and takes its file away before
        path.unlink(missing_ok=True)

    first = records.held(path, busy)
    first.__enter__()
    with records.held(path, busy):
        assert order == ["waits"] and path.exists()
        with pytest.raises(UserError), records.held(path, refuse):
            pass


def refuse(holder):
    raise UserError(f"held by {holder}")


def test_an_lmdb_on_a_full_disk(tmp_path):
    """No lock file is mapped: on a full disk writing into a mapped file ends the process by SIGBUS."""
    program = "from common.data.pictures.lmdb import write_lmdb; from pathlib import Path; import sys\n" \
              "write_lmdb(Path(sys.argv[1]), [('a', 0, b'x' * 9)], ('c',))"  # fmt: skip
    done = fresh.run(["-c", program, str(tmp_path / "x.lmdb")])
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "x.lmdb").iterdir()] == ["data.mdb"]
