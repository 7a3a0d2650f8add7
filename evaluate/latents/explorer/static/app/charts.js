// Small charts: bars as SVG that fills its place, labels as text beneath them.
"use strict";
(() => {
  const { make, number } = scopeworks.dom;
  const SVG = "http://www.w3.org/2000/svg";

  function drawn(tag, given) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(given)) element.setAttribute(name, value);
    return element;
  }

  /** A bar chart. `heights` ≥ 0; `names`: what each bar says when pointed at; `ends`: labels. */
  function bars(title, heights, { names = [], ends = ["", ""], caption = "", log = false } = {}) {
    const scaled = heights.map(h => (log ? Math.log1p(Math.max(0, h)) : Math.max(0, h)));
    const most = Math.max(...scaled, 1e-300);
    const n = Math.max(1, heights.length);
    const svg = drawn("svg", { viewBox: `0 0 ${n * 10} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}. ${caption}` });
    scaled.forEach((height, i) => {
      const tall = height > 0 ? Math.max(1.5, 96 * height / most) : 0;
      const bar = drawn("rect", { x: i * 10 + (n > 1 ? 0.6 : 0), y: 100 - tall, width: 10 - (n > 1 ? 1.2 : 0), height: tall });
      const back = drawn("rect", { class: "back", x: i * 10, y: 0, width: 10, height: 100 });
      const name = drawn("title", {});
      name.textContent = names[i] ?? number(heights[i]);
      back.append(name);
      svg.append(bar, back);
    });
    const axis = make("div", { class: "axis", "aria-hidden": "true" }, ...ends.map(end => make("span", {}, end)));
    return make("figure", { class: "chart" }, make("h3", {}, title), svg, axis,
      make("figcaption", {}, caption + (log ? " Heights on a log scale." : "")));
  }

  /** A share of one as a bar behind nothing; its number stands beside it. */
  function meter(share, kind = "") {
    const width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
    return make("span", { class: `meter ${kind}`, "aria-hidden": "true" }, make("span", { style: { width } }));
  }

  /** Density on a log scale, 10⁻⁶ to 1. */
  const density = share => meter(share > 0 ? Math.max(0.02, 1 + Math.log10(share) / 6) : 0);

  scopeworks.charts = { bars, meter, density };
})();
