"""Which SAE this is: by its tensors, whatever file they came from."""

import hashlib

from ....train.sae.sae import SAE


def sae_fingerprint(sae: SAE) -> str:
    """16 hexadecimal digits over an SAE's tensors and its k."""
    digest = hashlib.blake2b(f"k={sae.config.k}".encode(), digest_size=8)
    for name, tensor in sorted(sae.tensors().items()):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()
