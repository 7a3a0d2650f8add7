"""The whole evaluation against the slow float64 twin, and what must hold for any SAE."""

import copy
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scopeworks.evaluate.measure.inputs import HeldOut, candidate
from scopeworks.evaluate.measure.intervals import t_quantile
from scopeworks.evaluate.measure.rescaling import with_factors
from scopeworks.evaluate.measure.summaries import weights_summary
from scopeworks.evaluate.run import evaluate_many, evaluate_saes
from scopeworks.evaluate.saved.evaluation_file import check_is_evaluation
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.model.loading import load_model
from scopeworks.harvest.model.sites import parse_site
from scopeworks.store import TokenStore
from scopeworks.tests.evaluate.saes import constant_sae, identity_sae, random_sae, width
from scopeworks.tests.reference.evaluate_metrics import delete_one_error, evaluate_sae
from scopeworks.train.sae.sae import SAE

SPECIAL = {0, 1, 2}
KINDS = ["resid_post.1", "mlp_out.2", "attn_out.0", "resid_post.3"]


def run(lm, held_out, settings, *saes, **changes):
    """The JSON's metric part for SAEs in memory."""
    candidates = [candidate(f"sae{i}", sae, lm) for i, sae in enumerate(saes)]
    return evaluate_many(lm, candidates, held_out, settings.model_copy(update=changes))


def check_against_twin(lm, sae, entry, result, ids, **more):
    site = sae.config.site
    target = sae.config.target_site or site
    twin = evaluate_sae(lm.model, sae, site, target, ids, SPECIAL, **more)
    baseline = result["baselines"][target]
    assert entry["n_tokens"] == twin["n_tokens"]
    assert entry["firing"]["n_dead"] == int((twin["fired"] == 0).sum())
    assert sum(entry["firing"]["histogram"]) == int((twin["fired"] > 0).sum())
    # The model and the SAE run in float32: relative rounding 6e-8, grown by four layers to about
    # 1e-6.
    for name in ("l0", "mse", "fvu", "token_fvu", "cosine", "norm_ratio", "spliced_loss"):
        assert entry[name] == pytest.approx(twin[name], rel=1e-5), name
    assert result["clean"]["loss"] == pytest.approx(twin["clean_loss"], rel=1e-5)
    for name in ("mean_ablation_loss", "zero_ablation_loss"):
        assert baseline[name] == pytest.approx(twin[name], rel=1e-5), name
    # Differences of losses near 5 carry the losses' absolute error.
    for name in ("delta_loss", "kl", "recovered_share", "recovered_share_of_zero_ablation"):
        assert entry[name] == pytest.approx(twin[name], rel=1e-3, abs=5e-5), name


@pytest.fixture(scope="module")
def lm64(lm):
    """The random model in float64: only its norms and the logits are float32 then."""
    model = copy.deepcopy(lm.model).double()
    return SimpleNamespace(**{**vars(lm), "model": model})


@pytest.mark.parametrize(
    ("site", "target"), [(site, None) for site in KINDS] + [("mlp_in.1", "mlp_out.1")]
)
def test_every_metric_equals_the_float64_twin_to_one_millionth(
    lm64, held_out, settings, ids, site, target
):
    sae = random_sae(site, target)
    alone = candidate("sae", sae, lm64, dtype=torch.float64)
    result = evaluate_many(lm64, [alone], held_out, settings)
    (entry,), firing = result["saes"], result["saes"][0]["firing"]
    twin = evaluate_sae(lm64.model, sae, site, target or site, ids, SPECIAL)
    for name in ("l0", "mse", "fvu", "token_fvu", "cosine", "norm_ratio"):
        assert entry[name] == pytest.approx(twin[name], rel=1e-6, abs=1e-7), name
    for name in ("spliced_loss", "delta_loss", "kl"):
        assert entry[name] == pytest.approx(twin[name], rel=1e-6, abs=1e-6), name
    for name in ("recovered_share", "recovered_share_of_zero_ablation"):
        assert entry[name] == pytest.approx(twin[name], rel=1e-5, abs=1e-6), name
    for name in ("share_above_1_percent", "share_above_10_percent"):
        assert firing[name] == twin[name], name
    assert entry["by_dimension"]["fvu"] == pytest.approx(twin["fvu_by_dimension"], rel=1e-6)
    variance = result["baselines"][target or site]["variance"]
    curve, counts = entry["by_position"]["error"], (ids > 2).sum(0).tolist()
    for position, error in enumerate(curve):
        own = [e for (s, t), e in twin["errors"].items() if t == position]
        assert len(own) == counts[position]
        if own:
            assert error == pytest.approx(sum(own) / len(own) / variance, rel=1e-6)


