"""Tokens to activation store, end to end, against the model run by hand."""

import json
from collections import Counter
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch

from scopeworks.harvest.model.hooks import forward_until
from scopeworks.harvest.model.loading import load_model
from scopeworks.harvest.rows import prepare as prepare_module
from scopeworks.harvest.rows import run as harvest_module
from scopeworks.harvest.rows.bucket_job import BucketHarvester
from scopeworks.harvest.rows.plan import Plan
from scopeworks.harvest.rows.prepare import prepare, store_spec
from scopeworks.harvest.rows.run import harvest_rows
from scopeworks.harvest.settings import HarvestSettings
from scopeworks.harvest.tokens.run import TokenizeSettings, tokenize_text
from scopeworks.settings import resolve
from scopeworks.store import ActivationStore, StoreWriter, TokenStore
from scopeworks.store.format.spec import checksum, group_document
from scopeworks.store.read.store_identity import identity
from scopeworks.store.which_rows import rows_key
from scopeworks.store.write import writer as writer_module
from scopeworks.tests.reference.gemma_forward import all_sites

SITES = ["attn_out.1", "transcoder_in.2", "mlp_out.0", "resid_post.3"]


@pytest.fixture(scope="module")
def tokens_dir(model_dir, tmp_path_factory):
    """About thirty training sequences of 24 tokens."""
    folder, out = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("out") / "tokens"
    (folder / "a.txt").write_text("".join(f"line {i}, of many\n" for i in range(40)))
    (folder / "b.txt").write_text("another text " * 6)
    tokenize_text(
        TokenizeSettings(
            model=str(model_dir), text=[str(folder)], out=str(out), context=24, held_out=0.0
        )
    )
    return out


def settings(model_dir, tokens_dir, store, **changes) -> HarvestSettings:
    values = {"site": SITES, "dtype": "float32", "device": "cpu", "bucket_rows": 100}
    values |= {"codec": "float32", "batch_sequences": 3, "seed": 4} | changes
    return HarvestSettings(model=str(model_dir), tokens=str(tokens_dir), store=str(store), **values)


OPEN = {"dtype": "auto", "attention": "auto", "batch_sequences": None}


