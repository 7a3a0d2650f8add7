"""A plan from Python is the command's."""

import json

import pytest
from typer.testing import CliRunner

from scopeworks.pipelines import plan_suite
from scopeworks.pipelines.cli import app


def test_a_plan_from_python_is_what_the_command_prints():
    command = "plan gemma-scope-2b --json --device a100 --price gpu-hour=2 --days 10"
    done = CliRunner().invoke(app, command.split())
    plan = plan_suite("gemma-scope-2b", "a100", gpu_hour=2.0, days=10.0)
    assert json.loads(json.dumps(plan)) == json.loads(done.stdout)
    assert {step["step"] for step in plan["steps"]} >= {"harvest", "train"}


def test_what_is_no_suite_and_no_device_is_refused():
    with pytest.raises(FileNotFoundError, match="suite gemma-scope-2 does not exist; did you mean"):
        plan_suite("gemma-scope-2")
    with pytest.raises(ValueError, match="h100"):
        plan_suite("gemma-scope-2b", "h900")
