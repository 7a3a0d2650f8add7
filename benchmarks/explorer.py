"""How long a reader of the explorer's page waits, by width of the index, in headless Chromium.

    python benchmarks/explorer.py --latents 16384 --latents 131072

Makes an index of invented latents (with as many texts, of the usual lengths, as a real one), serves
it on 127.0.0.1, opens it, and appends a row to results/explorer.csv: seconds from the request to
the page's first row and until all columns are read; milliseconds of searches, of a latent's page
and of the map; JavaScript's memory. A search is timed from the key press to the new rows in the
document. `cpu` is the processor time of the page's main thread, which other processes hardly
change.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import uvicorn
from recording import record, surroundings

from scopeworks.evaluate.latents.contents import Directions, Examples, Firings, Nearest
from scopeworks.evaluate.latents.explorer.folders import served_indexes
from scopeworks.evaluate.latents.explorer.listening import address, listen
from scopeworks.evaluate.latents.explorer.serving import application
from scopeworks.evaluate.latents.files.folder import write_index
from scopeworks.evaluate.latents.files.manifest import Manifest, SAEFacts, StoreFacts, TokensFacts
from scopeworks.tests.evaluate.page.browser import Browser

VOCABULARY, ROWS, WINDOW, TOP, BANDS, BINS = 50_000, 1_000_000, 24, 10, 5, 32
QUERIES = ("ing", "the", "qu", "zzzz", "ab cd", '" se"')
LETTERS = "eeeettttaaaooiinnsshhrrddlucmfwgypbvkxjqz"


def texts(seed: int = 0) -> list[str]:
    """A vocabulary: words of two to eight letters, most with a space in front."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(2, 9, VOCABULARY)
    letters = iter(draw.choice(list(LETTERS), int(lengths.sum())).tolist())
    spaces = draw.random(VOCABULARY) < 0.7
    return [
        " " * int(s) + "".join(next(letters) for _ in range(n))
        for s, n in zip(spaces, lengths.tolist(), strict=True)
    ]


