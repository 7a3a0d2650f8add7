"""A release's folder: complete, the same bytes everywhere, and completed after a kill."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from scopeworks import SAE
from scopeworks.pipelines.release.facts import ReleaseFacts
from scopeworks.pipelines.release.folder import write_release
from scopeworks.pipelines.release.sums import check_release, read_sums
from scopeworks.tests.pipelines.release.saes import evaluation, trained

FACTS = {
    "name": "Tiny",
    "model": "/models/tiny_gemma2",
    "text": "Python's standard library",
    "tokens": 1000,
    "rows": 900,
}


def inputs(folder: Path) -> dict[str, Any]:
    """Two SAEs of one site with one evaluation each."""
    saes = [trained(folder / f"s{i}", sparsity=10.0**-i, seed=i) for i in (2, 3)]
    return {
        "saes": saes,
        "evaluations": [evaluation(folder / f"{sae.name}.json", sae) for sae in saes],
        "facts": FACTS,
    }


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A release, and what it was made from."""
    folder = tmp_path_factory.mktemp("made")
    given = inputs(folder)
    return write_release(folder / "release", **given), given


def test_release_holds_every_file_people_load(made: tuple[Path, Any]):
    folder, _ = made
    ids = ["layer_5/width_4k/average_l0_6", "layer_5/width_4k/average_l0_55"]
    lens = ("cfg.json", "sae_weights.safetensors")
    files = [f"{id}/{name}" for id in ids for name in ("params.npz", "origin.json")]
    files += [f"sae_lens/{id}/{name}" for id in ids for name in lens]
    files += [f"figures/frontier_{m}.{s}" for m in ("delta_loss", "fvu") for s in ("svg", "png")]
    assert set(bytes_of(folder)) == {*files, "README.md", "metrics.json", "SHA256SUMS"}
    assert read_sums(folder).keys() == set(bytes_of(folder)) - {"SHA256SUMS"}


