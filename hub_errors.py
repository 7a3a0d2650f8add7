"""What to do about an error of the Hugging Face hub, in one line.

Owns the words for errors of `huggingface_hub` and of the connections under it, whose classes have
no common base. Who asks the hub for what is its callers'.
"""

from .foreign import one_line


def hub_hint(error: BaseException, what: str = "model") -> str:
    """Why the hub gave nothing, and what helps.

    Args:
        error: whatever a call of `huggingface_hub` raised.
        what: what was asked for.
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
    """The HTTP status that an error of `huggingface_hub` is of; None without an answer."""
    return getattr(getattr(error, "response", None), "status_code", None)