@pytest.mark.parametrize("site", KINDS)
def test_every_metric_agrees_with_float64_twin(lm, held_out, settings, ids, site):
    sae = random_sae(site)
    result = run(lm, held_out, settings, sae)
    check_against_twin(lm, sae, result["saes"][0], result, ids)


def test_top_k_sae_agrees_with_float64_twin(lm, held_out, settings, ids):
    sae = random_sae("resid_post.1")
    sae.config = sae.config.model_copy(update={"k": 5})
    result = run(lm, held_out, settings, sae, top_latents=3, importance=True)
    check_against_twin(lm, sae, result["saes"][0], result, ids)
    assert result["saes"][0]["l0"] <= 5
    assert result["saes"][0]["importance"]["active_latents"] <= 5


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kind", ["transcoder_in", "mlp_in"])
def test_transcoder_replaces_its_target_site(lm, held_out, settings, ids, skip, kind):
    sae = random_sae(f"{kind}.1", "mlp_out.1", skip=skip)
    result = run(lm, held_out, settings, sae)
    check_against_twin(lm, sae, result["saes"][0], result, ids)


@pytest.mark.parametrize("part", [1, 2])
def test_only_one_part_of_a_conversation_counts(lm, held_out, settings, ids, part):
    parts = torch.where(torch.arange(11) < torch.tensor([[4], [5], [7], [3], [6], [4]]), 1, 2)
    parts[:, :2] = 0
    only = replace(held_out, prefix=2, parts=parts.numpy(), part=part)
    sae = random_sae("resid_post.1")
    result = run(lm, only, settings, sae)
    entry = result["saes"][0]
    check_against_twin(lm, sae, entry, result, ids, prefix=2, keep=parts == part)
    assert 0 < entry["n_tokens"] < run(lm, held_out, settings, sae)["saes"][0]["n_tokens"]


def test_a_constant_prefix_does_not_count_and_is_not_spliced(lm, held_out, settings, ids):
    sae = random_sae("resid_post.1")
    result = run(lm, replace(held_out, prefix=3), settings, sae)
    entry = result["saes"][0]
    check_against_twin(lm, sae, entry, result, ids, prefix=3)
    assert entry["by_position"]["error"][:3] == [None] * 3


@pytest.mark.parametrize("target", [None, "mlp_out.1"])
def test_sae_reads_rescaled_activations_as_the_twin_does(lm, held_out, settings, ids, target):
    site = "mlp_in.1" if target else "resid_post.1"
    sae, factors = random_sae(site, target, skip=target is not None), (0.7, 1.3 if target else 0.7)
    result = run(lm, held_out, settings, with_factors(sae, *factors))
    twin = evaluate_sae(lm.model, sae, site, target or site, ids, SPECIAL, factors=factors)
    for name in ("l0", "mse", "fvu", "spliced_loss"):
        assert result["saes"][0][name] == pytest.approx(twin[name], rel=1e-5), name


def test_many_saes_in_one_pass_equal_each_alone(lm, held_out, settings):
    saes = [
        random_sae("resid_post.1"),
        random_sae("mlp_out.2", seed=1),
        random_sae("resid_post.1", seed=2),
    ]
    together = run(lm, held_out, settings, *saes)
    for i, sae in enumerate(saes):
        alone = run(lm, held_out, settings, sae)
        assert alone["saes"][0] | {"name": f"sae{i}"} == together["saes"][i]
        assert alone["clean"] == together["clean"]


def test_fvu_of_a_constant_site_is_none(lm, held_out, settings, monkeypatch):
    from scopeworks.evaluate.measure import passes as main_pass

    real = main_pass.SiteMeter.result

    def constant(meter):
        found = real(meter)
        return found | {"variance": 1e-13 * found["mean_square"]}

    monkeypatch.setattr(main_pass.SiteMeter, "result", constant)
    entry = run(lm, held_out, settings, random_sae("resid_post.1"))["saes"][0]
    assert entry["fvu"] is None
    assert entry["mse"] > 0