def test_sha256sum_accepts_the_release(made: tuple[Path, Any]):
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    done = subprocess.run(command, cwd=made[0], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_format_gives_the_trained_sae(made: tuple[Path, Any]):
    folder, given = made
    sae = SAE.load(given["saes"][1])
    for place in ("", "sae_lens/"):
        released = SAE.load(folder / place / "layer_5/width_4k/average_l0_55")
        assert all(torch.equal(released.tensors()[k], t) for k, t in sae.tensors().items())
        assert (released.config.site, released.config.model) == ("resid_post.5", "tiny_gemma2")


def test_another_folder_gives_the_same_bytes_and_nothing_names_it(
    made: tuple[Path, Any], tmp_path: Path
):
    given = inputs(tmp_path / "elsewhere")
    given["saes"].reverse()
    given["evaluations"] = [evaluation(tmp_path / "both.json", *given["saes"])]
    other = write_release(tmp_path / "other", **given)
    assert bytes_of(other) == bytes_of(made[0])
    for name, data in bytes_of(other).items():
        for secret in (str(tmp_path), str(made[0].parent), "/models"):
            assert secret.encode() not in data, (name, secret)


def test_metrics_are_those_of_the_evaluations(made: tuple[Path, Any]):
    document = json.loads((made[0] / "metrics.json").read_text())
    assert document["release"]["model"] == "tiny_gemma2"
    sparse, dense = document["saes"]
    assert (sparse["id"], sparse["sparsity"]) == ("layer_5/width_4k/average_l0_6", 0.01)
    assert dense["evaluation"]["l0"] == pytest.approx(55)
    assert dense["after_training"]["l0"] == 50
    assert dense["settings"] == {
        "batch": 64,
        "seed": 3,
        "skip": False,
        "sparsity": 1e-3,
        "steps": 100,
    }
    assert dense["formats"]["sae-lens"] == "sae_lens/layer_5/width_4k/average_l0_55"


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def test_release_killed_at_any_write_is_never_taken_for_done_and_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given: Any = {"saes": [trained(tmp_path / "sae")], "facts": FACTS, "formats": ["sae-lens"]}
    whole = write_release(tmp_path / "whole", **given)
    replace, killed_at = Path.replace, 0
    while True:
        out, left = tmp_path / str(killed_at), [killed_at]

        def dying(self: Path, target: Path, left: list[int] = left) -> Path:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return replace(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", dying)
            try:
                write_release(out, **given)
            except Killed:
                with pytest.raises(FileNotFoundError, match="holds no complete release"):
                    check_release(out)
            else:
                break
        write_release(out, **given)
        assert bytes_of(out) == bytes_of(whole)
        shutil.rmtree(out)
        killed_at += 1
    assert killed_at >= len(bytes_of(whole))


def test_release_of_other_saes_leaves_nothing_of_the_first(tmp_path: Path):
    first: Any = inputs(tmp_path / "a")
    second: Any = {"facts": FACTS}
    write_release(tmp_path / "out", **first)
    second["saes"] = [trained(tmp_path / "mlp", site="mlp_out.2")]
    write_release(tmp_path / "out", **second)
    write_release(tmp_path / "fresh", **second)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")
    folders = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")}
    assert not any("layer_5" in name for name in folders)


def test_folder_with_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years")
    with pytest.raises(ValueError, match=r"out must be empty or hold an earlier .*thesis\.tex"):
        write_release(tmp_path / "out", **inputs(tmp_path / "in"))
    assert bytes_of(tmp_path / "out") == {"thesis.tex": b"years"}


def test_kinds_of_sites_and_equal_names_stay_apart(tmp_path: Path):
    saes = [trained(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    saes.append(trained(tmp_path / "att", site="attn_out.5"))
    given: Any = {"facts": FACTS, "formats": ["gemma-scope", "gemma-scope-2"]}
    folder = write_release(tmp_path / "out", saes, **given)
    names = {path.parent.relative_to(folder).as_posix() for path in folder.rglob("params.*")}
    l0 = "layer_5/width_4k/average_l0_50"
    assert names == {
        f"attn_out/{l0}",
        f"resid_post/{l0}",
        f"resid_post/{l0}_2",
        "gemma_scope_2/attn_out/layer_5_width_4k_l0_50",
        "gemma_scope_2/resid_post/layer_5_width_4k_l0_50",
        "gemma_scope_2/resid_post/layer_5_width_4k_l0_50_2",
    }
    for name, path in ((l0, saes[0]), (f"{l0}_2", saes[1])):
        released = SAE.load(folder / "resid_post" / name)
        assert torch.equal(released.W_enc, SAE.load(path).W_enc)


def test_format_that_cannot_hold_an_sae_is_left_out_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    saes = [
        trained(tmp_path / "skip", "transcoder_in.2", "mlp_out.2", skip=True),
        trained(tmp_path / "plain", "transcoder_in.3", "mlp_out.3"),
    ]
    folder = write_release(tmp_path / "out", saes, FACTS)
    assert len(list(folder.rglob("params.npz"))) == 1
    assert len(list(folder.rglob("cfg.json"))) == 2
    assert "left out of gemma-scope: layer_2/width_4k/average_l0_50: " in capsys.readouterr().err
    with pytest.raises(ValueError, match="formats must hold every SAE, got layer_2/"):
        write_release(tmp_path / "one", saes, FACTS, formats=["gemma-scope"])


def test_gain_is_folded_only_where_a_transcoder_reads_without_it(tmp_path: Path):
    given: Any = {"facts": FACTS, "formats": ["gemma-scope-2"], "gain_of": str(tmp_path / "none")}
    with_gain = trained(tmp_path / "with_gain", "mlp_in.2", "mlp_out.2")
    folder = write_release(tmp_path / "out", [with_gain], **given)
    (place,) = {path.parent for path in folder.rglob("params.safetensors")}
    assert torch.equal(SAE.load(place).W_enc, SAE.load(with_gain).W_enc)
    no_transcoder = trained(tmp_path / "no_transcoder", "transcoder_in.2")
    with pytest.raises(ValueError, match=r"must hold every SAE, got .* as sae-lens"):
        write_release(tmp_path / "no", [no_transcoder], **given)
    without = trained(tmp_path / "without", "transcoder_in.2", "mlp_out.2")
    with pytest.raises(OSError, match="none"):
        write_release(tmp_path / "no", [without], **given)


def _fails(tmp_path: Path, text: str, **changes: Any) -> None:
    given = inputs(tmp_path / "in")
    with pytest.raises(ValueError, match=text):
        write_release(tmp_path / "out", **(given | changes))
    assert not (tmp_path / "out").exists()


def test_evaluations_must_be_of_the_saes(tmp_path: Path):
    other = trained(tmp_path / "other", sparsity=0.5)
    e = evaluation(tmp_path / "e.json", other)
    _fails(tmp_path, "evaluations must have an entry for SAE .*s2, got none", evaluations=[e])
    both = evaluation(tmp_path / "both.json", *(tmp_path / "in" / s for s in ("s2", "s3")))
    _fails(tmp_path, "evaluations must be of SAEs .*got .*e.json of others", evaluations=[both, e])
    again = shutil.copy(both, tmp_path / "again.json")
    _fails(tmp_path, "must have one entry for SAE .*s2, got 2", evaluations=[both, again])


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (
            {"text": "from /data/pile"},
            "facts: text must describe in words, and name no path",
        ),
        ({"settings": {"store": "file:///x/y"}}, "settings must describe in words, and name no"),
        ({"limits": ["see ~/notes"]}, "limits must describe in words"),
        ({"license": "/etc/license"}, "license must describe in words"),
        ({"repo": "nobody"}, "repo must be text that matches"),
        ({"licence": "mit"}, "unknown setting 'licence'; did you mean 'license'"),
        ({"settings": {"seeds": {1, 2}}}, "settings.seeds: input was not a valid JSON value"),
        (
            {"model": "/tmp/x"},
            r"facts: model must be the one that the SAEs are of, got x, but .* is of tiny_gemma2; "
            "pass model='tiny_gemma2'",
        ),
        ({"model": "tiny_gemma2_it"}, "got tiny_gemma2_it, but"),
    ],
)
def test_facts_that_do_not_fit_are_refused(tmp_path: Path, facts: Any, text: str):
    _fails(tmp_path, text, facts=FACTS | facts)


def test_a_hub_id_may_be_given_for_a_folder_of_the_model(tmp_path: Path):
    sae = trained(tmp_path / "sae")
    folder = write_release(tmp_path / "out", sae, FACTS | {"model": "lab/gemma"})
    assert 'base_model: "lab/gemma"' in (folder / "README.md").read_text()


def test_saes_and_evaluations_are_taken_as_objects_and_paths_as_text(
    made: tuple[Path, Any], tmp_path: Path
):
    given = made[1]
    saes = [SAE.load(path) for path in given["saes"]]
    found = [json.loads(path.read_text()) for path in given["evaluations"]]
    facts = ReleaseFacts(**FACTS)
    out = write_release(str(tmp_path / "out"), saes, facts, evaluations=found)
    assert bytes_of(out) == bytes_of(made[0])
    assert check_release(str(out)) == check_release(out)
    one = write_release(tmp_path / "one", saes[0], facts, evaluations=found[0])
    assert bytes_of(one) == bytes_of(
        write_release(tmp_path / "text", str(given["saes"][0]), FACTS, evaluations=found[:1])
    )


def test_saes_that_are_in_no_folder_are_refused(tmp_path: Path):
    sae = SAE.load(trained(tmp_path / "sae"))
    changed = SAE(sae.config, **sae.tensors())
    _fails(tmp_path, "sae must be saved to be named in settings; call sae.save", saes=changed)
    _fails(tmp_path, "saes must be on this machine, got hf://a/b; save it", saes="hf://a/b")
    _fails(tmp_path, "saes must be SAEs or their folders, got 3", saes=3)
    _fails(tmp_path, "evaluations must be results of evaluate or the JSON", evaluations=3)


def test_targets_of_l0_have_a_column_where_there_are_some(made: tuple[Path, Any], tmp_path: Path):
    def table(folder: Path) -> list[list[str]]:
        lines = (folder / "README.md").read_text().split("## SAEs")[1].split("\n\n")[1]
        return [line.strip("| ").split(" | ") for line in lines.splitlines()]

    assert "target L0" not in table(made[0])[0]
    aimed, free = (SAE.load(trained(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    aimed.config = aimed.config.model_copy(update={"target_l0": 48.0})
    aimed.save(tmp_path / "aimed")
    head, rule, *rows = table(write_release(tmp_path / "out", [aimed, free], FACTS))
    assert head[3:6] == ["λ", "target L0", "L0"] and rule[:3] == ["---", "---", "---:"]
    assert sorted(row[3:6] for row in rows) == [["0.001", "48", "50.0"], ["0.001", "–", "50.0"]]


def test_formats_must_be_known_and_given_once(tmp_path: Path):
    _fails(tmp_path, "format must be one of sae-lens", formats=["onnx"])
    _fails(tmp_path, "formats must be given, and each once", formats=["sae-lens", "sae-lens"])
    _fails(tmp_path, "saes must be given at least once", saes=[])


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda f: (f / "metrics.json").write_text("{}"), "metrics.json must be the file that was"),
        (lambda f: (f / "README.md").unlink(), r"must hold README\.md, which SHA256SUMS lists"),
        (lambda f: (f / "more.txt").write_text(""), "nothing else, got more.txt"),
        (lambda f: (f / "SHA256SUMS").write_text("no"), "must hold lines of sha256sum, got 'no'"),
        (lambda f: (f / "SHA256SUMS").unlink(), "holds no complete release"),
    ],
)
def test_changed_release_is_found(made: tuple[Path, Any], tmp_path: Path, damage: Any, text: str):
    copy = Path(shutil.copytree(made[0], tmp_path / "copy"))
    assert len(check_release(copy)) == len(bytes_of(copy)) - 1
    damage(copy)
    with pytest.raises((ValueError, OSError), match=text):
        check_release(copy)
