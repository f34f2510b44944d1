"""Architectures of a generator, the published one among them."""

from __future__ import annotations

import json

import pytest

from common.cli.verbs import RunOptions
from common.errors import UserError
from papers.sgnas import claims
from papers.sgnas.describe import description
from papers.sgnas.generate import generate
from papers.sgnas.method.trained_generator import range_warning
from papers.sgnas.networks.architectures import MACROS, PUBLISHED, check_kernels, ops_of
from papers.sgnas.settings import Generate
from tests.sgnas.small import command


def test_published_generator_claims(published, tmp_path):
    assert claims.fit("kendall_tau") == pytest.approx(1.0)
    assert claims.fit("total_hardware_loss") == pytest.approx(0.2922075, abs=1e-4)
    assert claims.prior_is_first_draw() == 1.0
    for target, parameters in ((365, 6001862), (320, 5482272), (275, 4652252)):
        assert claims.generated(target, "same") == 1.0 and claims.generated(target, "parameters") == parameters
    assert "outside the trained range 270 to 450" in range_warning(published, 200.0) and not range_warning(
        published, 300.0
    )
    kernels, reached = published.hit(350.0)
    assert abs(reached - 350) < abs(published.kernels([350.0])[0][1] - 350) + 1e-6 and len(kernels) == 19
    result = generate(
        Generate(target_mflops=(365.0, 320.0)),
        RunOptions(out=tmp_path / "g", paper="sgnas", section="generate"),
    )
    assert result["architectures"][0]["macs_published"] == 373180736
    assert description(str(tmp_path / "g" / "architecture-320.json"))["parameters"] == 5482272


def test_json_is_alone_on_the_output(searched, tmp_path, capsys):
    calls = {
        "generate": ["--generator", searched, "--target-mflops", 3, 9],
        "sweep": ["--generator", searched],
        "describe": [searched / "architecture.json"],
    }
    for verb, arguments in calls.items():
        capsys.readouterr()
        command(verb, *arguments, "--json", "--out", tmp_path / verb)
        assert isinstance(json.loads(capsys.readouterr().out), dict), verb
    command("generate", *calls["generate"], "--out", tmp_path / "generate")  # the finished run: its table again
    text = capsys.readouterr().out
    assert "kernels per layer" in text and "1000 classes, with squeeze-excite" in text


def test_describe_and_bad_architectures():
    assert description("SGNAS-A")["parameters"] == 6001862
    for name, kernels in PUBLISHED.items():
        assert check_kernels(kernels, MACROS["imagenet"], name) == kernels
        assert len(ops_of(kernels)) == 19
    with pytest.raises(UserError, match="no architecture"):
        description("SGNAS-Z")
    for bad in ([[3]] * 4, [[3]] * 18 + [[]], [[4]] * 19, "x"):
        with pytest.raises(UserError):
            check_kernels(bad, MACROS["imagenet"])
