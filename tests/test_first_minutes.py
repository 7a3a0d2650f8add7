"""What a notebook's cells show: the names that ship, paths where URLs are wanted, results of one
line. One small harvest and SAE, made from Python."""

from pathlib import Path

import pytest

import scopeworks
from scopeworks.evaluate.settings import EvaluateSettings
from scopeworks.harvest.model.files import SHIPPED, model_place
from scopeworks.harvest.settings import HarvestSettings
from scopeworks.harvest.text.sources import expand
from scopeworks.harvest.text.stdlib import STDLIB, stdlib_sources
from scopeworks.store.tools.verify import verify_store
from scopeworks.train.settings import TrainSettings

SITE = "resid_post.3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder to work in, with tokens, rows and an SAE; and what each call returned."""
    there = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(there)
        three = [one for one in stdlib_sources() if one.name in ("bisect.py", "heapq.py", "cmd.py")]
        shown = {
            "tokens": scopeworks.tokenize_text(
                model="tiny_gemma2", text=three, out=Path("tokens"), context=64, held_out=0.4
            ),
            "rows": scopeworks.harvest_rows(
                model="tiny_gemma2", tokens=Path("tokens"), store=Path("rows"), site=SITE, rows=2000
            ),
            "sae": scopeworks.train_sae(
                store=Path("rows"),
                site=SITE,
                out=Path("sae"),
                width=64,
                steps=5,
                batch=64,
                sparsity=1e-3,
                recipe="auto",
            ),
        }
        yield shown


def test_results_are_one_line_with_what_matters(folder):
    store, tokens = scopeworks.ActivationStore.open("rows"), scopeworks.TokenStore.open("tokens")
    lm = scopeworks.load_model("tiny_gemma2")
    with store.stream(SITE, batch_rows=64) as stream:
        next(stream)
        shown = {
            repr(folder["tokens"]): (
                "TokenizeReport(",
                " files, ",
                " characters",
                "train sequences",
            ),
            repr(folder["rows"]): ("HarvestReport(", f"rows of {SITE} in rows"),
            repr(folder["sae"]): ("SAE(", f"{SITE}: 128 → 64", "on cpu"),
            repr(tokens): ("TokenStore(sequences of 64 tokens", "train", "; tokens)"),
            repr(store): ("ActivationStore(", f"rows of {SITE} 128", "; rows)"),
            repr(stream): ("Stream(", SITE, "batches of 64", "1 read"),
            repr(lm): ("LanguageModel(tiny_gemma2: Gemma 2", "d_model 128"),
        }
    for text, parts in shown.items():
        assert "\n" not in text and len(text) < 200
        assert [part for part in parts if part not in text] == []


def test_stores_show_the_place_they_were_given_and_settings_the_whole_one(folder):
    here = Path.cwd()
    for kind, name in ((scopeworks.ActivationStore, "rows"), (scopeworks.TokenStore, "tokens")):
        assert repr(kind.open(Path(name))).endswith(f"; {name})")
        assert repr(kind.open(here / name)).endswith(f"; {here / name})")
        assert kind.open(name).as_setting() == str(here / name)


def test_a_report_is_taken_where_its_store_is_wanted(folder):
    here, text = Path.cwd(), {"model": "tiny_gemma2", "store": "new", "site": SITE, "rows": 10}
    harvest = HarvestSettings(tokens=folder["tokens"], **text)
    train = TrainSettings(store=folder["rows"], site=SITE, width=8, out="x")
    assert (harvest.tokens, train.store) == (str(here / "tokens"), str(here / "rows"))
    with pytest.raises(ValueError, match=r"^tokens must be a URL, a path or a TokenStore, got 3$"):
        HarvestSettings(tokens=3, **text)
    with pytest.raises(ValueError, match=r"^site must be one site; train_sweep takes a list, got"):
        TrainSettings(store="rows", site=[SITE], width=8, out="x")  # pyright: ignore[reportArgumentType]
    for site, sae in ((3, "q"), (None, 3)):
        with pytest.raises(ValueError, match=r"^(site|sae) must be a str or a list of them, got "):
            if site is None:
                EvaluateSettings(model="m", tokens="t", sae=sae, out="o")  # pyright: ignore[reportArgumentType]
            HarvestSettings(model="m", tokens="t", store="s", site=site)  # pyright: ignore[reportArgumentType]


def test_a_report_of_checking_is_one_line(folder):
    text = repr(verify_store("rows"))
    assert text.startswith("Report(sound: ") and "0 notes" in text


def test_models_that_ship_go_by_name_unless_a_folder_has_it(folder):
    assert model_place("google/gemma-2-2b") == "google/gemma-2-2b"
    for name in SHIPPED:
        assert (Path(model_place(name)) / "config.json").is_file()
    Path("tiny_gemma2").mkdir()
    try:
        assert model_place("tiny_gemma2") == "tiny_gemma2"
    finally:
        Path("tiny_gemma2").rmdir()


def test_pythons_sources_go_by_name():
    assert [one.path for one in expand([STDLIB])] == [str(path) for path in stdlib_sources()]
