"""Which contexts are drawn for a latent."""

from pydantic import Field, NonNegativeInt, PositiveInt

from ....settings import Settings


class SampleSettings(Settings):
    """How much text is looked at, and how many contexts of it explain and test a latent."""

    context: PositiveInt = 32
    """Tokens in a context."""
    explain: PositiveInt = 40
    """Contexts that explain a latent, evenly from `quantiles` bands of strength."""
    test: PositiveInt = 50
    """Contexts in which it fires that test an explanation, from the same number of bands."""
    quantiles: PositiveInt = 10
    """Bands of strength: equal shares of the contexts in which a latent fires."""
    silent: PositiveInt = 50
    """Contexts in which it never fires, drawn evenly from all of them."""
    hard: NonNegativeInt = 0
    """As many more that hold one of its top tokens and in which it does not fire."""
    rows: PositiveInt = 10_000_000
    """Rows of the store that are looked at, rounded up to whole buckets."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of which documents explain and which test, and of every draw."""
