// A latent's page: where it fires, what it writes, what is like it, what is said of it.
"use strict";
(() => {
  const { make, number, percent, count, shown, chip, example, link } = scopeworks.dom;
  const { bars, meter } = scopeworks.charts;

  /** A cosine, a jaccard or a correlation. */
  const share = value => (Number.isFinite(value) ? value.toFixed(2).replace("-", "−") : "–");

  /** A score's figure: a number, or {value, interval, metric, controls}. */
  function scoreOf(one) {
    if (typeof one === "number") return one;
    return one?.value ?? NaN;
  }

  /** A score's controls that have a figure: [name, figure]. */
  const controlsOf = one => Object.entries(one?.controls ?? {}).map(([name, its]) => [name.replaceAll("_", " "), scoreOf(its)]).filter(([, value]) => Number.isFinite(value));

  /** How far a scorer's figure is above its best control; NaN where it has none of either. */
  function above(said, scorer) {
    const one = said?.scores?.[scorer], controls = controlsOf(one);
    return controls.length ? scoreOf(one) - Math.max(...controls.map(([, value]) => value)) : NaN;
  }

  const metricOf = one => (one?.metric ?? "").replaceAll("_", " ");

  /** An explanation's scores in a few words, for the list: without its controls none says anything. */
  function badge(said) {
    return Object.entries(said.scores ?? {}).filter(([, one]) => Number.isFinite(scoreOf(one))).map(([name, one]) => {
      const beside = controlsOf(one).map(([control, value]) => `${control} ${share(value)}`).join(", ");
      return make("span", { class: "score" }, `${[name, metricOf(one)].filter(Boolean).join(" ")} ${share(scoreOf(one))} (${beside || "no controls"})`);
    });
  }

  /** A score as one row: its figure and interval, then every control's. */
  function scoreRow(name, one) {
    const interval = one?.interval;
    const beside = controlsOf(one).map(([control, value]) => `${control} ${number(value, 2)}`);
    return make("tr", {}, make("th", { scope: "row" }, name.replaceAll("_", " "), one?.metric ? make("small", {}, ` ${metricOf(one)}`) : null),
      make("td", { class: "n" }, number(scoreOf(one), 3), interval ? make("small", {}, `${number(interval[0], 2)} to ${number(interval[1], 2)}`) : null),
      make("td", {}, beside.join(" · ") || "none"));
  }

  function explanation(said) {
    if (!said) return null;
    const scores = Object.entries(said.scores ?? {});
    return make("section", { class: "explanation", "aria-label": "Explanation" },
      make("p", { class: "lead" }, ...shown(said.text)), said.by ? make("p", { class: "quiet" }, "Explained by ", ...shown(said.by), ".") : null,
      scores.length ? make("table", {}, make("thead", {}, make("tr", {}, ...["Score", "", "Controls"].map((text, i) => make("th", { scope: "col", class: i === 1 ? "n" : undefined }, text || "value")))),
        make("tbody", {}, ...scores.map(([name, one]) => scoreRow(name, one)))) : make("p", { class: "quiet" }, "Not scored: `scopeworks latents score` says whether this holds."));
  }

  function facts(index, page) {
    const rows = [
      [percent(page.density), `of tokens: ${count(page.fired)} of ${count(index.manifest.rows)}`],
      [number(page.max), "strongest activation"],
      [number(page.mean), "mean where it fires"],
      [number(page.theta), "threshold θ"],
    ];
    return make("ul", { class: "facts" }, ...rows.map(([value, meaning]) => make("li", {}, make("b", {}, value), make("span", { class: "quiet" }, meaning))));
  }

  /** Bands of snippets; on a phone those of the weaker firings are folded. */
  function snippets(features) {
    const bands = features.examples_quantiles ?? [], wide = matchMedia("(min-width: 56rem)").matches;
    return bands.map((band, i) => {
      const list = band.examples.map(one => example(one, features.act_max));
      const title = `${band.quantile_name} (${band.examples.length})`;
      return i === 0 ? make("section", {}, make("h3", {}, title), ...list)
        : make("details", { open: wide || i === 1 }, make("summary", {}, title), ...list);
    });
  }

  function outputs(title, pairs, kind) {
    if (!pairs?.length) return null;
    const most = Math.max(...pairs.map(([, value]) => Math.abs(value)), 1e-30);
    return make("section", {}, make("h3", {}, title), make("ul", { class: "outputs" }, ...pairs.map(([text, value]) =>
      make("li", {}, chip(text), meter(Math.abs(value) / most, kind), make("span", { class: "n" }, number(value, 3))))));
  }

  function firesOn({ tokens, fired, drawn }) {
    if (!tokens?.length) return null;
    const counted = drawn < fired ? `Counted at ${count(drawn)} of its ${count(fired)} firings, drawn at random.` : "Counted at all its firings.";
    return make("section", {}, make("h3", {}, "Tokens it fires on"), make("table", { class: "tokens" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "token"), make("th", { scope: "col", class: "n" }, "of the firings"), make("th", { scope: "col", class: "n" }, "when it occurs"))),
      make("tbody", {}, ...tokens.map(([text, , mine, its]) => make("tr", {}, make("th", { scope: "row" }, chip(text)),
        make("td", { class: "n" }, percent(mine)), make("td", { class: "n" }, percent(its)))))),
    Number.isFinite(drawn) ? make("p", { class: "quiet" }, counted) : null);
  }

  /** Latents with what they fire on and figures beside them. */
  function related(index, title, rows, names, caption) {
    if (!rows?.length) return null;
    return make("section", {}, make("h3", {}, title), caption ? make("p", { class: "quiet" }, caption) : null,
      make("ul", { class: "related" }, ...rows.map(([other, ...figures]) => make("li", {}, link(other),
        make("span", { class: "chips" }, ...(index.columns.tokens[other] ?? []).slice(0, 4).map(chip)),
        make("span", { class: "n" }, ...figures.map((value, i) => make("span", { title: names[i] }, i ? make("small", {}, `${names[i]} `) : "", share(value))))))));
  }

  function others(latent, found) {
    return Object.entries(found ?? {}).filter(([, rows]) => rows.length).map(([name, rows]) =>
      make("section", {}, make("h3", {}, `Nearest in ${name}`), make("ul", { class: "related" }, ...rows.map(([other, cosine]) =>
        make("li", {}, make("a", { href: scopeworks.compare.address(name, latent, other) }, count(other)), make("span", { class: "n" }, share(cosine)))))));
  }

  function charts(index, page) {
    const { histogram, positions, logits } = page, edges = index.manifest.position_edges ?? [];
    const at = i => edges[i + 1] - 1 > edges[i] ? `${count(edges[i])}–${count(edges[i + 1] - 1)}` : count(edges[i]);
    const drawn = [];
    if (page.fired && histogram?.counts.length) drawn.push(bars("Activations", histogram.counts, { log: true,
      names: histogram.counts.map((n, i) => `${number(i * histogram.width)} to ${number((i + 1) * histogram.width)}: ${count(n)}`),
      ends: ["0", number(histogram.counts.length * histogram.width)], caption: "Firings by activation." }));
    if (page.fired && positions?.length) drawn.push(bars("Density by position", positions, {
      names: positions.map((share, i) => `position ${at(i)}: ${percent(share)}`),
      ends: [`position ${edges[0] ?? 0}`, edges.length ? count(edges.at(-1) - 1) : ""], caption: "Share of the tokens at a position at which it fires." }));
    if (logits?.counts?.length) drawn.push(bars("Effect on the logits", logits.counts, { log: true,
      names: logits.counts.map((n, i) => `around ${number(logits.low + (i + 0.5) * (logits.high - logits.low) / logits.counts.length)}: ${count(n)} tokens`),
      ends: [number(logits.low), number(logits.high)], caption: "Output tokens by what one unit of it adds to their logit, the final norm's scale left out." }));
    return make("div", { class: "charts" }, ...drawn);
  }

  function steps(index, latent) {
    const step = (to, name, sign) => to >= 0 && to < index.width
      ? link(to, { rel: name === "Next" ? "next" : "prev", "aria-label": `${name} latent, ${to}` }, sign) : make("span", { class: "quiet", "aria-hidden": "true" }, sign);
    const play = scopeworks.server.playground ? make("a", { href: `#/playground?latent=${latent}` }, "Try it") : null;
    return make("nav", { class: "steps", "aria-label": "Latents" }, step(latent - 1, "Previous", "← previous"), step(latent + 1, "Next", "next →"),
      make("a", { href: `#/map?latent=${latent}` }, "On the map"), play);
  }

  /** What can be said without the records: a wide SAE's page opened from disk. */
  function withoutRecords(index) {
    return make("aside", { class: "warnings" }, make("p", {}, make("b", {}, "Its page needs a server. ")),
      make("p", {}, `A browser reads no records from disk, and scripts of ${count(index.width)} latents would be too many. This command shows them:`),
      make("pre", {}, `scopeworks latents serve ${scopeworks.data.folder.includes(" ") ? `"${scopeworks.data.folder}"` : scopeworks.data.folder}`));
  }

  function body(index, latent, { features, page }) {
    const masked = Object.entries(index.manifest.masked ?? {}).filter(([, n]) => n).map(([kind, n]) => `${count(n)} ${kind}`).join(", ");
    const side = [page.raised?.length ? null : make("p", { class: "quiet" }, `Output tokens are not listed: ${index.manifest.logit_path || "no way to the logits is known"}.`),
      outputs("Raises", page.raised, "raises"), outputs("Lowers", page.lowered, "lowers"),
      masked && page.raised?.length ? make("p", { class: "quiet" }, `Never listed: ${masked} tokens.`) : null, firesOn(page), charts(index, page)];
    return [facts(index, page), make("div", { class: "columns" },
      make("div", { class: "wide" }, ...(page.fired ? snippets(features) : [make("p", {}, `It never fires in the ${count(index.manifest.rows)} tokens that were read.`)])),
      make("div", { class: "narrow" }, ...side)),
    make("div", { class: "neighbours" },
      related(index, "Nearest decoder rows", page.neighbours, ["cosine"], "Cosine of the directions they write."),
      related(index, "Nearest encoder columns", page.encoder_neighbours, ["cosine"], "Cosine of the directions they read."),
      related(index, "Fires together with", page.together, ["jaccard", "r"], `Rows in which both fire over rows in which either does; Pearson's r. Counted in ${count(index.manifest.together_rows)} of the ${count(index.manifest.rows)} rows read.`),
      ...others(latent, page.others))];
  }

  /** The view. */
  function show(index, latent) {
    const element = make("article", { class: "latent" }, make("div", { class: "head" }, make("h1", { tabindex: "-1" }, `Latent ${count(latent)}`), steps(index, latent)));
    const place = make("div", { class: "body", "aria-busy": "true" }, make("p", { class: "quiet" }, "Reading …"));
    element.append(place);
    const put = nodes => {
      place.removeAttribute("aria-busy");
      place.replaceChildren(...[explanation(index.explanations[latent]), ...nodes].filter(Boolean));
    };
    const draw = records => put(body(index, latent, records));
    if (!index.pagesCanBeRead) { index.said.then(() => put([withoutRecords(index)])); return element; }
    const read = Promise.all([index.record(latent), index.said]).then(([records]) => records);
    read.then(draw).catch(error => place.replaceChildren(make("p", { class: "error", role: "alert" }, `The record cannot be read: ${error.message}`)));
    if (!index.complete) {  // neighbours' tokens come with the columns
      const again = () => {
        if (element.isConnected && !index.complete) return;
        index.listeners.delete(again);
        if (element.isConnected) read.then(draw, () => {});
      };
      index.listeners.add(again);
    }
    return element;
  }

  /** A short form of a latent, for two to be compared. */
  async function card(index, latent, heading) {
    const title = make("h3", {}, heading ?? `Latent ${count(latent)}`);
    if (!index.pagesCanBeRead) return make("section", { class: "card" }, title, withoutRecords(index));
    const { features, page } = await index.record(latent);
    const best = (features.examples_quantiles[0]?.examples ?? []).slice(0, 4);
    return make("section", { class: "card" }, title,
      make("p", { class: "quiet" }, `fires on ${percent(page.density)} of tokens, strongest ${number(page.max)}`),
      index.explanations[latent] ? make("p", {}, ...shown(index.explanations[latent].text)) : null,
      make("p", { class: "chips" }, make("span", { class: "quiet" }, "fires on "), ...page.tokens.slice(0, 6).map(([text]) => chip(text))),
      make("p", { class: "chips" }, make("span", { class: "quiet" }, "raises "), ...page.raised.slice(0, 6).map(([text]) => chip(text))),
      ...best.map(one => example(one, features.act_max)));
  }

  scopeworks.latent = { show, card, badge, above, metricOf, share };
})();
