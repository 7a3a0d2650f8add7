"""A suite's outputs: the key of each, and the path or URL that contains the key.

Owns keys, places and the settings of each step; makes no output. An output's name holds its key,
and every kind of output shows itself whether it is whole: a token store by its root, a bucket by
its commit, an SAE by its config.json, a JSON by being renamed into its place. So an output that
exists under its name is done, whichever run made it, and a run keeps no other record.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from ...evaluate.settings import EvaluateSettings
from ...harvest.model.files import model_place
from ...harvest.model.sites import Site, site_width
from ...harvest.settings import HarvestSettings, TokenizeSettings
from ...harvest.text.sources import expand
from ...harvest.text.text_file import is_stream
from ...store import TokenStore
from ...store.place.place import Place
from ...store.tools.catalogue import ListedStore, catalogue
from ...train.settings import FREE_ON_RESUME, TrainSettings
from .keys import MODEL_FILES, TOKENIZER_FILES, Digests, key
from .latents import check_latents
from .members import SuiteMember, groups_of, harvest_sites, members_of
from .model_shape import check_model, model_config
from .settings import SuiteFile, Table

TOKENS_VERSION, ROWS_VERSION, SAE_VERSION, EVALUATION_VERSION, PAGES_VERSION = 1, 1, 2, 5, 4
"""Versions of the steps. Raise one when its step makes another output of the same inputs."""

_NOT_ROWS = {"model", "tokens", "store", "site", "device", "device_map", "memory_gib", "dask"}
_NOT_TOKENS = {"model", "text", "out", "dask"}
_NOT_SAE = FREE_ON_RESUME | {"device"}
_NOT_EVALUATION = {"sae", "model", "tokens", "out", "batch", "device", "norms_of", "dask"}


class Outputs:
    """Keys and places of a suite's outputs; reads no output."""

    def __init__(self, file: SuiteFile):
        """Checks all tables of the suite.

        Raises:
            ValueError: naming file, table and key.
        """
        self.file, self.suite = file, file.suite
        self.out = self.suite.out.expanduser().absolute()
        self.members = members_of(file)
        self.groups = groups_of(self.members)
        self._digests = Digests(self.out / "digests.json")
        self._check_tables()

    def _check_tables(self) -> None:
        """Builds the settings of every step once, so that errors come before any work."""
        if self.file.text_table.store is None:
            self._tokenize_settings("tokens", ["text"])
        for number in range(len(self.suite.harvest)):
            self._harvest_settings(number, "tokens", "store", ["resid_post.0"])
        evaluate = self.evaluate_settings([self.members[0]], place="tokens")
        check_latents(self.file, self.members)
        models = {"evaluate": [evaluate.model, evaluate.norms_of], "twin": [self.suite.twin.model]}
        for table, names in models.items():
            for name in filter(None, names):
                check_model(name, f"suite {self.file.path}, [{table}]")

    @cached_property
    def sources(self) -> list[str]:
        """The texts, as `tokenize` takes them; python:stdlib is replaced by its files."""
        texts = self.file.text_table.sources
        if not texts:
            raise ValueError(
                f"suite {self.file.path}, [text]: sources must be given, or store for tokens that "
                "are there"
            )
        if "-" in texts:
            raise ValueError(
                f"suite {self.file.path}, [text]: sources must be files, folders or URLs, got - : "
                "a run that is continued could not read it again"
            )
        return list(texts)

    @cached_property
    def tokenizer_key(self) -> str:
        """Key of the tokenizer's files; for a hub model its revision."""
        return self._digests.model_key(self.suite.model, TOKENIZER_FILES)

    @cached_property
    def model_key(self) -> str:
        """Key of the model's files; for a hub model its revision."""
        return self._digests.model_key(self.suite.model, MODEL_FILES)

    @cached_property
    def tokens_key(self) -> str:
        """Key of the token store: of its settings, the tokenizer and every text's content."""
        if self.file.text_table.store is not None:
            return TokenStore.open(self.tokens).fingerprint
        settings = self._tokenize_settings("tokens", self.sources)
        sources = expand(self.sources, self.suite.storage_options)
        digests = self._digests.of(sources, self.suite.storage_options)
        own = settings.model_dump(mode="json", exclude=_NOT_TOKENS, exclude_defaults=True)
        return key("tokens", TOKENS_VERSION, own, self.tokenizer_key, *digests)

    @cached_property
    def tokens(self) -> Place:
        """Path or URL of the token store."""
        if self.file.text_table.store is not None:
            return self.suite.place(self.file.text_table.store)
        root = self.suite.tokens or str(self.out / "tokens")
        return self.suite.place(f"{root.rstrip('/')}/{self.tokens_key}")

    def tokenize_settings(self) -> TokenizeSettings:
        """The settings of `tokenize`."""
        return self._tokenize_settings(self.tokens.url, self.sources)

    def _tokenize_settings(self, out: str, text: list[str]) -> TokenizeSettings:
        values = {"seed": self.suite.seed} | self.suite.text
        values.pop("sources", None)
        filled: Table = {"model": self.suite.model, "text": text, "out": out}
        options = self.options([*text, out])
        dask = None if all(map(is_stream, text)) else self.suite.dask
        return self.file.table(
            TokenizeSettings, "[text]", values, **filled, dask=dask, storage_options=options
        )

    def rows_key(self, harvest: int) -> str:
        """Key of the rows of one `[[harvest]]` table: stores with the same rows key have the same
        tokens in the same order, whatever their sites."""
        settings = self._harvest_settings(harvest, "tokens", "store", ["resid_post.0"])
        own = settings.model_dump(mode="json", exclude=_NOT_ROWS, exclude_defaults=True)
        if settings.outlier is not None or settings.drop_nonfinite:
            # A row is dropped if its activation at any of the sites is bad: the sites decide.
            own["sites"] = sorted(map(str, self.sites[harvest]))
        return key("rows", ROWS_VERSION, own, self.model_key, self.tokens_key)

    @cached_property
    def sites(self) -> list[list[Site]]:
        """The sites of every `[[harvest]]` table."""
        return harvest_sites(self.file, {site for one in self.members for site in one.sites})

    def text_bytes(self) -> int:
        """Bytes of the texts; texts of unknown size count as 0."""
        found = expand(self.sources, self.suite.storage_options)
        return sum(source.size or 0 for source in found)

    @property
    def stores(self) -> str:
        """Folder or URL of all activation stores."""
        return (self.suite.stores or str(self.out / "stores")).rstrip("/")

    @cached_property
    def read_only(self) -> list[ListedStore]:
        """The stores that the suite only reads.

        Raises:
            ValueError: one is damaged, not complete, or made from other tokens than the suite's.
        """
        places = [self.suite.place(url) for url in self.suite.read]
        entries = [entry for place in places for entry in catalogue(place, records=False)]
        tokens = TokenStore.open(self.tokens).fingerprint if entries else None
        for entry in (entry for entry in entries if entry.kind != "tokens"):
            if entry.spec is None or not entry.complete:
                why = entry.error or "got one of which buckets are missing"
                raise ValueError(
                    f"store {entry.url}, which the suite only reads, must be complete: {why}"
                )
            if entry.spec.provenance.get("tokens") != tokens:
                raise ValueError(
                    f"store {entry.url} must be of the tokens {self.tokens.url}, on whose held-out "
                    "part the SAEs are evaluated, got one of others; name its tokens as store in "
                    "[text]"
                )
        return [entry for entry in entries if entry.spec is not None]

    def _rows_keys(self, member: SuiteMember) -> list[str]:
        """Keys of the rows that a member is trained on, store by store."""
        wanted = {str(site) for site in member.sites}
        keys = []
        for entry in self.read_only:
            if entry.spec is not None and wanted & set(entry.spec.sites):
                wanted -= set(entry.spec.sites)
                keys.append(key("read", 1, [entry.rows_key, entry.spec.rows, entry.spec.codec]))
        tables = {
            number: None
            for site, number in zip(member.sites, member.harvests, strict=True)
            if str(site) in wanted
        }
        return [*keys, *map(self.rows_key, tables)]

    def store(self, harvest: int, sites: list[str]) -> Place:
        """Path or URL of the store of some sites of one table."""
        rows = self.rows_key(harvest)
        return self.suite.place(f"{self.stores}/{rows}-{key('sites', 1, sorted(sites))[:8]}")

    def harvest_settings(self, harvest: int, store: Place, sites: list[str]) -> HarvestSettings:
        """The settings of `harvest` for one table and some of its sites."""
        return self._harvest_settings(harvest, self.tokens.url, store.url, sites)

    def _harvest_settings(
        self, harvest: int, tokens: str, store: str, sites: list[str]
    ) -> HarvestSettings:
        own = self.suite.harvest[harvest]
        values = {"seed": self.suite.seed, "device": self.suite.device} | own
        values.pop("site", None)
        filled: Table = {"model": self.suite.model, "tokens": tokens, "store": store, "site": sites}
        return self.file.table(
            HarvestSettings,
            f"[[harvest]] {harvest + 1}",
            values,
            **filled,
            dask=self.suite.dask,
            storage_options=self.options([tokens, store]),
        )

    def sae_key(self, member: SuiteMember) -> str:
        """Key of a trained SAE: of its settings, its rows and its sites."""
        settings = self._train_settings(member, [f"{self.stores}/store"], "out")
        own = settings.model_dump(mode="json", exclude=set(_NOT_SAE), exclude_defaults=True)
        return key("sae", SAE_VERSION, own, *self._rows_keys(member))

    def sae(self, member: SuiteMember) -> Path:
        """The trained SAE's folder."""
        return self.out / "saes" / f"{member.name}-{self.sae_key(member)[:8]}"

    def train_settings(self, member: SuiteMember, stores: list[str]) -> TrainSettings:
        """The settings of `train` for one SAE."""
        return self._train_settings(member, stores, str(self.sae(member)))

    def _train_settings(self, member: SuiteMember, stores: list[str], out: str) -> TrainSettings:
        checkpoints = self.suite.checkpoints
        root = None if checkpoints is None else f"{checkpoints.rstrip('/')}/{Path(out).name}"
        target = member.target_site
        filled: Table = {
            "store": stores[0] if len(stores) == 1 else tuple(stores),
            "out": out,
            "site": str(member.site),
            "target_site": None if target is None else str(target),
            "checkpoints": root,
            "storage_options": self.options([*stores, *([root] if root else [])]),
        }
        values = {"device": self.suite.device} | member.values
        settings = self.file.table(TrainSettings, "[[sae]]", values, **filled)
        return settings.resolved_for(site_width(member.site, model_config(self.suite.model)))

    def evaluation_key(self, member: SuiteMember) -> str:
        """Key of one SAE's evaluation: of its settings, the SAE, the tokens and the model."""
        settings = self.evaluate_settings([member], place="tokens")
        own = settings.model_dump(mode="json", exclude=_NOT_EVALUATION, exclude_defaults=True)
        inputs = [self.sae_key(member), *self._measured_keys]
        if settings.norms_of is not None:
            inputs.append(self._digests.model_key(settings.norms_of, MODEL_FILES))
        return key("evaluation", EVALUATION_VERSION, own, *inputs)

    @cached_property
    def _measured_keys(self) -> tuple[str, str]:
        """Keys of the tokens and of the model that SAEs are evaluated on."""
        url, model = (self.suite.evaluate.get(name) for name in ("tokens", "model"))
        return (
            TokenStore.open(self.suite.place(url)).fingerprint if url else self.tokens_key,
            self._digests.model_key(model_place(model), MODEL_FILES) if model else self.model_key,
        )

    def evaluation(self, member: SuiteMember) -> Path:
        """The JSON of one SAE's evaluation."""
        name = f"{member.name}-{self.evaluation_key(member)[:8]}.json"
        return self.out / "evaluations" / name

    def evaluate_settings(self, members: list[SuiteMember], place: str | None = None) -> Any:
        """The settings of `evaluate`; with a `place` of the tokens only to check, without keys."""
        values = {"device": self.suite.device} | self.suite.evaluate
        model = model_place(values.pop("model", self.suite.model))
        if isinstance(norms := values.get("norms_of"), str):
            values["norms_of"] = model_place(norms)
        own = values.pop("tokens", None)
        tokens = place or own or self.tokens.url
        saes = [self.out / one.name if place else self.sae(one) for one in members]
        return self.file.table(
            EvaluateSettings,
            "[evaluate]",
            values,
            sae=tuple(saes),
            model=model,
            tokens=tokens,
            out=self.out / "evaluation.json",
            dask=self.suite.dask,
            storage_options=self.options([tokens]),
        )

    @property
    def release(self) -> Path:
        """The release's folder."""
        return self.out / "release"

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.out / "report.html"

    @property
    def studies(self) -> Path:
        """The folder of the studies, one folder each."""
        return self.out / "studies"

    def pages_key(self) -> str:
        """Key of release and report: of all evaluations, the suite's name and seed, and its
        `[release]` table. The report's own key adds the studies."""
        said = [self.suite.name, self.suite.seed, self.suite.release.model_dump(mode="json")]
        keys = [self.evaluation_key(member) for member in self.members]
        return key("pages", PAGES_VERSION, said, *keys)

    def options(self, urls: list[str]) -> dict[str, Any] | None:
        """The suite's storage options if one of the URLs is remote, or None."""
        remote = any(Place(url).is_remote for url in urls)
        return self.suite.storage_options if remote else None
