"""Folding C and b_dec: raw rows through the folded SAE give C times the scaled run's numbers."""

import torch

from scopeworks.train.kernels import Parameters
from scopeworks.train.run.fold import fold
from scopeworks.train.sae.config import SAEConfig
from scopeworks.train.sae.sae import SAE


def random_parameters(d_in: int, d_sae: int, d_out: int, skip: bool) -> Parameters:
    """Parameters with every tensor non-zero, thresholds that some latents pass."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    W_dec = draw(d_sae, d_out)
    return Parameters(
        W_enc=draw(d_sae, d_in).t(),
        b_enc=draw(d_sae),
        W_dec=W_dec / W_dec.norm(dim=1, keepdim=True),
        b_dec=draw(d_out),
        theta=draw(d_sae).abs(),
        W_skip=draw(d_in, d_out) if skip else None,
    )


def scaled_forward(
    p: Parameters, x: torch.Tensor, pre_bias: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The training-time forward pass in float64."""
    p = Parameters(**{name: tensor.double() for name, tensor in p.items()})
    z = (x - p.b_dec if pre_bias else x) @ p.W_enc + p.b_enc
    f = z * (z > p.theta)
    x_hat = f @ p.W_dec + p.b_dec
    return f, x_hat + x @ p.W_skip if p.W_skip is not None else x_hat


def test_folded_sae_gives_c_times_the_scaled_features():
    p, C = random_parameters(12, 40, 12, skip=False), 37.5
    x = C * torch.randn(64, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    f, x_hat = scaled_forward(p, x / C, pre_bias=True)
    sae = SAE(SAEConfig(d_in=12, d_sae=40, d_out=12), **fold(p, C, C, pre_bias=True)).to(
        dtype=torch.float64
    )
    assert 0.05 < (f > 0).double().mean() < 0.95
    torch.testing.assert_close(sae.encode(x), C * f, rtol=1e-5, atol=1e-5 * C)
    torch.testing.assert_close(sae(x), C * x_hat, rtol=1e-5, atol=1e-5 * C)


def test_folded_transcoder_keeps_unit_decoder_rows_between_two_scales():
    p, C, C_target = random_parameters(12, 40, 7, skip=True), 3.0, 11.0
    x = C * torch.randn(64, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    f, y_hat = scaled_forward(p, x / C, pre_bias=False)
    config = SAEConfig(d_in=12, d_sae=40, d_out=7, site="transcoder_in.1", target_site="mlp_out.1")
    folded = SAE(config, **fold(p, C, C_target, pre_bias=False))
    torch.testing.assert_close(folded.W_dec.norm(dim=1), torch.ones(40))
    sae = folded.to(dtype=torch.float64)
    torch.testing.assert_close(sae.encode(x), C_target * f, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(sae(x), C_target * y_hat, rtol=1e-5, atol=1e-4)
