"""One iteration of the search, put together as ``papers.cream.search`` does, with what it measured."""

from types import SimpleNamespace

from papers.cream.method.board import Entry
from papers.cream.method.distillation import train_student
from papers.cream.method.meta import MetaRules, choose_teacher, meta_update
from papers.cream.method.student import Student


def iterate(
    net, optimizer, board, path, flops, shares, lrs, rules=None, update_due=False, board_is_open=True, stored="teacher"
):
    """Train a path on the shares of a batch and offer it to the board."""
    rules = rules or MetaRules()
    optimizer.lrs = lrs
    student = Student(net, optimizer, path, shares)
    report = meta_update(student, board, rules) if len(board) and update_due else None
    teacher = choose_teacher(student, board, rules) if len(board) else None
    outcome = train_student(student, teacher, stored=stored)
    entry = Entry(outcome.score, flops, path, outcome.images, outcome.probabilities)
    return SimpleNamespace(
        meta=report, teacher=teacher and teacher.path, outcome=outcome, accepted=board_is_open and board.offer(entry)
    )
