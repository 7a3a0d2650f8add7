// Elements, numbers, and tokens with their shade.
// Whatever comes from data reaches the page as text: nothing here takes markup.
"use strict";
const scopeworks = {};
(() => {
  const SIGNS = { "\n": "↵", "\t": "→", "\r": "␍" };
  // What would hide, or turn the text around it: controls, bidirectional marks, zero widths.
  const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;

  /** An element. `given`: attributes; `on` handlers, `style` custom properties, `class` its class. */
  function make(tag, given = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(given)) {
      if (value === undefined || value === null || value === false) continue;
      if (name === "on") for (const [kind, fn] of Object.entries(value)) element.addEventListener(kind, fn);
      else if (name === "style") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter(child => child !== null && child !== undefined));
    return element;
  }

  /** A number of up to four significant digits, with the minus of print. */
  function number(value, digits = 3) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-3 || size >= 1e6)
      ? value.toExponential(digits - 1)
      : size >= 10 ** digits ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(digits));
    return text.replace("-", "−");
  }

  /** A share as a percentage of two significant digits. */
  function percent(share) {
    if (share === null || share === undefined || !Number.isFinite(share)) return "–";
    const value = 100 * share;
    if (value === 0) return "0%";
    if (value >= 10) return `${Math.round(value)}%`;
    const shown = value >= 1e-4 ? value.toFixed(Math.max(0, 1 - Math.floor(Math.log10(value)))) : value.toExponential(1);
    return `${shown.replace("-", "−")}%`;
  }

  const count = n => Number.isFinite(n) ? n.toLocaleString("en") : "–";

  const sign = found => SIGNS[found] ?? `⟨${found.codePointAt(0).toString(16).padStart(4, "0")}⟩`;

  /** A text for where no nodes can be, such as a label: what `shown` makes of it, as text. */
  const legible = text => String(text).replace(HIDDEN, sign);

  /** A token's text as nodes: line breaks, tabs and what hides as quiet signs. */
  function shown(text) {
    const nodes = [];
    let from = 0;
    for (const found of text.matchAll(HIDDEN)) {
      if (found.index > from) nodes.push(text.slice(from, found.index));
      nodes.push(make("i", {}, sign(found[0])));
      from = found.index + found[0].length;
    }
    if (from < text.length || nodes.length === 0) nodes.push(text.slice(from));
    return nodes;
  }

  /** A token alone, its spaces to be seen. */
  function chip(text) {
    return make("code", { class: "chip" }, ...shown(String(text).replaceAll(" ", "␣")));
  }

  /** Tokens shaded by activation. Full shade is `most`, so that snippets compare; the underline's
      thickness says the same without colour. */
  function snippet(tokens, values, most, { peak = -1, flat = false, label } = {}) {
    const nodes = tokens.map((text, i) => {
      const value = values[i] ?? 0;
      if (!(value > 0)) return make("span", {}, ...shown(text));
      const share = Math.min(1, value / (most || 1));
      return make("mark", {
        class: i === peak ? "peak" : undefined,
        title: `${legible(JSON.stringify(text))}: ${number(value, 4)}`,
        tabindex: flat ? undefined : "-1",
        style: { "--a": (0.12 + 0.73 * share).toFixed(2), "--t": `${Math.ceil(4 * share)}px` },
      }, ...shown(text));
    });
    const given = { class: flat ? "snippet flat" : "snippet", dir: "auto" };
    if (!flat) Object.assign(given, { tabindex: "0", role: "group", "aria-label": label });
    return make("div", given, ...nodes);
  }

  /** The snippet of one of circuit-tracer's examples, whose peak the index has chosen. */
  function example(one, most, given = {}) {
    const peak = one.train_token_ind;
    const cut = given.flat ? [Math.max(0, peak - 7), peak + 14] : [0, one.tokens.length];
    const label = given.flat ? undefined
      : `Snippet, strongest ${number(one.tokens_acts_list[peak], 4)} at ${legible(JSON.stringify(one.tokens[peak]))}`;
    // In one line a run of spaces, such as an indentation, takes the room of what can be read.
    const tokens = one.tokens.slice(...cut).map(text => (given.flat ? text.replace(/ {3,}/g, "  ") : text));
    return snippet(tokens, one.tokens_acts_list.slice(...cut), most,
      { ...given, peak: peak - cut[0], label });
  }

  const link = (latent, given = {}, ...children) =>
    make("a", { href: `#/latent/${latent}`, ...given }, ...(children.length ? children : [count(latent)]));

  /** Shows a line at the foot of the window, and says it to screen readers. */
  function note(text) {
    const bubble = document.getElementById("bubble");
    bubble.textContent = text;
    bubble.hidden = !text;
  }

  scopeworks.dom = { make, number, percent, count, legible, shown, chip, snippet, example, link, note };
})();