@pytest.mark.parametrize("site", KINDS)
def test_identity_sae_costs_nothing(lm, held_out, settings, site):
    entry = run(lm, held_out, settings, identity_sae(site))["saes"][0]
    assert entry["fvu"] == 0.0
    assert entry["delta_loss"] == 0.0
    assert entry["delta_loss_stderr"] == 0.0
    assert entry["kl"] == 0.0
    assert entry["cosine"] == pytest.approx(1.0, rel=1e-12)
    assert entry["norm_ratio"] == 1.0
    assert entry["recovered_share"] == 1.0
    assert entry["l0"] == width(site)


def test_sae_that_gives_the_mean_has_fvu_one_and_recovers_nothing(lm, held_out, settings, ids):
    keep = ids > 2
    x = forward_until(lm, ids, [parse_site("resid_post.1")])["resid_post.1"]
    entry = run(lm, held_out, settings, constant_sae("resid_post.1", x[keep].mean(0)))["saes"][0]
    assert entry["fvu"] == pytest.approx(1.0, rel=1e-6)
    assert entry["recovered_share"] == pytest.approx(0.0, abs=1e-5)
    assert entry["l0"] == 0.0
    assert entry["dead_share"] == 1.0


def test_sae_that_gives_zero_recovers_nothing_of_zero_ablation(lm, held_out, settings):
    entry = run(lm, held_out, settings, constant_sae("resid_post.1", torch.zeros(32)))["saes"][0]
    assert entry["recovered_share_of_zero_ablation"] == 0.0


@pytest.mark.parametrize("batch", [1, 3, 6, 100])
def test_batch_size_changes_nothing_but_rounding(lm, held_out, settings, batch):
    sae = random_sae("resid_post.1")
    base = run(lm, held_out, settings, sae)["saes"][0]
    other = run(lm, held_out, settings, sae, batch=batch)["saes"][0]
    assert other["firing"] == base["firing"]
    for name in ("l0", "fvu", "spliced_loss"):
        assert other[name] == pytest.approx(base[name], rel=1e-5), name


def test_parts_of_rows_and_of_logits_change_nothing(lm, held_out, settings, monkeypatch):
    sae = random_sae("resid_post.1")
    base = run(lm, held_out, settings, sae)["saes"][0]
    monkeypatch.setattr("scopeworks.evaluate.measure.metrics.MAX_FEATURE_VALUES", 5 * 48)
    monkeypatch.setattr("scopeworks.evaluate.measure.lm_loss.MAX_LOGITS", 7 * 300)
    other = run(lm, held_out, settings, sae)["saes"][0]
    assert other["firing"] == base["firing"]
    for name in ("l0", "fvu", "spliced_loss"):
        assert other[name] == pytest.approx(base[name], rel=1e-5), name


def test_special_positions_are_never_counted(lm, ids, settings):
    """What stands behind a sequence's last ordinary token cannot change a number, since attention
    is causal.
    """
    special = torch.tensor([0, 1, 2])
    padded = torch.cat([ids, torch.zeros(len(ids), 3, dtype=torch.int64)], dim=1)
    sae = random_sae("resid_post.1")
    short = run(lm, HeldOut(ids.numpy(), 6, special), settings, sae)["saes"][0]
    long = run(lm, HeldOut(padded.numpy(), 6, special), settings, sae)["saes"][0]
    assert long["n_tokens"] == short["n_tokens"] == int((ids > 2).sum())
    assert long["firing"] == short["firing"]
    for name in ("l0", "fvu", "spliced_loss"):
        assert long[name] == pytest.approx(short[name], rel=1e-5), name
    assert long["by_position"]["delta_loss"][-3:] == [None] * 3


def test_special_positions_are_spliced_only_on_request(lm, held_out, settings):
    sae = random_sae("resid_post.1")
    kept = run(lm, held_out, settings, sae)["saes"][0]
    spliced = run(lm, held_out, settings, sae, splice_special=True)["saes"][0]
    assert kept["fvu"] == spliced["fvu"]
    assert abs(kept["spliced_loss"] - spliced["spliced_loss"]) > 1e-4


