"""README's first Python runs, with the tiny model and an SAE of its width for the released ones."""

import re
from pathlib import Path
from typing import Any

import torch

from scopeworks import SAE
from scopeworks.train.sae.config import SAEConfig

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_first_python_of_the_readme_runs(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "import scopeworks" in readme.splitlines()[:15]
    found = BLOCK.search(readme)
    assert found is not None
    text = found[1]
    config = SAEConfig(d_in=128, d_sae=256, d_out=128, site="resid_post.3")
    eye, zeros = torch.eye(128), torch.zeros(128)
    both, none = torch.cat([eye, -eye], 1), torch.zeros(256)
    SAE(config, both, none, both.t().contiguous(), zeros, none).save(tmp_path / "sae")
    for name, here in (
        (r'"google/gemma-2-2b"', repr(str(ROOT / "pipelines" / "tiny_gemma2"))),
        (r"SAE\.from_pretrained\([^)]*\)", f"SAE.load({str(tmp_path / 'sae')!r})"),
        (r"resid_post\.12", "resid_post.3"),
    ):
        text, n = re.subn(name, here, text)
        assert n > 0, name
    names: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), names)
    n_tokens = len(names["lm"].ids("The capital of France is")[0])
    assert names["f"].shape == (1, n_tokens, 256)
    assert ((names["f"] > 0).sum(-1) == 128).all()  # the sign of each dimension
