"""Conversations of a suite's twin: where they come from, and that they are made once."""

import json
from dataclasses import replace

import numpy as np
import pytest

from scopeworks.evaluate.studies.table import study_named
from scopeworks.harvest.model.files import model_place
from scopeworks.pipelines.studies.gathering import of_suite
from scopeworks.pipelines.studies.inputs.conversations import with_rollouts
from scopeworks.pipelines.studies.variants import scene_of, twin_of
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.store import TokenStore
from scopeworks.tests.pipelines.small_suite import files_below, suite, write_suite

TWIN = model_place("tiny_gemma2_it")


def test_rollouts_are_made_once_of_questions_that_no_model_has_learnt(tmp_path, monkeypatch):
    file = suite(tmp_path)
    scene, made = with_rollouts("transfer", scene_of(file), file)
    assert made and scene.twin == TWIN
    tokens = TokenStore.open(scene.rollouts)
    assert tokens.splits == {"held_out": 8, "parts": 8}
    parts = np.asarray(tokens.sequences("parts")[:])
    assert (parts == 1).any(1).all() and (parts == 2).any(1).all() and tokens.context <= 64
    (questions,) = (tmp_path / "out" / "rollouts").glob("questions-*.jsonl")
    assert "text" in json.loads(questions.read_text().splitlines()[0])
    other = {"float32": "bfloat16", "bfloat16": "float32"}[tokens.provenance["settings"]["dtype"]]
    monkeypatch.setattr("scopeworks.harvest.model.loading.good_dtype", lambda _device: other)
    again, made = with_rollouts("transfer", scene_of(file), file)
    assert not made and again == scene  # on whatever machine


def test_prompts_and_twin_are_those_that_the_suite_names(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"text": "What does `f(x)` do?"}\n')
    path = write_suite(tmp_path)
    path.write_text(path.read_text() + f'[twin]\nmodel = "tiny_gemma2_it"\nprompts = "{prompts}"\n')
    file = SuiteFile(path)
    scene, _ = with_rollouts("transfer", scene_of(file), file)
    ids = np.asarray(TokenStore.open(scene.rollouts).sequences("held_out")[:])
    parts = np.asarray(TokenStore.open(scene.rollouts).sequences("parts")[:])
    assert len(np.unique(np.where(parts == 1, ids, 0), axis=0)) == 1
    assert not list((tmp_path / "out" / "rollouts").glob("questions-*"))


@pytest.mark.parametrize(
    ("model", "twin"),
    [
        ("google/gemma-2-9b", "google/gemma-2-9b-it"),
        ("google/gemma-2-9b-it", None),
        ("google/gemma-3-1b-pt", "google/gemma-3-1b-it"),
        ("google/gemma-3-270m", "google/gemma-3-270m-it"),
        ("elsewhere/model", None),
    ],
)
def test_twin_is_known_of_models_that_have_one(tmp_path, model, twin):
    file = suite(tmp_path)
    file.suite = file.suite.model_copy(update={"model": model})
    assert twin_of(file) == twin


def test_suite_without_a_known_twin_or_prompts_is_told_what_to_set(tmp_path):
    file = suite(tmp_path)
    scene = scene_of(file)
    file.suite = file.suite.model_copy(update={"model": "elsewhere/model"})
    with pytest.raises(ValueError, match=r"\[twin\]: model must be given.*--set twin.model="):
        with_rollouts("transfer", replace(scene, twin=None), file)
    with pytest.raises(ValueError, match=r"\[twin\]: prompts must be given.*JSON lines"):
        with_rollouts("transfer", replace(scene, twin=TWIN), file)
    file.suite = suite(tmp_path).suite
    with pytest.raises(FileNotFoundError, match="model nowhere does not exist"):
        with_rollouts("transfer", replace(scene, twin="nowhere"), file)
    file.suite = file.suite.model_copy(update={"text": {"store": "tokens"}})
    with pytest.raises(ValueError, match=r"\[text\]: sources must be given.*got store"):
        with_rollouts("transfer", replace(scene, twin=TWIN), file)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_transfer_is_measured_on_the_twins_conversations(tmp_path):
    path = write_suite(tmp_path, sparsity=[6e-3])
    path.write_text(path.read_text().replace('site = ["resid_post.1", "mlp_out.1"]', RESIDUAL))
    file, study = SuiteFile(path), study_named("transfer")
    gathered = of_suite(study, file, False)
    assert gathered.made
    for name, found in gathered.documents.items():
        home, twin = name == "base-at-home", name.startswith("twin")
        for document in found:
            assert document["model"]["name"] == ("tiny_gemma2" if home else "tiny_gemma2_it")
            (entry,) = document["saes"]
            assert entry["config"]["model"] == ("tiny_gemma2_it" if twin else "tiny_gemma2")
            assert document["settings"]["positions"] == (
                "rollout" if "rollout" in name else "prompt"
            )
            assert str(tmp_path) not in json.dumps(document)
            assert document["text"].startswith("8 conversations of at most ")
    assert len({d["tokens"]["fingerprint"] for f in gathered.documents.values() for d in f}) == 1
    before = files_below(tmp_path / "out")
    assert not of_suite(study, SuiteFile(path), False).made
    after = files_below(tmp_path / "out")
    assert after.pop("digests.json") and before.pop("digests.json")  # what was looked at
    assert after == before
    assert len(study.plots(study.points(gathered.documents))) == 6


RESIDUAL = 'site = ["resid_post.3"]'