def firings(d_sae: int) -> Firings:
    """Latents with densities over three decades, each with TOP strong snippets and one per band."""
    draw = np.random.default_rng(1)
    fired = (10 ** draw.uniform(1, 4, d_sae)).astype(np.int64)
    each = TOP + BANDS
    n = d_sae * each
    value = draw.gamma(2.0, 2.0, (d_sae, each)).astype(np.float32)
    at = draw.integers(8, 16, n)
    f = np.zeros((n, WINDOW), np.float32)
    f[np.arange(n), at] = value.ravel()
    band = np.tile(np.r_[np.zeros(TOP, np.int64), np.arange(1, BANDS + 1)], d_sae)
    tokens = np.sort(draw.zipf(1.3, (d_sae, 10)) % VOCABULARY, axis=1).ravel()
    partner = draw.integers(0, d_sae, (d_sae, 8))
    return Firings(
        rows=ROWS, fired=fired, total=fired * 3.0, squares=fired * 12.0,
        smallest=np.full(d_sae, 0.1), largest=value.max(1).astype(np.float64),
        bin_width=np.full(d_sae, 0.25), histogram=draw.integers(1, 99, (d_sae, 40)),
        position_edges=np.arange(17) * 64, position_rows=np.full(16, ROWS // 16),
        by_position=draw.integers(0, 99, (d_sae, 16)), drawn=np.full(d_sae, 256),
        token_latent=np.repeat(np.arange(d_sae), 10), token=tokens,
        token_count=np.full(d_sae * 10, 9), token_rows=np.full(d_sae * 10, 99),
        together_rows=ROWS, partner=partner, jaccard=draw.random((d_sae, 8), np.float32),
        correlation=draw.random((d_sae, 8), np.float32),
        examples=Examples(
            latent=np.repeat(np.arange(d_sae), each), band=band, sequence=np.arange(n),
            position=at + 5, start=np.full(n, 5), value=value.ravel(),
            tokens=draw.integers(0, VOCABULARY, (n, WINDOW), np.int32), f=f,
        ),
    )  # fmt: skip


def directions(d_sae: int) -> Directions:
    """Random neighbours, logits and places on the map."""
    draw = np.random.default_rng(2)
    near = Nearest(draw.integers(0, d_sae, (d_sae, 8)), draw.random((d_sae, 8), np.float32))
    by = draw.random((d_sae, 10), np.float32)
    return Directions(
        raised=draw.integers(0, VOCABULARY, (d_sae, 10)), raised_by=by,
        lowered=draw.integers(0, VOCABULARY, (d_sae, 10)), lowered_by=-by,
        logit_edges=np.tile(np.linspace(-1, 1, BINS + 1), (d_sae, 1)),
        logit_histogram=draw.integers(0, 5000, (d_sae, BINS)), masked={"special": 5},
        decoder=near, encoder=None, map=draw.normal(0.5, 0.15, (d_sae, 2)).clip(0, 1),
        path="made up",
    )  # fmt: skip


def write(out: Path, d_sae: int) -> None:
    """Writes the index."""
    words = texts()

    def decode(ids: Sequence[int]) -> list[str]:
        return [words[i] for i in ids]

    facts = SAEFacts(
        name=f"made-up-{d_sae}", site="resid_post.12", d_in=2304, d_out=2304, d_sae=d_sae,
        fingerprint="0" * 16,
    )  # fmt: skip
    manifest = Manifest(
        sae=facts, model="made up", tokenizer="f" * 16,
        store=StoreFacts(key="k", site="resid_post.12", rows=ROWS),
        tokens=TokensFacts(fingerprint="t", split="train", context=1024), settings={},
    )  # fmt: skip
    write_index(out, manifest, firings(d_sae), directions(d_sae), decode, np.full(d_sae, 0.1))


def until(browser: Browser, script: str) -> float:
    """Waits for a condition; returns the time when it held."""
    end = time.perf_counter() + 300
    while not browser.run(script):
        if time.perf_counter() > end:
            raise TimeoutError(script)
        time.sleep(0.005)
    return time.perf_counter()


SEARCH = """
new Promise(done => {{
  const q = document.getElementById("q"), status = document.querySelector(".status");
  const began = performance.now();
  new MutationObserver((_, me) => {{ me.disconnect(); done(performance.now() - began); }})
    .observe(document.querySelector(".rows"), {{ childList: true }});
  q.value = {query!r};
  q.dispatchEvent(new Event("input"));
}})
"""


def waited(browser: Browser, script: str) -> float:
    """Waits for a promise of the page; returns its value."""
    got = browser.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
    return float(got["result"]["value"])


def busy(browser: Browser) -> float:
    """Processor seconds of the page's main thread so far."""
    metrics = browser.send("Performance.getMetrics")["metrics"]
    return next(one["value"] for one in metrics if one["name"] == "TaskDuration")


def measured(url: str, repeats: int) -> dict[str, float]:
    """The measured times of one index."""
    rows = "document.querySelectorAll('.rows .row').length === 50"
    first, whole, found, cpu = [], [], {}, []
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
        browser.resize(1280)
        browser.send("Network.setCacheDisabled", cacheDisabled=True)
        browser.send("Performance.enable", timeDomain="threadTicks")
        for _ in range(repeats):
            # Another page of the same process; the process's clock is not reset.
            browser.send("Page.navigate", url=f"{url}served.js")
            until(browser, "document.readyState === 'complete'")
            began, spent = time.perf_counter(), busy(browser)
            browser.send("Page.navigate", url=url)
            first.append(until(browser, rows) - began)
            done = "!document.querySelector('.status').textContent.includes('So far')"
            whole.append(until(browser, done) - began)
            cpu.append(busy(browser) - spent)
        time.sleep(1)
        spent = busy(browser)
        for query in QUERIES:
            found[query] = [waited(browser, SEARCH.format(query=query)) for _ in range(repeats)]
        times = [value for each in found.values() for value in each]
        spent = (busy(browser) - spent) / len(times)
        browser.run("location.hash = '#/latent/4242'")
        began = time.perf_counter()
        opened = until(browser, "!!document.querySelector('.latent .snippet')") - began
        browser.run("location.hash = '#/map'")
        until(browser, "!!document.querySelector('.map-view')?.shown?.placed")
        drawn = browser.run(
            "(() => { const m = document.querySelector('.map-view').shown, a = performance.now();"
            " m.draw(); return performance.now() - a; })()"
        )
        heap = browser.send("Runtime.getHeapUsage")["usedSize"]
    return {
        "first_rows_s": statistics.median(first), "all_columns_s": statistics.median(whole),
        "all_columns_cpu_s": statistics.median(cpu), "search_median_ms": statistics.median(times),
        "search_worst_ms": max(times), "search_cpu_ms": 1000 * spent,
        "latent_ms": 1000 * opened, "map_draw_ms": drawn, "heap_mb": heap / 1e6,
    }  # fmt: skip


def main() -> None:
    """Makes, serves and measures each width."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--latents", type=int, action="append", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="keep indexes, take them again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for d_sae in given.latents or [16384, 131072]:
            folder = (given.folder or Path(place)) / f"made-up-{d_sae}"
            if not (folder / "index.json").is_file():
                write(folder, d_sae)
            with listen("127.0.0.1", 0) as opened:
                config = uvicorn.Config(
                    application(served_indexes([folder])), log_level="error", lifespan="off"
                )
                server = uvicorn.Server(config)
                thread = threading.Thread(target=server.run, args=([opened],))
                thread.start()
                url = f"{address('127.0.0.1', opened)}{folder.name}/"
                try:
                    found = measured(url, given.repeats)
                finally:
                    server.should_exit = True
                    thread.join()
            searched = sum(path.stat().st_size for path in (folder / "data/search").iterdir())
            row = {"latents": d_sae, "search_files_mb": round(searched / 1e6, 1)}
            row |= {name: float(f"{value:.3g}") for name, value in found.items()}
            print(row)
            record("explorer", row | surroundings("cpu", ("starlette", "uvicorn")))


if __name__ == "__main__":
    main()