def files(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_rows_are_the_models_activations_at_their_tokens(model_dir, tokens_dir, tmp_path):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store"))
    store = ActivationStore.open(tmp_path / "store")
    sequences = np.asarray(TokenStore.open(tokens_dir).sequences("train"))
    model = load_model(model_dir, dtype="float32", device="cpu").model
    expected = all_sites(model, torch.from_numpy(sequences.astype(np.int64)))
    token, sequence, position = store.labels(0, store.rows)
    assert store.sites == {
        "mlp_out.0": 32,
        "attn_out.1": 64,
        "transcoder_in.2": 32,
        "resid_post.3": 32,
    }
    assert np.array_equal(np.asarray(token), sequences[np.asarray(sequence), np.asarray(position)])
    for site in store.sites:
        want = expected[site][np.asarray(sequence, np.int64), np.asarray(position, np.int64)]
        got = store.read(site, 0, store.rows)
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


def test_every_token_but_the_special_ones_is_one_row_of_its_bucket(model_dir, tokens_dir, tmp_path):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store"))
    store = ActivationStore.open(tmp_path / "store")
    sequences = np.asarray(TokenStore.open(tokens_dir).sequences("train"))
    wanted = [(s, p) for s, p in zip(*np.nonzero(sequences > 2), strict=True)]
    _, sequence, position = map(np.asarray, store.labels(0, store.rows))
    got = list(zip(sequence, position, strict=True))
    assert store.rows == len(wanted) == len(set(got))
    for start in range(0, store.rows, 100):
        assert set(got[start : start + 100]) == set(wanted[start : start + 100])
    assert got != wanted  # shuffled


def test_bfloat16_rows_are_the_models_own_bits(model_dir, tokens_dir, tmp_path):
    changes = {"dtype": "bfloat16", "codec": "exact", "site": ["resid_post.1"], "rows": 150}
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store", **changes))
    store = ActivationStore.open(tmp_path / "store")
    sequences = np.asarray(TokenStore.open(tokens_dir).sequences("train")).astype(np.int64)
    model = load_model(model_dir, dtype="bfloat16", device="cpu").model
    # the same batches as the harvest, because other shapes may round differently
    states = [
        model.model(input_ids=torch.from_numpy(sequences[i : i + 3]), output_hidden_states=True)
        for i in range(0, 9, 3)
    ]
    states = torch.cat([state.hidden_states[2] for state in states])
    _, sequence, position = store.labels(0, 100)
    rows = states[np.asarray(sequence, np.int64), np.asarray(position, np.int64)]
    assert torch.equal(store.read("resid_post.1", 0, 100), rows.float())


def test_harvest_stopped_and_run_again_ends_as_if_never_stopped(
    model_dir, tokens_dir, tmp_path, monkeypatch
):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    harvest_rows(settings(model_dir, tokens_dir, whole))
    plain, calls = BucketHarvester.rows, []

    def failing(job, block, buffers=None):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return plain(job, block, buffers)

    monkeypatch.setattr(BucketHarvester, "rows", failing)
    with pytest.raises(KeyboardInterrupt):
        harvest_rows(settings(model_dir, tokens_dir, stopped))
    assert 0 < ActivationStore.open(stopped).rows < ActivationStore.open(whole).rows
    calls.extend([1] * 100)
    n_before = len(calls)
    harvest_rows(settings(model_dir, tokens_dir, stopped))
    assert len(calls) - n_before < n_before
    assert files(stopped) == files(whole)


def test_harvest_of_a_complete_store_runs_no_model(model_dir, tokens_dir, tmp_path, monkeypatch):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store"))
    before = files(tmp_path / "store")
    monkeypatch.setattr(BucketHarvester, "rows", None)
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store"))
    assert files(tmp_path / "store") == before


def data(folder) -> dict[str, bytes]:
    """A store's shards and commits, without the metadata that its growth has changed."""
    return {
        name: held for name, held in files(folder).items() if "/c/" in name or "commits/" in name
    }


@pytest.mark.parametrize("changes", [{}, {"outlier": 1.3}])
def test_a_harvest_of_more_rows_continues_and_ends_as_one_of_so_many(
    model_dir, tokens_dir, tmp_path, monkeypatch, changes
):
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    harvest_rows(settings(model_dir, tokens_dir, grown, rows=250, **changes))
    bucket_rows = ActivationStore.open(grown).spec.bucket_rows
    harvest_rows(settings(model_dir, tokens_dir, whole, **changes | {"bucket_rows": bucket_rows}))
    plain, calls = BucketHarvester.rows, []
    monkeypatch.setattr(
        BucketHarvester,
        "rows",
        lambda job, block, buffers: (calls.append(block), plain(job, block, buffers))[1],
    )
    harvest_rows(settings(model_dir, tokens_dir, grown, **changes))
    assert data(grown) == data(whole)
    assert ActivationStore.open(grown).complete
    assert bucket_rows == 100  # the three buckets of before were not done again
    assert min(block.sequence.min() for block in calls) > 5
    with pytest.raises(
        ValueError, match=r"only rows may grow\), but these differ: rows: 735 → 100"
    ):
        harvest_rows(settings(model_dir, tokens_dir, grown, rows=90, **changes))


def test_rows_are_rounded_up_to_whole_buckets_and_stderr_says_so(
    model_dir, tokens_dir, tmp_path, capsys
):
    report = harvest_rows(settings(model_dir, tokens_dir, tmp_path / "a", rows=150))
    assert report.spec.rows == ActivationStore.open(tmp_path / "a").rows == 200
    said = "rows come in whole buckets of 100: 200 instead of 150"
    assert said in capsys.readouterr().err
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "a", rows=200))
    assert "whole buckets" not in capsys.readouterr().err
    report = harvest_rows(settings(model_dir, tokens_dir, tmp_path / "a", rows=720))
    assert report.spec.rows == 735
    said = "rows come in whole buckets of 100: 735 instead of 720, where the text ends"
    assert said in capsys.readouterr().err


