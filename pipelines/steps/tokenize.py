"""The step tokenize: text → token store; a share is some of the text's parts."""

from ...harvest.tokens.run import tokenize_text
from ...harvest.tokens.splits import HELD_OUT
from ...harvest.tokens.text_parts import PART_BYTES
from ...store import TokenStore
from ...workers.share import TaskShare
from ..suite.marks import alone
from ..suite.outputs import Outputs
from .step import State, Step


def state(outputs: Outputs) -> State:
    """Whether the token store exists."""
    try:
        TokenStore.open(outputs.tokens)
    except FileNotFoundError:
        return State(0, 1, "token stores")
    return State(1, 1, "token stores")


def execute(outputs: Outputs, share: TaskShare) -> None:
    """Tokenizes a share of the text; the first share packs the tokens of all shares."""
    if outputs.file.text_table.store is not None:
        _check_held_out(TokenStore.open(outputs.tokens))
        return
    with alone(outputs, outputs.tokens.url, share):
        if not state(outputs).complete:  # another run may have made it from copies of the texts
            print(tokenize_text(outputs.tokenize_settings(), share=share))
    if state(outputs).complete:
        _check_held_out(TokenStore.open(outputs.tokens))


def _check_held_out(tokens: TokenStore) -> None:
    """Refuses a token store without held-out sequences now, and not after hours of training."""
    if not tokens.splits.get(HELD_OUT):
        raise ValueError(
            f"token store {tokens.url} must have held-out sequences to evaluate on, got the splits "
            f"{', '.join(tokens.splits)}; give more text, or a larger held_out in [text]"
        )


def pieces(outputs: Outputs) -> int:
    """Number of parts of the text, estimated from its bytes."""
    has_tokens = outputs.file.text_table.store is not None
    return 1 if has_tokens else max(1, outputs.text_bytes() // PART_BYTES)


STEP = Step("tokenize", (), state, execute, pieces, on_gpu=False)
