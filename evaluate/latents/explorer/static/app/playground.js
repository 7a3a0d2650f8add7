// The playground: which latents fire at each token of a text, and what the model writes once some
// of them are switched off or steered with. The server computes; without one this page says how.
"use strict";
(() => {
  const { make, number, percent, count, chip, shown, snippet, link } = scopeworks.dom;
  const { meter } = scopeworks.charts;
  const EXAMPLE = "The old man walked to the river. He";
  const KINDS = { off: "switch off", add: "add", set: "set to" };

  async function ask(name, body) {
    const answer = await fetch(`api/${name}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const said = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
    if (!answer.ok) throw new Error(said.error ?? `the server answers ${answer.status}`);
    return said;
  }

  /** The view, kept while others are looked at: what was typed stays. */
  class Playground {
    constructor(index) {
      Object.assign(this, { index, edits: [], at: null, found: null, latent: null });
      this.text = make("textarea", { id: "text", rows: 3, maxlength: 4000, spellcheck: "false" });
      this.text.value = EXAMPLE;
      this.text.addEventListener("keydown", event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.read(); });
      this.error = make("p", { class: "error", role: "alert", hidden: true });
      this.tokens = make("div", { class: "snippet play", role: "group", "aria-label": "Tokens; choose one to see its latents" });
      this.firing = make("div", { class: "firing" });
      this.changes = make("div", { class: "changes" });
      this.result = make("div", { class: "result", "aria-live": "polite" });
      this.build();
    }

    build() {
      const field = (name, value, given) => make("input", { name, type: "number", value, ...given });
      this.amount = field("n_tokens", 20, { min: 1, max: 100 });
      this.temperature = field("temperature", 0, { min: 0, max: 5, step: "any" });
      this.seed = field("seed", 0, { min: 0, max: 4294967295 });
      this.go = make("button", { class: "main" }, "Continue with and without");
      this.reading = make("button", { class: "main" }, "Which latents fire?");
      const label = (text, control) => make("label", {}, make("span", {}, text), control);
      this.element = make("div", { class: "playground" }, make("h1", { tabindex: "-1" }, "Playground"),
        make("form", { class: "ask", on: { submit: event => { event.preventDefault(); this.read(); } } }, make("label", { for: "text" }, "Text"), this.text, this.reading),
        this.error, this.tokens, make("div", { class: "halves" }, this.firing, make("div", {}, make("h2", {}, "Changes"), this.changes,
        make("form", { class: "filters", on: { submit: event => { event.preventDefault(); this.run(); } } },
          label("New tokens", this.amount), label("Temperature", this.temperature), label("Seed", this.seed), this.go), this.result)));
      this.drawChanges();
    }

    show(state) {
      if (/^\d+$/.test(state.latent ?? "") && Number(state.latent) < this.index.width) {
        this.latent = Number(state.latent);
        if (!this.edits.some(edit => edit.latent === this.latent)) this.whenKnown(this.latent, () => this.change(this.latent, "add"));
      }
      if (!this.found || (this.found.latent ?? null) !== this.latent) this.read();
      return this.element;
    }

    /** Once the latent's columns are read: its largest activation is what is added at first. */
    whenKnown(latent, act) {
      if (this.index.has(latent)) { act(); return; }
      const heard = () => { if (this.index.has(latent)) { this.index.listeners.delete(heard); act(); } };
      this.index.listeners.add(heard);
    }

    /** Runs one request, its button waiting; an error is shown, what was there stays. */
    async wait(button, work) {
      if (button.disabled) return;
      button.disabled = true;
      this.error.hidden = true;
      try { await work(); } catch (error) {
        this.error.textContent = error.message;
        this.error.hidden = false;
      } finally { button.disabled = false; }
    }

    read() {
      return this.wait(this.reading, async () => {
        const asked = { text: this.text.value, ...(this.latent === null ? {} : { latent: this.latent }) };
        this.found = { ...await ask("tokens", asked), latent: this.latent };
        if (this.at === null || this.at >= this.found.tokens.length) this.at = this.found.tokens.length - 1;
        this.drawTokens();
      });
    }

    drawTokens() {
      const { found } = this, values = found.values ?? [], most = Math.max(...values, 1e-9);
      const scale = this.latent !== null && this.index.has(this.latent) ? Math.max(most, this.index.max[this.latent]) : most;
      const drawn = snippet(found.tokens, values, scale, { flat: true });
      const buttons = [...drawn.childNodes].map((node, i) => make("button", {
        type: "button", class: i === this.at ? "token chosen" : "token", "aria-pressed": String(i === this.at),
        title: `position ${i}, ${count(found.active[i])} latents fire${values[i] > 0 ? `; this one ${number(values[i], 4)}` : ""}`,
        on: { click: () => { this.at = i; this.drawTokens(); } } }, node));
      this.tokens.replaceChildren(...buttons);
      this.drawFiring();
    }

    drawFiring() {
      const { found, at, index } = this, rows = found.top[at] ?? [], most = rows[0]?.[1] ?? 1;
      const shading = this.latent === null ? "Choose a latent to shade the text by it." : make("span", {}, "The text is shaded by latent ", link(this.latent), ".");
      this.firing.replaceChildren(make("h2", {}, "At ", chip(found.tokens[at] ?? ""), ` (position ${at})`),
        make("p", { class: "quiet" }, `${count(found.active[at] ?? 0)} latents fire here${found.special[at] ? "; a special token, which SAEs are not trained on" : ""}. `, shading),
        make("ul", { class: "related" }, ...rows.map(([latent, value]) => make("li", { class: latent === this.latent ? "chosen" : undefined }, link(latent),
          make("span", { class: "says" }, make("span", { class: "chips" }, ...(index.columns.tokens[latent] ?? []).slice(0, 4).map(chip)), make("small", {}, ...shown(index.explanations[latent]?.text ?? ""))),
          make("span", { class: "n" }, meter(value / most), number(value)),
          make("span", { class: "acts" }, this.button("shade", latent, () => { this.latent = latent; this.read(); }),
            this.button("off", latent, () => this.change(latent, "off")), this.button("steer", latent, () => this.change(latent, "add")))))));
    }

    button(name, latent, act) { return make("button", { type: "button", "aria-label": `${name} latent ${latent}`, on: { click: act } }, name); }

    change(latent, kind) {
      const value = this.index.has(latent) && this.index.max[latent] > 0 ? Number(this.index.max[latent].toPrecision(2)) : 1;
      this.edits = [...this.edits.filter(edit => edit.latent !== latent), { latent, kind, value, start: 1 }];
      this.drawChanges();
    }

    drawChanges() {
      const number_ = (edit, key, given) => make("input", { type: "number", value: edit[key], ...given, on: { change: event => { edit[key] = Number(event.target.value); } } });
      const row = edit => {
        const value = number_(edit, "value", { step: "any", "aria-label": "value", disabled: edit.kind === "off" });
        const kind = make("select", { "aria-label": "what is changed", on: { change: event => { edit.kind = event.target.value; value.disabled = edit.kind === "off"; } } },
          ...Object.entries(KINDS).map(([key, text]) => make("option", { value: key, selected: key === edit.kind }, text)));
        const remove = () => { this.edits = this.edits.filter(one => one !== edit); this.drawChanges(); };
        return make("li", {}, link(edit.latent), kind, value, make("label", {}, "from position ", number_(edit, "start", { min: 0, max: 511 })), make("button", { type: "button", "aria-label": `remove the change of latent ${edit.latent}`, on: { click: remove } }, "✕"));
      };
      this.changes.replaceChildren(this.edits.length ? make("ul", { class: "edits" }, ...this.edits.map(row))
        : make("p", { class: "quiet" }, "None yet: switch a latent off or steer with one, above or on its page."),
      make("p", { class: "quiet" }, "Only that latent's part of the activation changes, x + (new − old) · its decoder row; what the SAE does not explain stays. Position 0 is the text's first token, usually ", make("code", {}, "<bos>"), "."));
    }

    run() {
      return this.wait(this.go, async () => {
        const edits = this.edits.map(({ latent, kind, value, start }) => ({ latent, kind, value: kind === "off" ? 0 : value, start }));
        const body = { text: this.text.value, edits, n_tokens: Number(this.amount.value), temperature: Number(this.temperature.value), seed: Number(this.seed.value) };
        this.drawResult(body.text, await ask("continue", body));
      });
    }

    drawResult(text, { before, after, next }) {
      const side = (title, tokens) => make("section", { class: "card" }, make("h3", {}, title), make("div", { class: "snippet" }, make("span", { class: "quiet" }, ...shown(text)), ...tokens.flatMap(shown)));
      const parts = next.map(one => make("tr", {}, make("th", { scope: "row" }, chip(one.text)), make("td", {}, meter(one.before), make("span", {}, percent(one.before))), make("td", {}, meter(one.after, "raises"), make("span", {}, percent(one.after)))));
      this.result.replaceChildren(make("div", { class: "sides" }, side("Unchanged", before), side("Changed", after)),
        make("section", {}, make("h3", {}, "The next token"), make("table", { class: "next" }, make("thead", {}, make("tr", {}, ...["token", "unchanged", "changed"].map(text => make("th", { scope: "col" }, text)))), make("tbody", {}, ...parts))));
    }
  }

  /** What stands here where no model is served. */
  function absent() {
    return make("div", {}, make("h1", { tabindex: "-1" }, "Playground"), make("p", {}, "Type a text, see which latents fire at each token, switch one off or steer with it. This needs the model:"),
      make("pre", {}, `scopeworks latents serve ${scopeworks.data.folder || "DIR"} --model MODEL`));
  }

  let kept = null;
  const show = (index, state) => (scopeworks.server.playground ? (kept ??= new Playground(index)).show(state) : absent());

  scopeworks.playground = { show };
})();