def test_a_bucket_size_that_nobody_asked_for_cuts_the_rows_evenly(model_dir, tokens_dir, tmp_path):
    wanted = settings(model_dir, tokens_dir, tmp_path / "a", rows=150, bucket_rows=None)
    assert harvest_rows(wanted).spec.rows == 160
    assert ActivationStore.open(tmp_path / "a").spec.bucket_rows == 160


def test_a_store_that_an_earlier_version_ended_short_is_finished_but_does_not_grow(
    model_dir, tokens_dir, tmp_path
):
    begun = settings(model_dir, tokens_dir, tmp_path / "a")
    job, origin = prepare(begun)
    StoreWriter.open(tmp_path / "a", store_spec(begun, 150, job, origin)).close()
    report = harvest_rows(settings(model_dir, tokens_dir, tmp_path / "a", rows=150))
    assert report.spec.rows == ActivationStore.open(tmp_path / "a").rows == 150
    with pytest.raises(ValueError, match=r"must stay 150, got 200: its last bucket holds 50 of"):
        harvest_rows(settings(model_dir, tokens_dir, tmp_path / "a", rows=200))


def test_sizes_chosen_for_few_rows_are_kept_when_the_store_grows(model_dir, tokens_dir, tmp_path):
    wanted = settings(model_dir, tokens_dir, tmp_path / "store", bucket_rows=None)
    job, origin = prepare(wanted)
    begun = store_spec(wanted, 10**4, job, origin)
    grown = store_spec(wanted, 10**7, job, origin, begun)
    assert grown == begun.model_copy(update={"rows": 10**7})
    assert store_spec(wanted, 10**7, job, origin).bucket_rows > begun.bucket_rows


def test_harvest_writes_its_settings_beside_the_store(model_dir, tokens_dir, tmp_path):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store", rows=50))
    written = json.loads((tmp_path / "store.harvest.json").read_text())
    assert (written["rows"], written["dtype"], written["split"]) == (50, "float32", "train")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"site": ["mlp_out.0"]}, "sites"),
        ({"seed": 5}, "seed: 4 → 5"),
        ({"dtype": "bfloat16"}, r"these differ: provenance\.dtype: 'float32' → 'bfloat16'; choose"),
        ({"batch_sequences": 4}, r"provenance\.batch_sequences: 3 → 4"),
        ({"attention": "flex_attention"}, r"provenance\.attention: 'eager' → 'flex_attention'"),
        ({"mask_token": [77]}, r"provenance\.masked_token_ids: \[0, 1, 2\] → \[0, 1, 2, 77\]"),
        ({"drop_nonfinite": True}, r"provenance\.drop_nonfinite: False → True"),
    ],
)
def test_harvest_refuses_to_continue_with_other_settings(
    model_dir, tokens_dir, tmp_path, changes, named
):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store"))
    before = files(tmp_path / "store")
    with pytest.raises(ValueError, match=named):
        harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store", **changes))
    assert files(tmp_path / "store") == before


@pytest.mark.parametrize("suits", ["bfloat16", "float32"])
def test_what_is_left_open_is_decided_by_who_begins_the_store(
    model_dir, tokens_dir, tmp_path, monkeypatch, suits
):
    monkeypatch.setattr("scopeworks.harvest.model.loading.good_dtype", lambda _device: suits)
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "auto", **OPEN, rows=150))
    origin = ActivationStore.open(tmp_path / "auto").provenance
    written = json.loads((tmp_path / "auto.harvest.json").read_text())
    assert (origin["dtype"], origin["attention"]) == (suits, "eager")
    assert {name: written[name] for name in OPEN} == {name: origin[name] for name in OPEN}
    other = {"bfloat16": "float32", "float32": "bfloat16"}[suits]
    monkeypatch.setattr("scopeworks.harvest.model.loading.good_dtype", lambda _device: other)
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "auto", **OPEN))
    assert ActivationStore.open(tmp_path / "auto").provenance == origin
    with pytest.raises(ValueError, match=rf"provenance\.dtype: '{suits}' → '{other}'"):
        harvest_rows(settings(model_dir, tokens_dir, tmp_path / "auto", **OPEN | {"dtype": other}))


