"""A data set that is absent fails in its own stage with the command that gets it; the rest carries on."""

from __future__ import annotations

import shutil

import pytest

pytestmark = pytest.mark.slow


def test_absent_data_fails_in_its_own_stage(tmp_path, scratch_checkout, repository):
    made = scratch_checkout(tmp_path)
    for name in ("reproductions", "common"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        shutil.copytree(repository / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "reproductions" / "proxy" / "dvc.yaml"
    text = path.read_text().replace(
        "foreach: [cifar10, cifar100, ptb, nasbench201, tiny-imagenet-20]", "foreach: [ptb]"
    )
    assert "foreach: [ptb]" in text
    path.write_text(text)
    said = made.dvc("repro", "-k", "reproductions/proxy/dvc.yaml:data@ptb", "dvc.yaml:search@evnas-0", status=None)
    assert "python -m reproductions data fetch ptb" in said
    assert "data@ptb" in said
    assert made.calls() == {"evnas/search"}
    assert not (tmp_path / "results" / "proxy" / "manifests" / "data-ptb.json").exists()
