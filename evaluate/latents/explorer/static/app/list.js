// The list of latents: searched, filtered, sorted, a page of rows at a time.
// Its state is in the address, so that a search can be linked to and gone back to.
"use strict";
(() => {
  const { make, number, percent, count, legible, shown, chip, example, snippet, link } = scopeworks.dom;
  const { density: densityBar } = scopeworks.charts;
  const ROWS = 50;
  const FIELDS = { explanation: 8, tokens: 4, raised: 2, context: 1 };
  const EXACT = 16;
  const known = new WeakMap();
  const ABOVE = ["0", "0.1", "0.2", "0.3", "0.5"];
  const SORTS = { index: "number", density: "density", max: "strongest activation", score: "score above its best control", match: "best match" };
  const DENSITIES = [["", "any"], ["dead", "never fires"], ["0-1e-4", "under 0.01%"], ["1e-4-1e-3", "0.01% to 0.1%"], ["1e-3-1e-2", "0.1% to 1%"], ["1e-2-0.1", "1% to 10%"], ["0.1-1", "over 10%"]];

  /** Words that must all occur; what stands in quotes is one. */
  function words(query) {
    return [...query.toLowerCase().matchAll(/"([^"]+)"?|\S+/g)].map(found => found[1] ?? found[0]);
  }

  /** Marks in `marks` the latents of a part in which the word occurs. */
  function markMatches(hay, word, bit, marks, from) {
    const { text, starts } = hay;
    let i = 0;
    for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, starts[i + 1])) {
      // The last latent that begins at or before `at`: by steps that double, then by halves.
      let step = 1;
      while (i + step < starts.length - 1 && starts[i + step] <= at) { i += step; step *= 2; }
      for (; step >= 1; step = Math.floor(step / 2)) if (i + step < starts.length - 1 && starts[i + step] <= at) i += step;
      marks[from + i] |= bit;
      if (i + 1 >= starts.length - 1) break;
    }
  }

  /** How well each latent matches a query; 0 where it does not. */
  function matches(index, query, field) {
    const marks = new Uint8Array(index.width), all = words(query);
    const said = Object.keys(index.explanations).length > 0;
    const fields = Object.hasOwn(FIELDS, field ?? "") ? [field] : Object.keys(FIELDS).filter(name => said || name !== "explanation");
    all.forEach((word, n) => {
      const found = n ? new Uint8Array(index.width) : marks;
      for (let k = 0; k < index.parts; k++) {
        const from = k * scopeworks.data.PART;
        for (const name of fields) markMatches(index.haystack(name, k), word, FIELDS[name], found, from);
        if (!fields.includes("tokens")) continue;
        for (const same of [`\u0001${word}\u0001`, `\u0001 ${word}\u0001`]) markMatches(index.haystack("tokens", k), same, EXACT, found, from);
      }
      if (n) for (let i = 0; i < marks.length; i++) marks[i] = marks[i] && found[i] ? marks[i] | found[i] : 0;
    });
    return marks;
  }

  /** Scorer -> its metric, of those with controls. Figures of two metrics cannot be compared, so
      one scorer is filtered and sorted by. */
  function scorers(index) {
    if (known.has(index.explanations)) return known.get(index.explanations);
    const found = new Map();
    for (const said of Object.values(index.explanations))
      for (const [name, one] of Object.entries(said.scores ?? {}))
        if (!found.has(name) && Number.isFinite(scopeworks.latent.above(said, name))) found.set(name, scopeworks.latent.metricOf(one));
    known.set(index.explanations, new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1))));
    return known.get(index.explanations);
  }

  /** How far a latent's score is above its best control; below all others where that is unknown. */
  function score(index, latent, scorer) {
    const value = scopeworks.latent.above(index.explanations[latent], scorer);
    return Number.isFinite(value) ? value : -Infinity;
  }

  const scorerOf = (index, state) => (scorers(index).has(state.by) ? state.by : scorers(index).keys().next().value);

  /** Numbers of the latents that are shown, in order. */
  function chosen(index, state) {
    const seen = Math.min(index.width, index.parts * scopeworks.data.PART);
    const marks = state.q ? matches(index, state.q, state.in) : null;
    const bounds = densityBounds(state.density);
    const least = state.score ? Number(state.score) : null;
    const scorer = scorerOf(index, state);
    const found = new Uint32Array(seen);
    let n = 0;
    for (let i = 0; i < seen; i++) {
      if (marks && !marks[i]) continue;
      const density = index.density(i);
      if (bounds && !(density >= bounds[0] && density < bounds[1])) continue;
      if (least !== null && score(index, i, scorer) <= least) continue;
      found[n++] = i;
    }
    return ordered(index, found.subarray(0, n), state, marks, scorer);
  }

  function densityBounds(text) {
    if (!text) return null;
    if (text === "dead") return [0, Number.MIN_VALUE];
    const [low, high] = (text.match(/^([\d.]+(?:e-\d+)?)-([\d.]+(?:e-\d+)?)$/) ?? []).slice(1).map(Number);
    return Number.isFinite(low) && Number.isFinite(high) ? [Math.max(low, Number.MIN_VALUE), high === 1 ? 1.01 : high] : null;
  }

  function ordered(index, found, state, marks, scorer) {
    const sort = sortOf(state), sign = state.up ? 1 : -1;
    if (sort === "index") return state.down ? found.reverse() : found;
    if (sort === "match") return found.sort((a, b) => marks[b] - marks[a] || index.fired[b] - index.fired[a] || a - b);
    const key = sort === "density" ? index.fired : sort === "max" ? index.max : Float64Array.from({ length: index.width }, (_, i) => score(index, i, scorer));
    return found.sort((a, b) => sign * (key[a] - key[b]) || a - b);
  }

  const sortOf = state => (Object.hasOwn(SORTS, state.sort ?? "") && (state.sort !== "match" || state.q) ? state.sort : state.q ? "match" : "index");

  /** The view. Kept over changes of its state, so that the search box keeps its cursor. */
  class List {
    constructor(index) {
      this.index = index;
      this.state = {};
      this.observer = new IntersectionObserver(seen => this.fill(seen), { rootMargin: "200px" });
      this.build();
      index.listeners.add(() => this.element.isConnected && this.refresh());
    }

    build() {
      const changed = () => this.change();
      this.query = make("input", { type: "search", id: "q", placeholder: "token, text or explanation", autocomplete: "off", spellcheck: "false", on: { input: () => this.typed() } });
      this.field = this.select({ "": "everything", tokens: "tokens it fires on", raised: "tokens it raises", context: "snippets", explanation: "explanations" }, changed);
      this.density = this.select(Object.fromEntries(DENSITIES), changed, DENSITIES.map(([key]) => key));
      this.score = this.select({ "": "any", ...Object.fromEntries(ABOVE.map(least => [least, `by over ${least}`])) }, changed, ["", ...ABOVE]);
      const found = scorers(this.index);
      this.by = this.select(Object.fromEntries([...found].map(([name, metric]) => [name, legible(metric ? `${name}, ${metric}` : name)])), changed, [...found.keys()]);
      this.byLabel = this.labelled("Scorer", this.by);
      this.sort = this.select(SORTS, () => this.change({ turned: false, sort: this.sort.value }));
      this.turn = make("button", { type: "button", class: "turn", on: { click: () => this.change({ turned: true }) } }, "↓");
      this.scoreLabel = this.labelled("Above its best control", this.score);
      const form = make("form", { class: "filters", role: "search", on: { submit: event => { event.preventDefault(); this.openFirst(); } } },
        make("label", { class: "query", for: "q" }, make("span", {}, "Search"), this.query),
        this.labelled("in", this.field), this.labelled("Density", this.density), this.byLabel, this.scoreLabel,
        make("div", { class: "sort" }, this.labelled("Sort by", this.sort), this.turn));
      this.status = make("p", { class: "quiet status", role: "status" });
      this.rows = make("ol", { class: "rows" });
      this.pager = make("nav", { class: "pager", "aria-label": "Pages of the list" });
      this.element = make("div", { class: "list" }, make("h1", { class: "hidden" }, "Latents"), form, this.status, this.rows, this.pager);
    }

    select(options, changed, order = Object.keys(options)) {
      return make("select", { on: { change: changed } }, ...order.map(value => make("option", { value }, options[value])));
    }

    labelled(text, control) { return make("label", {}, make("span", {}, text), control); }

    /** Typing replaces the address: one step back leaves the search, not its last letter. Where a
        search takes long, it waits for the next letter. */
    typed() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.change({ typed: true }), Math.min(150, this.took ?? 0));
    }

    change({ typed = false, turned = null, page = 0, sort = this.state.sort } = {}) {
      const state = { q: this.query.value.trim(), in: this.field.value, density: this.density.value, score: this.score.value };
      if (this.by.selectedIndex > 0) state.by = this.by.value;
      if (sort !== (state.q ? "match" : "index")) state.sort = sort;
      const by = sortOf(state);
      const turn = turned === true ? !(this.state.up || this.state.down) : turned === null && (this.state.up || this.state.down);
      if (turn && by !== "match") state[by === "index" ? "down" : "up"] = "1";
      if (page) state.page = String(page);
      const query = new URLSearchParams(Object.entries(state).filter(([, value]) => value)).toString();
      const hash = `#/search${query ? `?${query}` : ""}`;
      if (typed) { history.replaceState(history.state, "", hash); this.show(Object.fromEntries(new URLSearchParams(query))); }
      else location.hash = hash;
    }

    show(state) {
      this.state = state;
      const same = document.activeElement === this.query && this.query.value.trim() === (state.q ?? "");
      if (!same) this.query.value = state.q ?? "";
      this.field.value = state.in ?? "";
      this.density.value = state.density ?? "";
      this.score.value = state.score ?? "";
      this.by.value = scorerOf(this.index, state) ?? "";
      this.sort.querySelector("[value=match]").hidden = !state.q;
      this.sort.value = sortOf(state);
      this.refresh();
      return this.element;
    }

    refresh() {
      const { index, state } = this;
      const scored = this.by.options.length > 0;
      this.byLabel.hidden = this.scoreLabel.hidden = this.sort.querySelector("[value=score]").hidden = !scored;
      const began = performance.now();
      const found = chosen(index, state);
      this.took = performance.now() - began;
      const pages = Math.max(1, Math.ceil(found.length / ROWS));
      const page = Math.min(pages - 1, Math.max(0, Math.floor(Number(state.page)) || 0));
      const falls = sortOf(state) === "index" ? Boolean(state.down) : !state.up;
      this.turn.textContent = falls ? "↓" : "↑";
      this.turn.setAttribute("aria-label", falls ? "falling; press for rising" : "rising; press for falling");
      this.turn.disabled = sortOf(state) === "match";
      this.say(found.length);
      this.draw(found.subarray(page * ROWS, (page + 1) * ROWS));
      this.page(page, pages, found.length);
    }

    say(n) {
      const { index, state } = this;
      const alive = index.manifest.n_alive;
      const whole = index.complete ? "" : ` So far ${count(Math.min(index.width, index.parts * scopeworks.data.PART))} of ${count(index.width)} latents are read …`;
      const all = state.q || state.density || state.score ? `${count(n)} of ${count(index.width)} latents` : `${count(index.width)} latents, ${count(alive)} of which fire in the ${count(index.manifest.rows)} tokens read`;
      this.status.textContent = index.failed ? `${all}. The others cannot be read: ${index.failed}.` : `${all}.${whole}`;
      this.status.classList.toggle("error", Boolean(index.failed));
    }

    draw(latents) {
      const kept = new Map([...this.rows.children].map(row => [row.dataset.latent, row]));
      const rows = [...latents].map(i => {
        return kept.get(String(i)) ?? this.row(i);
      });
      this.observer.disconnect();
      this.rows.replaceChildren(...rows);
      if (!rows.length && this.index.parts) this.rows.append(make("li", { class: "none quiet" }, "No latent is like that. Fewer words or a wider range find more."));
      for (const row of rows) if (!row.dataset.filled) this.observer.observe(row);
    }

    row(i) {
      const { index } = this;
      const [tokens, contexts, said] = [index.columns.tokens[i] ?? [], index.columns.context[i] ?? [], index.explanations[i]];
      const fires = index.fired[i] > 0;
      const words = contexts.length ? snippet([scopeworks.data.plain(contexts[0])], [0], 1, { flat: true }) : make("div", { class: "snippet flat quiet" }, fires ? "" : "never fires in these tokens");
      return make("li", { class: fires ? "row" : "row dead", "data-latent": i },
        make("h2", {}, link(i, { "aria-label": `Latent ${i}${tokens[0] ? `, fires on ${legible(JSON.stringify(tokens[0]))}` : ""}` })),
        make("div", { class: "amount" }, densityBar(index.density(i)),
          make("span", {}, percent(index.density(i)), make("span", { class: "hidden" }, " of tokens")),
          make("span", { class: "quiet" }, fires ? `max ${number(index.max[i])}` : "")),
        make("div", { class: "chips" }, ...tokens.map(chip)),
        make("div", { class: "says" }, words, said ? make("p", { class: "explained" }, ...shown(said.text), " ", ...scopeworks.latent.badge(said)) : null));
    }

    /** Rows that come into sight get their strongest snippet with its shade; its place is there. */
    fill(seen) {
      for (const { isIntersecting, target } of seen) {
        if (!isIntersecting || target.dataset.filled) continue;
        this.observer.unobserve(target);
        const latent = Number(target.dataset.latent);
        if (!this.index.fired[latent] || !this.index.pagesCanBeRead) continue;
        target.dataset.filled = "1";
        this.index.record(latent).then(({ features }) => {
          const best = features.examples_quantiles[0]?.examples[0];
          if (best) target.querySelector(".snippet").replaceWith(example(best, features.act_max, { flat: true }));
        }, () => { delete target.dataset.filled; });
      }
    }

    page(page, pages, n) {
      const go = to => () => { this.change({ page: to }); window.scrollTo(0, 0); };
      const button = (name, to, off) => make("button", { type: "button", disabled: off, on: { click: go(to) } }, name);
      this.pager.replaceChildren(...(pages < 2 ? [] : [
        button("First", 0, page === 0), button("Previous", page - 1, page === 0),
        make("span", { class: "quiet" }, `${count(page * ROWS + 1)}–${count(Math.min(n, (page + 1) * ROWS))} of ${count(n)}`),
        button("Next", page + 1, page === pages - 1), button("Last", pages - 1, page === pages - 1)]));
    }

    openFirst() { this.rows.querySelector("a")?.click(); }

    /** j and k: the next and the previous row. */
    step(by) {
      const links = [...this.rows.querySelectorAll("h2 a")];
      const at = links.indexOf(document.activeElement);
      links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
    }
  }

  scopeworks.list = { List, matches, chosen };
})();
