"""The search for recurrent cells: the released archive."""

from __future__ import annotations

from dataclasses import replace

from tests.nsas.small import RECURRENT, module_of, options


def test_released_recurrent_archive_restarts_every_epoch(tmp_path, monkeypatch):
    """Its list of recent cells begins each epoch with the untrained cell and the first cell of every earlier epoch."""
    module, run = module_of("recurrent.search:search")
    starts: list[list] = []

    class Watched(module.ReleasedArchive):
        def update(self, cell, draw):
            starts.append((list(self.recent), cell))
            return super().update(cell, draw)

    monkeypatch.setattr(module, "ReleasedArchive", Watched)
    run(replace(RECURRENT, path="fixed", epochs=3), options(tmp_path, "search_ptb"))
    steps = len(starts) // 3
    assert steps > 1 and len(starts) == 3 * steps
    firsts = [starts[epoch * steps] for epoch in range(3)]
    untrained = firsts[0][0][0]
    assert [recent for recent, _ in firsts] == [
        [untrained],
        [untrained, firsts[0][1]],
        [untrained, firsts[0][1], firsts[1][1]],
    ]