def test_order_of_sequences_changes_no_figure_and_no_interval(lm, many, settings):
    sae = random_sae("resid_post.1")
    base = run(lm, many, settings, sae)["saes"][0]
    turned = HeldOut(many.sequences[::-1].copy(), many.n, many.special)
    other = run(lm, turned, settings, sae, batch=7)["saes"][0]
    assert other["firing"] == base["firing"]
    for name in base["intervals"]:
        assert other[name] == pytest.approx(base[name], rel=1e-5), name
        assert other["intervals"][name] == pytest.approx(base["intervals"][name], rel=1e-4), name


def test_intervals_are_those_of_the_jackknife_up_to_their_order(lm, many, settings):
    entry = run(lm, many, settings, random_sae("resid_post.1"))["saes"][0]
    special = torch.tensor([0, 1, 2])
    alone = [
        run(
            lm, HeldOut(many.sequences[i : i + 1], 1, special), settings, random_sae("resid_post.1")
        )
        for i in range(many.n)
    ]
    single, clean = [one["saes"][0] for one in alone], [one["clean"] for one in alone]
    assert set(entry["intervals"]) == {
        "l0", "mse", "fvu", "cosine", "delta_loss", "kl", "recovered_share",
        "recovered_share_of_zero_ablation",
    }  # fmt: skip
    for name in ("l0", "mse", "cosine", "delta_loss", "kl"):
        low, high = entry["intervals"][name]
        assert low < entry[name] < high, name
        weight = [
            part["n_predictions"] if name in ("delta_loss", "kl") else own["n_tokens"]
            for own, part in zip(single, clean, strict=True)
        ]
        sums = [(own[name] * n, float(n)) for own, n in zip(single, weight, strict=True)]
        half = t_quantile(many.n - 1) * delete_one_error(sums)
        assert (high - low) / 2 == pytest.approx(half, rel=0.1), name
    deviation = entry["delta_loss_stderr"] * t_quantile(many.n - 1)
    low, high = entry["intervals"]["delta_loss"]
    assert (high - low) / 2 == pytest.approx(deviation, rel=1e-9)


def test_too_few_sequences_give_no_intervals(lm, held_out, settings):
    entry = run(lm, held_out, settings, random_sae("resid_post.1"))["saes"][0]
    assert set(entry["intervals"].values()) == {None}
    assert entry["delta_loss_stderr"] > 0


def test_share_of_an_ablation_that_costs_nothing_has_no_interval(lm, many, settings, monkeypatch):
    # A site that the model does not need: both ablations give the clean losses.
    monkeypatch.setattr(
        "scopeworks.evaluate.measure.passes.spliced_losses",
        lambda _lm, clean, _site, _values, _where: clean.losses,
    )
    entry = run(lm, many, settings, random_sae("resid_post.1"))["saes"][0]
    assert entry["recovered_share"] is None
    assert entry["intervals"]["recovered_share"] is None
    assert entry["intervals"]["delta_loss"] is not None


def test_positions_add_up_to_the_totals(lm, held_out, settings, ids):
    result = run(lm, held_out, settings, random_sae("mlp_out.2"))
    entry, keep = result["saes"][0], ids > 2
    counted = keep[:, :-1] & keep[:, 1:]
    told = result["clean"]["by_position"]
    assert (told["n_tokens"], told["n_predictions"][:-1]) == (
        keep.sum(0).tolist(),
        counted.sum(0).tolist(),
    )
    assert "norm_factors" not in entry
    for curve, weights, total in (
        ("error", keep.sum(0), entry["fvu"]),
        ("l0", keep.sum(0), entry["l0"]),
        ("delta_loss", counted.sum(0), entry["delta_loss"]),
        ("kl", counted.sum(0), entry["kl"]),
    ):
        pairs = zip(entry["by_position"][curve], weights.tolist(), strict=False)
        mean = sum(v * n for v, n in pairs if v is not None) / int(weights.sum())
        assert mean == pytest.approx(total, rel=1e-5), curve
    assert entry["by_position"]["error"][0] is None  # BOS stands first in every sequence


def test_non_finite_sae_is_refused(lm, held_out, settings):
    sae = random_sae("resid_post.1")
    sae.b_dec[3] = float("nan")
    with pytest.raises(ValueError, match="SAE sae0 must give finite reconstructions"):
        run(lm, held_out, settings, sae)


