"""The planted latents fire where they say they do."""

import numpy as np
import pytest

from scopeworks.harvest.model.loading import load_tokenizer
from scopeworks.store import ActivationStore
from scopeworks.tests.evaluate.latents import planted
from scopeworks.train.sae.sae import SAE


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> planted.Planted:
    return planted.plant(tmp_path_factory.mktemp("planted") / "p", 20)


def test_each_latent_fires_on_what_it_is_named_after(found):
    store, sae = ActivationStore.open(found.store), SAE.load(found.sae)
    tokenizer, _ = load_tokenizer(found.model)
    f = sae.encode(store.read(planted.SITE, 0, store.rows)).numpy()
    words = [str(tokenizer.decode([i])) for i in store.labels(0, store.rows).token]
    digits = np.array([any(c.isdigit() for c in word) for word in words])
    assert digits.any()
    np.testing.assert_array_equal(f[:, planted.DIGIT] > 0, digits)
    returns = np.array([word.strip() == "return" for word in words])
    np.testing.assert_array_equal(f[:, planted.RETURN], returns)
    assert 20 < (f[:, planted.AFTER_DEF] > 0).sum() < len(f) / 5
    np.testing.assert_array_equal(f[:, planted.TWIN], f[:, planted.AFTER_DEF] / 2)
    assert (f[:, planted.ALWAYS] == 1).all() and (f[:, planted.DEAD] == 0).all()
    noisy = (f[:, 6:] > 0).mean()
    assert 0.003 < noisy < 0.01