def test_attention_left_open_is_the_stores(model_dir, tokens_dir, tmp_path):
    begun = settings(model_dir, tokens_dir, tmp_path / "store", attention="flex_attention")
    job, origin = prepare(begun)
    spec = store_spec(begun, 90, job, origin)
    continued, _ = prepare(settings(model_dir, tokens_dir, tmp_path / "store", **OPEN), spec)
    assert (continued.model.attention, continued.batch_sequences) == ("flex_attention", 3)


def test_who_loses_the_race_to_begin_a_store_takes_what_the_other_decided(
    model_dir, tokens_dir, tmp_path, monkeypatch
):
    store = tmp_path / "store"
    harvest_rows(settings(model_dir, tokens_dir, store))
    (store / "commits" / "00000000" / "zarr.json").unlink()
    looks = {"harvest": True, "writer": True}  # whose first look comes before the other's root
    begun, roots = StoreWriter.begun, writer_module._begun

    def late(who, look):
        return lambda *args: None if looks.pop(who, False) else look(*args)

    monkeypatch.setattr(harvest_module.StoreWriter, "begun", staticmethod(late("harvest", begun)))
    monkeypatch.setattr(writer_module, "_begun", late("writer", roots))
    monkeypatch.setattr("scopeworks.harvest.model.loading.good_dtype", lambda _device: "bfloat16")
    harvest_rows(settings(model_dir, tokens_dir, store, **OPEN))
    assert not looks
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "alone"))
    assert files(store) == files(tmp_path / "alone")


def test_other_versions_are_a_warning_and_a_store_without_any_continues(
    model_dir, tokens_dir, tmp_path, monkeypatch, capsys
):
    store = tmp_path / "store"
    harvest_rows(settings(model_dir, tokens_dir, store, rows=100))
    assert set(ActivationStore.open(store).spec.versions) == {"torch", "transformers"}
    assert "versions" not in capsys.readouterr().err
    monkeypatch.setattr(
        prepare_module,
        "versions",
        lambda: {"torch": "9.9", "transformers": version("transformers")},
    )
    harvest_rows(settings(model_dir, tokens_dir, store, rows=200))
    said = capsys.readouterr().err
    assert f"torch: '{version('torch')}' → '9.9'" in said
    assert "last bits" in said and "transformers" not in said
    document = json.loads((store / "zarr.json").read_text())
    body = document["attributes"]["scopeworks"]
    del body["spec"]["versions"], body["crc32c"]
    (store / "zarr.json").write_bytes(group_document(body | {"crc32c": checksum(body)}))
    harvest_rows(settings(model_dir, tokens_dir, store))
    assert ActivationStore.open(store).complete
    assert "versions" not in capsys.readouterr().err


def test_a_store_that_says_nonsense_of_how_it_was_begun_is_refused(model_dir, tokens_dir, tmp_path):
    begun = settings(model_dir, tokens_dir, tmp_path / "store")
    job, origin = prepare(begun)
    spec = store_spec(begun, 90, job, origin | {"batch_sequences": -3})
    with pytest.raises(
        ValueError, match=r"provenance of store .* must say .*'batch_sequences': -3"
    ):
        prepare(settings(model_dir, tokens_dir, tmp_path / "store", **OPEN), spec)


def test_harvest_refuses_to_continue_on_another_type_of_device(
    model_dir, tokens_dir, tmp_path, monkeypatch
):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store"))
    plain = prepare_module.load_model

    def elsewhere(*args, **kwargs):
        return replace(plain(*args, **kwargs), device=torch.device("cuda:1"))

    monkeypatch.setattr(prepare_module, "load_model", elsewhere)
    with pytest.raises(
        ValueError, match=r"these differ: provenance\.device: 'cpu' → 'cuda'; choose"
    ):
        harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store"))


def test_harvest_checks_sites_and_tokens_before_it_reads_weights(damaged, tokens_dir, tmp_path):
    (damaged / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"site resid_post\.9 does not exist"):
        harvest_rows(settings(damaged, tokens_dir, tmp_path / "store", site=["resid_post.9"]))
    with pytest.raises(ValueError, match="'nowhere'"):
        harvest_rows(settings(damaged, tokens_dir, tmp_path / "store", split="nowhere"))
    with pytest.raises(ValueError, match="dask must be local:N"):
        harvest_rows(settings(damaged, tokens_dir, tmp_path / "store", dask="nowhere"))
    assert not (tmp_path / "store").exists()