def test_evaluate_writes_strict_json_with_everything_asked_for(
    model_dir, tokens_url, sae_dir, tmp_path
):
    settings = EvaluateSettings(
        sae=(sae_dir,), model=str(model_dir), tokens=tokens_url, out=tmp_path / "new" / "e.json",
        dtype="float32", top_latents=4, top_snippets=2,
    )  # fmt: skip
    result = evaluate_saes(settings)
    text = settings.out.read_text()
    assert json.loads(text, parse_constant=pytest.fail) == result
    assert result["tokens"]["n_sequences"] == 6
    assert result["tokens"]["fewer_than_asked"] is True
    assert result["settings"]["n_sequences"] == 2048
    assert len(result["saes"][0]["top_activations"]) == 4
    assert max(len(line) for line in text.splitlines()) < 2000


def test_positions_and_norms_are_those_that_the_settings_name(
    model_dir, tokens_url, sae_dir, ids, lm, tmp_path
):
    url, parts = str(tmp_path / "talk"), torch.where(torch.arange(11) < 6, 1, 2).expand(6, 11)
    tokens = TokenStore.create(
        url, context=11, bos=2, eos=1, pad=0, provenance={"masked_prefix": 2}
    )
    tokens.write({"held_out": ids.numpy(), "parts": parts.numpy()})
    louder = tmp_path / "louder"
    shutil.copytree(model_dir, louder)
    save_louder(lm.model, louder, 2.0)
    flags: dict[str, Any] = {"sae": (sae_dir,), "model": str(model_dir), "dtype": "float32"}
    flags |= {"tokens": url, "out": tmp_path / "e.json", "top_latents": 0}
    sae = random_sae("resid_post.1")
    flags["norms_of"] = str(louder)
    for name, part in (("prompt", 1), ("rollout", 2)):
        flags["positions"] = name
        result = evaluate_saes(EvaluateSettings(**flags))
        keep = parts == part
        factor = norm_ratio(lm.model, louder, ids, keep & (ids > 2) & (torch.arange(11) >= 2))
        twin = evaluate_sae(
            lm.model, sae, "resid_post.1", "resid_post.1", ids, SPECIAL, 2, keep, (factor, factor)
        )
        assert abs(factor - 1) > 0.1
        (entry,) = result["saes"]
        for figure in ("l0", "fvu", "spliced_loss"):
            assert entry[figure] == pytest.approx(twin[figure], rel=1e-5), figure
        assert entry["norm_factors"] == pytest.approx(
            {"site": factor, "target_site": factor}, rel=1e-5
        )
        assert entry["weights"] == weights_summary(sae)  # those of its file


def test_positions_need_tokens_with_parts(model_dir, tokens_url, sae_dir, tmp_path):
    settings = EvaluateSettings(
        sae=(sae_dir,), model=str(model_dir), tokens=tokens_url, out=tmp_path / "e.json",
        positions="rollout",
    )  # fmt: skip
    with pytest.raises(
        ValueError, match=r"must tell prompts from rollouts .* `scopeworks rollouts`"
    ):
        evaluate_saes(settings)
    assert not settings.out.exists()


def save_louder(model, folder, gain):
    """The model with another size of activations."""
    louder = type(model)(model.config)
    louder.load_state_dict(model.state_dict())
    with torch.no_grad():
        louder.model.layers[0].post_feedforward_layernorm.weight.mul_(gain).add_(gain - 1)
    louder.save_pretrained(folder)


def norm_ratio(model, folder, ids, keep):
    """sqrt(E‖x‖²) at resid_post.1 of the model in the folder over that of the model."""
    other = type(model).from_pretrained(folder, dtype=torch.float32)
    own, wanted = (
        forward_until(one, ids, [parse_site("resid_post.1")])["resid_post.1"][keep].square().mean()
        for one in (model, other)
    )
    return float((wanted / own).sqrt())


def test_more_firing_sequences_refine_frequencies_and_nothing_else(lm, ids, settings):
    special, sae = torch.tensor([0, 1, 2]), random_sae("resid_post.1")
    few = HeldOut(ids.numpy(), 4, special)
    base = run(lm, few, settings, sae)["saes"][0]
    more = run(lm, few, settings, sae, firing_sequences=6)["saes"][0]
    whole = run(lm, HeldOut(ids.numpy(), 6, special), settings, sae)["saes"][0]
    assert more["firing"] == whole["firing"]
    assert more["firing"]["n_tokens"] > base["firing"]["n_tokens"]
    for name in ("n_tokens", "l0", "fvu", "delta_loss"):
        assert more[name] == base[name], name


