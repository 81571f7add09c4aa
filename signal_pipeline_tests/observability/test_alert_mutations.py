"""The unit tests of the alerts notice when a rule is another one: each number, time, branch and matcher in turn.

A rule that nothing pins may be broken by a typo, and nobody hears of it until a night when it should have fired.
"""

import copy
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from signal_pipeline_tests.programs import program

FOLDER = Path(__file__).resolve().parents[2] / "deploy/prometheus"
NUMBER = re.compile(r"(?<=[\s(])\d+(?:\.\d+)?(?=[\s)]|$)")
WINDOW = re.compile(r"(?<=\[)\d+[mh](?=\])")
MATCHER = re.compile(r"\{[^}]*\}")
GROUPING = re.compile(r" by \([^)]*\)")
FACTORS = (0.8, 1.2)
"""A rule that is a fifth off is another rule."""


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def times(duration: str) -> list[str]:
    """Other times: a fifth less, a fifth more; but no nearer than the minute that the tests step by."""
    step = max(60, round(seconds(duration) * 0.2))
    return [f"{seconds(duration) - step}s", f"{seconds(duration) + step}s"]


def others(number: str) -> list[str]:
    value = float(number)
    if value in (0, 1):  # a state or "none": its neighbours
        return [f"{value - 1:g}", f"{value + 1:g}"]
    return [f"{value * factor:g}" for factor in FACTORS]


def branches(expression: str) -> Iterator[str]:
    """The expression without one of its operands, for each `and`, `or` and `unless` in it."""
    for found in re.finditer(r" (?:and|or|unless) ", expression):
        depth = 0
        end = len(expression)
        for i in range(found.end(), len(expression)):
            depth += {"(": 1, ")": -1}.get(expression[i], 0)
            if depth < 0 or (depth == 0 and re.match(r" (?:and|or|unless) ", expression[i:])):
                end = i
                break
        yield expression[: found.start()] + expression[end:]
    if (first := re.search(r" (?:and|or) ", expression)) is not None:
        yield expression[first.end() :]


def expressions(expression: str) -> Iterator[str]:
    """Every expression that is this one with one thing changed."""
    for pattern, changed in (
        (NUMBER, others),
        (WINDOW, times),
        (MATCHER, lambda _: [""]),
        (GROUPING, lambda _: [""]),
    ):
        for found in pattern.finditer(expression):
            for new in changed(found.group()):
                yield expression[: found.start()] + new + expression[found.end() :]
    yield from branches(expression)


def mutants() -> Iterator[tuple[str, dict[str, Any]]]:
    """A name and a rule, for every change."""
    for rule in rules():
        for waiting in ("0s", *times(rule["for"])):
            yield f"{rule['alert']} for {waiting}", rule | {"for": waiting}
        for i, expression in enumerate(expressions(rule["expr"])):
            yield f"{rule['alert']} {i}", rule | {"expr": expression}


def verdict(folder: Path, rule: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """What promtool says of a rule by the tests of its alert alone; that is quicker than all of them."""
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())
    tests["tests"] = [one for one in copy.deepcopy(tests["tests"]) if concerns(one, rule["alert"])]
    (folder / "alerts.yml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [rule]}]}))
    (folder / "alerts_test.yml").write_text(yaml.safe_dump(tests))
    command = [str(program("promtool")), "test", "rules", "alerts_test.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def concerns(test: dict[str, Any], alert: str) -> bool:
    return any(case["alertname"] == alert for case in test["alert_rule_test"])


@pytest.mark.programs
@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_the_rule_as_it_is_passes(rule: dict[str, Any], tmp_path: Path) -> None:
    done = verdict(tmp_path, rule)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.programs
@pytest.mark.parametrize("rule", [pytest.param(rule, id=name) for name, rule in mutants()])
def test_a_rule_that_is_another_one_fails(rule: dict[str, Any], tmp_path: Path) -> None:
    done = verdict(tmp_path, rule)
    assert "FAILED" in done.stdout + done.stderr, f"nothing notices that the rule is now: {rule['expr']}"
    assert "parse error" not in done.stdout + done.stderr, rule["expr"]


def test_every_rule_has_changes_of_each_kind() -> None:
    """So that the patterns above do not quietly find nothing."""
    names = [name.split()[0] for name, _ in mutants()]
    assert all(names.count(rule["alert"]) >= 5 for rule in rules())
    (failures,) = (rule["expr"] for rule in rules() if rule["alert"] == "SignalPipelineFailures")
    assert [len(pattern.findall(failures)) for pattern in (NUMBER, WINDOW, MATCHER, GROUPING)] == [2, 4, 3, 3]
