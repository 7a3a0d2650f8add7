"""Settings of the contexts that are drawn for a latent."""

from pydantic import Field, NonNegativeInt, PositiveInt

from ....settings import Settings


class SampleSettings(Settings):
    """How much text is read, and how many of its contexts explain and test a latent."""

    context: PositiveInt = 32
    """Tokens in a context."""
    explain: PositiveInt = 40
    """Contexts that explain a latent, evenly from `quantiles` bands of strength."""
    test: PositiveInt = 50
    """Contexts in which the latent fires that test an explanation, from as many bands."""
    quantiles: PositiveInt = 10
    """Bands of strength: equal shares of the contexts in which a latent fires."""
    silent: PositiveInt = 50
    """Contexts that test an explanation in which the latent does not fire, drawn from all such."""
    hard: NonNegativeInt = 0
    """More such contexts that hold one of the latent's top tokens."""
    rows: PositiveInt = 10_000_000
    """Rows of the store that are read, rounded up to whole buckets."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed that decides which documents explain and which test, and every draw."""
