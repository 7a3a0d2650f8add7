"""A session of two made-up SAEs, and cards for its latents."""

from scopeworks.evaluate.latents.rate.session import Candidates, RatedSAE, Session, draw

NAMES = ("resid_post.3-secret", "mlp_out.1-hidden")
SAES = tuple(
    RatedSAE(
        name=name,
        site=name.split("-")[0],
        target_site=name.split("-")[0],
        d_sae=200 + 40 * k,
        l0=17.5 + k,
        model="tiny_model",
        fingerprint=f"{k}f" * 8,
        index=f"{k}d" * 8,
    )
    for k, name in enumerate(NAMES)
)


def candidates(k: int) -> Candidates:
    """Every fifth latent never fires; the others the oftener, the higher their number."""
    return Candidates(SAES[k], [i * (i % 5 > 0) for i in range(SAES[k].d_sae)], 1000)


def a_session(n: int = 12, seed: int = 0) -> Session:
    """n latents of each of both."""
    return draw([candidates(0), candidates(1)], n, seed)


def record(latent: int = 3) -> dict:
    """A latent's features, as an index has them."""
    example = {
        "tokens": ["def", " <b>f</b>", "(\n", "x"],
        "tokens_acts_list": [0.0, 41.5, 83.0, 0.0],
        "train_token_ind": 2,
        "is_repeated_datapoint": False,
    }
    return {
        "transcoder_id": "resid_post.3-secret",
        "index": latent,
        "examples_quantiles": [
            {"quantile_name": "Top activations", "examples": [example] * 20},
            {"quantile_name": "Subsample interval 1", "examples": [example] * 5},
            {"quantile_name": "Subsample interval 2", "examples": []},
        ],
        "activation_frequency": 0.0123,
    }


def page(latent: int = 3) -> dict:
    """A latent's page record."""
    return {
        "i": latent,
        "fired": 123,
        "density": 0.0123,
        "max": 83.0,
        "theta": 7.77,
        "histogram": {"width": 32.0, "counts": [4, 8, 2]},
        "raised": [[" return", 3.3], ["\n", 1.1]],
    }
