"""SteeredModel: the splice is exact, what it leaves alone is untouched, a cache changes nothing."""

import re

import numpy as np
import pytest
import torch

from scopeworks.evaluate.latents.explorer.steering import LatentChange, SteeredModel, _drawn
from scopeworks.harvest.model.hooks import capture, replace
from scopeworks.harvest.model.loading import LanguageModel
from scopeworks.harvest.model.sites import parse_site
from scopeworks.tests.evaluate.saes import random_sae
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE

RESIDUAL, SOURCE, TARGET, HEADS = (
    parse_site(text) for text in ("resid_post.1", "transcoder_in.1", "mlp_out.1", "attn_out.2")
)


def residual(lm, seed: int = 0) -> SteeredModel:
    return SteeredModel(lm.model, random_sae("resid_post.1", seed=seed), RESIDUAL, RESIDUAL)


def transcoder(lm) -> SteeredModel:
    return SteeredModel(lm.model, random_sae("transcoder_in.1", "mlp_out.1"), SOURCE, TARGET)


def heads(lm) -> SteeredModel:
    return SteeredModel(lm.model, random_sae("attn_out.2"), HEADS, HEADS)


def strongest(steering: SteeredModel, ids: torch.Tensor, n: int) -> list[int]:
    """Latents that fire most in a text."""
    return steering.features(ids).amax(0).topk(n).indices.tolist()


