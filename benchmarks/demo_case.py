"""The demo's model, text and settings, for benchmarks that run its shapes."""

from pathlib import Path
from types import SimpleNamespace

from scopeworks.pipelines.suite.outputs import Outputs
from scopeworks.pipelines.suite.settings import SuiteFile


def demo_case(out: Path) -> SimpleNamespace:
    """Model, text, context, site, rows, every λ, and the settings of train."""
    outputs = Outputs(SuiteFile(Path("demo"), [f"out={out}"]))
    suite, members = outputs.suite, outputs.members
    return SimpleNamespace(
        **members[0].values
        | {"sparsity": [member.values["sparsity"] for member in members]}
        | {"model": suite.model, "text": outputs.sources, "context": suite.text["context"]}
        | {"site": str(members[0].site), "rows": suite.harvest[0]["rows"]}
    )
