"""Errors of the Hugging Face hub in one line, with what to do.

Owns the texts for errors of `huggingface_hub` and of its connections, whose classes have no common
base. The callers make the requests.
"""

from .foreign import one_line


def hub_hint(error: BaseException, what: str = "model") -> str:
    """Why a request to the hub failed, and what to do.

    Args:
        error: any error that a call of `huggingface_hub` raised.
        what: the kind of thing that was requested.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    causes = (error, error.__cause__, error.__context__)
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return "it is gated: accept its licence on its hub page, then run `hf auth login`"
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return f"the hub has no such {what}, or it is private: check it, or run `hf auth login`"
    if isinstance(error, HFValidationError):
        return f"it is no folder here, and no hub id: {one_line(error)}"
    refused = next((code for code in map(status, causes) if code in (401, 403)), None)
    if refused is not None:
        return f"the hub refuses it ({refused}): run `hf auth login` with a token that may"
    if isinstance(error, OSError) and error.filename is not None:
        return f"its files cannot be kept here ({one_line(error)}); make room, or set HF_HOME"
    return (
        f"the hub cannot be reached: check the network, or pass a local folder ({one_line(error)})"
    )


def status(error: BaseException | None) -> int | None:
    """The HTTP status of an error of `huggingface_hub`; None if the hub did not answer."""
    return getattr(getattr(error, "response", None), "status_code", None)
