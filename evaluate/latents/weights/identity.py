"""The fingerprint of an SAE: it depends on the tensors, not on the file they came from."""

import hashlib

from ....train.sae.sae import SAE


def sae_fingerprint(sae: SAE) -> str:
    """BLAKE2b of an SAE's k and its tensors' names, shapes and float32 values; 16 hex digits."""
    digest = hashlib.blake2b(f"k={sae.config.k}".encode(), digest_size=8)
    for name, tensor in sorted(sae.tensors().items()):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()