def test_harvest_refuses_to_continue_with_another_model(
    model_dir, other_model_dir, tokens_dir, tmp_path
):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store"))
    with pytest.raises(ValueError, match="model_fingerprint"):
        harvest_rows(settings(other_model_dir, tokens_dir, tmp_path / "store"))


def test_harvest_refuses_tokens_of_another_tokenizer(model_dir, tokens_dir, tmp_path):
    tokens = TokenStore.open(tokens_dir)
    other = TokenStore.create(
        tmp_path / "tokens", context=24, bos=2, eos=1, pad=0, provenance={"tokenizer": "elsewhere"}
    )
    other.write({"train": np.asarray(tokens.sequences("train"))})
    with pytest.raises(ValueError, match=r"must be made with the tokenizer of .*\(elsewhere\)"):
        harvest_rows(settings(model_dir, tmp_path / "tokens", tmp_path / "store"))


def test_harvest_refuses_sequences_longer_than_the_models(model_dir, tokens_dir, tmp_path):
    origin = TokenStore.open(tokens_dir).provenance
    long = TokenStore.create(
        tmp_path / "tokens", context=65, bos=2, eos=1, pad=0, provenance=origin
    )
    long.write({"train": np.full((2, 65), 7, dtype=np.uint32)})
    with pytest.raises(ValueError, match="context must be at most 64"):
        harvest_rows(settings(model_dir, tmp_path / "tokens", tmp_path / "store"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 10**9}, "rows must be at most"),
        ({"site": ["resid_post.4"]}, "the model has 4 layers"),
        ({"split": "test"}, "split must be one of train, got 'test'"),
    ],
)
def test_harvest_refuses_what_is_not_there(model_dir, tokens_dir, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        harvest_rows(settings(model_dir, tokens_dir, tmp_path / "store", **changes))
    assert not (tmp_path / "store").exists()


def test_harvest_refuses_a_missing_token_store(model_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="scopeworks tokenize"):
        harvest_rows(settings(model_dir, tmp_path / "nothing", tmp_path / "store"))


def test_masked_tokens_give_no_row(model_dir, tokens_dir, tmp_path):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "plain"))
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "masked", mask_token=[77, 80]))
    plain, masked = (ActivationStore.open(tmp_path / name) for name in ("plain", "masked"))
    tokens = np.asarray(plain.labels(0, plain.rows)[0])
    dropped = np.isin(tokens, [77, 80])
    assert dropped.any()
    assert sorted(np.asarray(masked.labels(0, masked.rows)[0])) == sorted(tokens[~dropped])


def test_a_chat_templates_prefix_gives_no_row(model_dir, tokens_dir, tmp_path):
    origin = TokenStore.open(tokens_dir).provenance
    tokens = TokenStore.create(
        tmp_path / "tokens",
        context=24,
        bos=2,
        eos=1,
        pad=0,
        provenance=origin | {"masked_prefix": 5},
    )
    tokens.write({"train": np.full((2, 24), 7, dtype=np.uint32)})
    harvest_rows(settings(model_dir, tmp_path / "tokens", tmp_path / "store"))
    store = ActivationStore.open(tmp_path / "store")
    position = np.asarray(store.labels(0, store.rows)[2])
    assert sorted(position.tolist()) == sorted([*range(5, 24)] * 2)