def test_firing_sequences_stop_at_the_end_of_the_split(lm, held_out, settings):
    sae = random_sae("resid_post.1")
    asked = run(lm, held_out, settings, sae, firing_sequences=500)["saes"][0]
    assert asked["firing"] == run(lm, held_out, settings, sae)["saes"][0]["firing"]


def test_subsets_are_measured_as_if_alone(model_dir, sae_dir, ids, tmp_path):
    url, parts = str(tmp_path / "tokens"), {"math": ids.numpy()[:2], "code": ids.numpy()[2:]}
    tokens = TokenStore.create(url, context=11, bos=2, eos=1, pad=0)
    tokens.write({"held_out": ids.numpy(), **{f"held_out.{k}": v for k, v in parts.items()}})
    flags = {"model": str(model_dir), "dtype": "float32", "top_latents": 0}
    settings = EvaluateSettings(
        sae=(sae_dir,), tokens=url, out=tmp_path / "e.json", subsets=True, **flags
    )
    subsets = evaluate_saes(settings)["subsets"]
    assert list(subsets) == ["code", "math"]
    for name, part in parts.items():
        alone_url = str(tmp_path / name)
        TokenStore.create(alone_url, context=11, bos=2, eos=1, pad=0).write({"held_out": part})
        alone = evaluate_saes(
            EvaluateSettings(sae=(sae_dir,), tokens=alone_url, out=tmp_path / "a.json", **flags)
        )
        assert subsets[name]["n_sequences"] == len(part)
        assert subsets[name]["clean_loss"] == alone["clean"]["loss"]
        (entry,) = subsets[name]["saes"]
        assert entry == {figure: alone["saes"][0][figure] for figure in entry}


def test_subsets_of_a_store_without_them_are_refused(model_dir, sae_dir, tokens_url, tmp_path):
    settings = EvaluateSettings(
        sae=(sae_dir,), model=str(model_dir), tokens=tokens_url, out=tmp_path / "e.json",
        subsets=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="tokenize with --subset-field"):
        evaluate_saes(settings)


def test_the_docs_python_evaluates_what_is_loaded(
    model_dir, tokens_url, sae_dir, tmp_path, monkeypatch
):
    page = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    sae = SAE.load(sae_dir)
    sae.theta[0] += 1
    monkeypatch.chdir(tmp_path)
    lm, tokens = load_model(str(model_dir)), TokenStore.open(tokens_url)
    exec(code, {"sae": sae, "lm": lm, "tokens": tokens})
    (entry,) = json.loads((tmp_path / "changed.json").read_text())["saes"]
    assert entry["path"] == str(tmp_path / "changed") and (tmp_path / "changed.html").is_file()


def test_bfloat16_sae_changes_little_and_something(lm, held_out, settings):
    sae = random_sae("resid_post.1")
    low = candidate("low", sae, lm, dtype=torch.bfloat16)
    base = run(lm, held_out, settings, sae)["saes"][0]
    entry = evaluate_many(lm, [low], held_out, settings)["saes"][0]
    # bfloat16 keeps 8 bits: an error of about 2^-9 in each number, which mostly averages out.
    assert entry["fvu"] == pytest.approx(base["fvu"], rel=0.02)
    assert entry["spliced_loss"] == pytest.approx(base["spliced_loss"], rel=0.02)
    assert entry["fvu"] != base["fvu"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", '{"sae": {}}'),
        ("sae.safetensors", '{"sae": {}}'),
        ("notes.json", '{"saes": "my own notes"}'),
        ("names.json", '{"saes": [], "tokens": "none"}'),
    ],
)
def test_evaluate_does_not_write_over_what_it_reads(settings, tmp_path, name, text):
    out = tmp_path / name
    out.write_text(text)
    with pytest.raises(ValueError, match=f"out must be a new file or an evaluation.*{name}"):
        evaluate_saes(settings.model_copy(update={"out": out}))
    assert out.read_text() == text


@pytest.mark.parametrize(
    "text",
    ["", '{"saes": [{}], "settings": {}, "model": {}, "tokens": {}, "clean": {}, "baselines": {}}'],
)
def test_an_evaluation_or_an_empty_file_may_be_written_over(tmp_path, text):
    (tmp_path / "e.json").write_text(text)
    check_is_evaluation(tmp_path / "e.json")