def site_tensors(lm, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad(), capture(lm.model, [RESIDUAL, SOURCE, TARGET, HEADS]) as seen:
        lm.model(input_ids=ids)
    return seen


def logits_with(lm, ids: torch.Tensor, site, x: torch.Tensor) -> torch.Tensor:
    """The model's logits with x at a site."""
    with torch.no_grad(), replace(lm.model, site, lambda _: x):
        return lm.model(input_ids=ids).logits


def direct(steering: SteeredModel, x, source, changes: list[LatentChange]) -> torch.Tensor:
    """x + Σ (f_new − f_old) d in float64, token by token."""
    f = steering.sae.encode(source.float())[0].double()
    wanted = x[0].double().clone()
    for change in changes:
        row = steering.sae.W_dec[change.latent].double()
        for position in range(change.start, len(wanted)):
            old = f[position, change.latent]
            new = {"off": 0.0, "set": change.value, "add": float(old) + change.value}[change.kind]
            wanted[position] += (new - old) * row
    return wanted[None].float()


def changes_of(latents: list[int]) -> list[LatentChange]:
    a, b, c = latents
    return [
        LatentChange(a, "off", start=2),
        LatentChange(b, "add", 3.5, start=4),
        LatentChange(c, "set", 1.25),
    ]


@pytest.mark.parametrize("make", [residual, transcoder, heads], ids=["sae", "transcoder", "heads"])
def test_the_splice_is_the_formula(lm, ids, make):
    one = ids[:1]
    steering = make(lm)
    changes = changes_of(strongest(steering, one, 3))
    seen = site_tensors(lm, one)
    x, source = seen[str(steering.writes)], seen[str(steering.reads)]
    wanted = logits_with(lm, one, steering.writes, direct(steering, x, source, changes))
    with torch.no_grad(), steering.changed(changes):
        got = lm.model(input_ids=one).logits
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    plain = lm.model(input_ids=one).logits
    assert (got - plain).abs().max() > 1e-2


def test_tokens_before_the_start_are_untouched_to_the_bit(lm, ids):
    steering, one = residual(lm), ids[:1]
    latent = strongest(steering, one, 1)[0]
    with torch.no_grad():
        plain = lm.model(input_ids=one).logits
        with steering.changed([LatentChange(latent, "add", 5.0, start=6)]):
            got = lm.model(input_ids=one).logits
    assert torch.equal(got[:, :6], plain[:, :6])
    assert not torch.allclose(got[:, 6:], plain[:, 6:])


def test_what_is_set_to_what_it_is_changes_nothing(lm, ids):
    steering, one = residual(lm), ids[:1]
    silent = [int(i) for i in (steering.features(one)[-1] == 0).nonzero()[:2, 0]]
    last = one.shape[1] - 1
    with torch.no_grad():
        plain = lm.model(input_ids=one).logits
        with steering.changed(
            [LatentChange(silent[0], "off", 0, last), LatentChange(silent[1], "set", 0, last)]
        ):
            assert torch.equal(lm.model(input_ids=one).logits, plain)


def test_the_unchanged_continuation_is_the_models_own(lm, ids):
    one = ids[:1, :6]
    got, first = residual(lm).continued(one, [], 5)
    generated = lm.model.generate(
        one, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert got == generated[0, 6:].tolist()
    torch.testing.assert_close(first, lm.model(input_ids=one).logits[0, -1].softmax(-1))


@pytest.mark.parametrize("make", [residual, transcoder], ids=["sae", "transcoder"])
def test_the_cache_changes_nothing(lm, ids, make):
    steering, one = make(lm), ids[:1, :6]
    changes = changes_of(strongest(steering, one, 3))
    changes.append(LatentChange(changes[0].latent, "add", 2.0, start=8))  # among the new tokens
    got, first = steering.continued(one, changes, 5)
    grown = one
    for i in range(5):
        with torch.no_grad(), steering.changed(changes):
            logits = lm.model(input_ids=grown, use_cache=False).logits[0, -1]
        if i == 0:
            torch.testing.assert_close(first, logits.softmax(-1), rtol=1e-5, atol=1e-7)
        grown = torch.cat([grown, logits.argmax()[None, None]], 1)
    assert got == grown[0, 6:].tolist()


def test_sampling_depends_on_seed_and_probabilities_alone(lm, ids):
    steering, one = residual(lm), ids[:1, :6]
    runs = {seed: steering.continued(one, [], 8, 1.0, seed)[0] for seed in range(4)}
    assert runs[1] == steering.continued(one, [], 8, 1.0, 1)[0]
    assert len({tuple(run) for run in runs.values()}) > 1
    changed = steering.continued(one, [LatentChange(0, "add", 30.0)], 8, 1.0, 1)[0]
    assert changed != runs[1]


def test_drawn_takes_each_token_as_often_as_it_is_probable():
    logits = torch.tensor([0.1, 0.2, 0.7]).log()
    drawn = [_drawn(logits, 1.0, (i + 0.5) / 1000) for i in range(1000)]
    assert [drawn.count(i) for i in range(3)] == [100, 200, 700]
    assert _drawn(logits, 0.0, 0.05) == 2
    sharp = [_drawn(logits, 0.5, (i + 0.5) / 1000) for i in range(1000)]
    assert [sharp.count(i) for i in range(3)] == [19, 74, 907]  # 1 : 4 : 49
    assert _drawn(logits, 1.0, 1.0 - 1e-12) == 2
    assert [_drawn(logits, 1e-300, u) for u in (0.0, 0.5, 1.0)] == [2, 2, 2]


def test_it_stops_at_an_end(lm, ids):
    steering, one = residual(lm), ids[:1, :6]
    got, _ = steering.continued(one, [], 5)
    short, _ = steering.continued(one, [], 5, stop=frozenset({got[2]}))
    assert short == got[: got.index(got[2]) + 1]
    assert steering.continued(one, [], 5, stop=got[2])[0] == short
    assert steering.continued(one, [], 5, stop=np.array([got[2]]))[0] == short
    with pytest.raises(ValueError, match=r"^stop must be a whole number from 0 on, got 'a'$"):
        steering.continued(one, [], 5, stop="a")  # pyright: ignore[reportArgumentType]


def test_numbers_that_overflow_are_an_error(lm, ids):
    steering = residual(lm)
    with pytest.raises(ValueError, match="value must leave the model's numbers finite"):
        steering.continued(ids[:1, :6], [LatentChange(0, "add", float("inf"))], 2)


@pytest.mark.parametrize("value", [1e30, -1e38])
def test_numbers_that_overflow_in_the_models_norm_are_an_error(lm, ids, value):
    # Their squares are infinite, so RMSNorm makes every number 0, and no logit is infinite.
    steering, change = residual(lm), LatentChange(0, "add", value)
    with pytest.raises(ValueError, match="value must leave the model's numbers finite"):
        steering.continued(ids[:1, :6], change, 2)
    message = "value must leave the model's numbers finite"
    with pytest.raises(ValueError, match=message), steering.changed(change):
        lm.model(input_ids=ids[:1])
    assert steering.continued(ids[:1, :6], LatentChange(0, "add", 1e15), 2)[1].sum() > 0.99


def test_no_more_is_written_than_the_context_takes(lm, ids):
    steering = residual(lm)
    assert len(steering.continued(ids[:1, :6], [], 58)[0]) == 58
    with pytest.raises(ValueError, match=r"^context must be at most 64 for model Gemma2.*got 65;"):
        steering.continued(ids[:1, :6], [], 59)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((1, "boost", 20), "kind must be off, add or set, got 'boost'"),
        ((-1, "add", 20), "latent must be a whole number from 0 on, got -1"),
        (("1", "add", 20), "latent must be a whole number from 0 on, got '1'"),
        ((1.0, "add", 20), "latent must be a whole number from 0 on, got 1.0"),
        ((True, "add", 20), "latent must be a whole number from 0 on, got True"),
        ((1, "add", "20"), "value must be a number, got '20'"),
        ((1, "add", None), "value must be a number, got None"),
        ((1, "add", float("nan")), "value must be a number, got nan"),
        ((1, "add", 20, -1), "start must be a whole number from 0 on, got -1"),
    ],
)
def test_a_change_that_means_nothing_is_refused(given, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        LatentChange(*given)


def test_numbers_of_numpy_and_torch_are_taken():
    change = LatentChange(np.int64(3), "add", torch.tensor(2.5))  # pyright: ignore[reportArgumentType]
    assert (change.latent, change.value) == (3, 2.5) and type(change.value) is float


def test_the_sites_are_the_saes_own(lm):
    steering = SteeredModel(lm, random_sae("transcoder_in.1", "mlp_out.1"))
    assert (steering.reads, steering.writes) == (SOURCE, TARGET)
    plain = SteeredModel(lm, random_sae("resid_post.1"))
    assert (plain.reads, plain.writes) == (RESIDUAL, RESIDUAL)


def nameless(site: str | None = None, target: str | None = None, d: int = 32) -> SAE:
    """An SAE whose file may leave its sites out."""
    config = SAEConfig(d_in=d, d_sae=4, d_out=d, site=site, target_site=target)
    one = {"W_enc": torch.zeros(d, 4), "b_enc": torch.zeros(4), "W_dec": torch.zeros(4, d)}
    return SAE(config, **one, b_dec=torch.zeros(d), theta=torch.ones(4))


@pytest.mark.parametrize(
    ("sae", "sites", "text"),
    [
        (random_sae("resid_post.1"), ("mlp_out.1",), "reads must be resid_post.1, the site of"),
        (
            random_sae("resid_post.1"),
            ("resid_post.1", "resid_post.0"),
            "writes must be resid_post.1, the site of the SAE, got resid_post.0",
        ),
        (nameless(), (), "reads must be given, because the SAE names no such site"),
        (nameless(), ("resid_post.99",), "site resid_post.99 does not exist: the model has"),
        (nameless(), ("attn_out.1",), "reads must be a site of width 32, as the SAE is, got attn"),
        (nameless(), ("resid_post.1", "resid_post.0"), "writes must not come before reads"),
        (nameless(), ("resid",), "site 'resid' does not exist"),
        ("saes/x", (), "sae must be an SAE, got 'saes/x'; scopeworks.SAE.load reads one"),
    ],
)
def test_sites_that_do_not_fit_are_refused_when_it_is_made(lm, sae, sites, text):
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        SteeredModel(lm, sae, *sites)


def test_an_sae_of_another_model_or_dtype_is_refused(lm):
    named = LanguageModel(lm.model, lm.tokenizer, "twin", "a" * 16, lm.device, "float32", "eager")
    sae = random_sae("resid_post.1")
    facts = {"model": "base", "model_fingerprint": "b" * 16}
    sae.config = sae.config.model_copy(update=facts)
    with pytest.raises(ValueError, match=r"^model of SAE resid_post.1 must be .* base .*got twin"):
        SteeredModel(named, sae)
    assert SteeredModel(named, sae, other_model=True).sae is sae
    with pytest.raises(ValueError, match=r"^sae must be float32, got bfloat16; take sae.to"):
        SteeredModel(lm, sae.to(dtype="bfloat16"))


def test_a_model_that_is_none_is_refused():
    with pytest.raises(ValueError, match="model must be a loaded language model, got 'tiny'"):
        SteeredModel("tiny", random_sae("resid_post.1"))


def test_an_sae_that_names_no_site_takes_what_is_given(lm):
    steering = SteeredModel(lm, nameless(), "resid_post.1")
    assert (steering.reads, steering.writes) == (RESIDUAL, RESIDUAL)


def test_one_change_is_as_a_list_of_one(lm, ids):
    steering, one = residual(lm), ids[:1, :6]
    change = LatentChange(0, "add", 30.0)
    wanted = steering.continued(one, [change], 4)
    assert steering.continued(one, change, 4)[0] == wanted[0] != steering.continued(one, [], 4)[0]
    with torch.no_grad(), steering.changed(change):
        got = lm.model(input_ids=one).logits[0, -1].softmax(-1)
    torch.testing.assert_close(got, wanted[1])


def test_changes_of_latents_that_are_not_there_are_refused(lm, ids):
    steering = residual(lm)
    with pytest.raises(ValueError, match=r"^latent must be 0 to 47, got 48$"):
        steering.continued(ids[:1], LatentChange(48, "off"), 2)
    with pytest.raises(
        ValueError, match=r"^changes must be LatentChange or a list of them, got in"
    ):
        steering.continued(ids[:1], [3], 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match=r"^changes must be LatentChange or a list of them, got in"
    ):
        steering.continued(ids[:1], 3, 2)  # pyright: ignore[reportArgumentType]


def test_a_language_model_takes_texts(lm):
    named = LanguageModel(
        lm.model, lm.tokenizer, "grouped", "0" * 16, lm.device, "float32", "eager"
    )
    steering = SteeredModel(named, random_sae("resid_post.1"))
    one = named.ids(" the")
    assert steering.continued(" the", [], 3)[0] == residual(lm).continued(one, [], 3)[0]
    assert torch.equal(steering.features(" the"), residual(lm).features(one))
    with pytest.raises(ValueError, match="text must be one sequence, got 2"):
        steering.features([[1, 2], [3, 4]])


def test_transformers_model_takes_a_tensor_of_one_sequence(lm, ids):
    with pytest.raises(ValueError, match=r"text must be a tensor of token ids \[1, seq\], got str"):
        residual(lm).continued(" the", [], 3)
    with pytest.raises(ValueError, match="text must be one sequence, got 2"):
        residual(lm).features(ids[:2])


@pytest.mark.parametrize("n", [0, "5", 2.5])
def test_the_number_of_tokens_is_checked(lm, ids, n):
    with pytest.raises(ValueError, match="n_tokens must be a whole number from 1 on"):
        residual(lm).continued(ids[:1], [], n)