def test_outlying_rows_are_dropped_at_every_site_and_counted(model_dir, tokens_dir, tmp_path):
    times = 1.3
    wanted = settings(model_dir, tokens_dir, tmp_path / "store", outlier=times)
    job, _ = prepare(wanted)
    plan = Plan(job.sequences, job.mask)
    kept, n_dropped, dropped_at = set(), 0, Counter()
    for start in range(0, plan.rows, 100):
        part = plan.part(start, min(start + 100, plan.rows))
        for block in part.blocks(job.sequences, job.mask, job.batch_sequences):
            rows = replace(job, outlier=None).rows(block)
            norms = [x.norm(dim=1) for x in rows.values()]
            out = torch.stack([n > times * n.median() for n in norms]).any(dim=0).numpy()
            n_dropped += int(out.sum())
            dropped_at.update(block.position[out].tolist())
            kept |= set(zip(block.sequence[~out], block.position[~out], strict=True))
    assert 0 < n_dropped < plan.rows / 2
    report = harvest_rows(wanted)
    assert report.dropped_at == dropped_at
    top = min(dropped_at, key=lambda position: (-dropped_at[position], position))
    assert f"{n_dropped} rows dropped, most at position {top} ({dropped_at[top]})" in str(report)
    store = ActivationStore.open(tmp_path / "store")
    _, sequence, position = map(np.asarray, store.labels(0, store.rows))
    assert set(zip(sequence, position, strict=True)) == kept
    assert store.rows == plan.rows - n_dropped


def with_nan(rows):
    """The rows, one of which at one site is spoilt."""
    rows["mlp_out.0"][1, 3] = torch.nan
    return rows


@pytest.mark.parametrize("outlier", [None, 50.0])
def test_nonfinite_rows_are_an_error_unless_they_are_to_be_dropped(
    model_dir, tokens_dir, tmp_path, monkeypatch, outlier
):
    monkeypatch.setattr(
        "scopeworks.harvest.rows.bucket_job.forward_until",
        lambda *args: with_nan(forward_until(*args)),
    )
    wanted = settings(model_dir, tokens_dir, tmp_path / "store", outlier=outlier)
    with pytest.raises(ValueError, match=r"rows of mlp_out.0 must be finite, got NaN .*position 2"):
        harvest_rows(wanted)
    report = harvest_rows(
        settings(model_dir, tokens_dir, tmp_path / "dropped", outlier=outlier, drop_nonfinite=True)
    )
    store = ActivationStore.open(tmp_path / "dropped")
    assert 0 < report.dropped == store.dropped == report.spec.rows - store.rows
    assert f"; {report.dropped:,} rows dropped" in str(report)
    assert store.provenance["drop_nonfinite"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"codec": "zip"}, "codec must be 'exact', 'fast', .*got 'zip'"),
        ({"seed": 2**63}, "seed must be less than 9223372036854775808"),
        ({"memory_gib": 1e300}, "memory_gib must be at most 1048576"),
    ],
)
def test_settings_that_no_store_can_have_are_one_line(wrong, message):
    given = {"model": "m", "tokens": "t", "store": "s", "site": ["resid_post.0"]}
    with pytest.raises(ValueError, match=message) as raised:
        resolve(HarvestSettings, **(given | wrong))
    assert "\n" not in str(raised.value)


def test_sites_harvested_apart_read_as_if_harvested_together(model_dir, tokens_dir, tmp_path):
    """Bit for bit, in the order of the one store; and nothing but the key has to agree for it."""
    urls = [tmp_path / "a", tmp_path / "b"]
    for url, sites in zip(urls, (SITES[:1], SITES[1:]), strict=True):
        harvest_rows(settings(model_dir, tokens_dir, url, site=sites))
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "all"))
    one, joined = ActivationStore.open(tmp_path / "all"), ActivationStore.open(urls)
    assert {rows_key(ActivationStore.open(url).spec) for url in urls} == {rows_key(one.spec)}
    assert joined.notes == [] and joined.complete
    assert identity(joined) == identity(one)
    with one.stream(SITES, 50, seed=1) as expected, joined.stream(SITES, 50, seed=1) as found:
        for _ in range(2 * one.rows // 50):
            batch, other = next(expected), next(found)
            assert all(torch.equal(batch[site], other[site]) for site in SITES)


def test_sites_of_another_mask_are_not_joined(model_dir, tokens_dir, tmp_path):
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "a", site=SITES[:1]))
    harvest_rows(settings(model_dir, tokens_dir, tmp_path / "b", site=SITES[1:], mask_token=[7]))
    with pytest.raises(ValueError, match=r"these differ: masked_token_ids: .*; leave it out"):
        ActivationStore.open([tmp_path / "a", tmp_path / "b"])
