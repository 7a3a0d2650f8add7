// The map: every latent's decoder direction as a point in the plane, coloured by density.
"use strict";
(() => {
  const { make, count, percent, shown, chip } = scopeworks.dom;
  const CELLS = 128, REACH = 10, COLOURS = 24, MARGIN = 14;

  /** Points in a grid of cells, so that the one under the pointer is found at once. */
  function cells({ x, y }) {
    const grid = new Map();
    for (let i = 0; i < x.length; i++) {
      const key = (y[i] * CELLS >> 16) * CELLS + (x[i] * CELLS >> 16);
      if (grid.has(key)) grid.get(key).push(i); else grid.set(key, [i]);
    }
    return grid;
  }

  /** Colours from rare to dense; the page's own where it never fires. */
  function colour(density, dark) {
    if (!(density > 0)) return dark ? "#4a4f56" : "#c3c7cc";
    const t = Math.round(COLOURS * Math.min(1, Math.max(0, 1 + Math.log10(density) / 5))) / COLOURS;
    return dark ? `hsl(${230 - 190 * t} ${55 + 30 * t}% ${48 + 24 * t}%)` : `hsl(${235 - 215 * t} ${55 + 25 * t}% ${52 - 8 * t}%)`;
  }

  class Map2D {
    constructor(index, points) {
      Object.assign(this, { index, points, marked: undefined, grid: cells(points), scale: 1, left: 0, top: 0, pointers: new Map() });
      this.canvas = make("canvas", { tabindex: "0", role: "img", "aria-label": `Map of ${count(index.width)} decoder directions. Arrows move it, + and − zoom. The list shows the same latents.` });
      this.tip = make("div", { class: "tip", hidden: true, role: "status" });
      this.element = make("div", { class: "map" }, this.canvas, this.tip);
      this.dark = matchMedia("(prefers-color-scheme: dark)");
      this.dark.addEventListener("change", () => this.soon());
      new ResizeObserver(() => this.resize()).observe(this.element);
      index.listeners.add(() => this.element.isConnected && this.soon());
      this.listen();
    }

    resize() {
      const ratio = Math.min(2, devicePixelRatio || 1);
      Object.assign(this, { width: this.canvas.clientWidth, height: this.canvas.clientHeight, ratio });
      this.canvas.width = this.width * ratio;
      this.canvas.height = this.height * ratio;
      this.placed = true;
      this.soon();
    }

    /** Rings a latent and goes to it, or rings none; where it is rung already nothing moves. */
    mark(latent) {
      if (latent !== undefined && latent !== this.marked) {
        this.scale = 6;
        this.left = this.points.x[latent] / 65535 - 1 / 12;
        this.top = this.points.y[latent] / 65535 - 1 / 12;
      }
      this.marked = latent;
      this.point(-99, -99);
      this.soon();
    }

    // The plane has no unit, so it fills the canvas, whatever its shape.
    get sizeX() { return (this.width - 2 * MARGIN) * this.scale; }
    get sizeY() { return (this.height - 2 * MARGIN) * this.scale; }
    screenX(i) { return (this.points.x[i] / 65535 - this.left) * this.sizeX + MARGIN; }
    screenY(i) { return (this.points.y[i] / 65535 - this.top) * this.sizeY + MARGIN; }

    soon() {
      if (this.asked) return;
      this.asked = true;
      requestAnimationFrame(() => { this.asked = false; this.draw(); });
    }

    /** Points by colour: a canvas changes its colour slowly, and draws rectangles fast. */
    draw() {
      if (!this.width) return;
      const context = this.canvas.getContext("2d"), { index, points, dark } = this;
      context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      context.clearRect(0, 0, this.width, this.height);
      const size = Math.max(1.5, Math.min(9, Math.sqrt(this.scale) * Math.min(5, 180 / Math.sqrt(index.width))));
      const groups = new Map();
      for (let i = 0; i < points.x.length; i++) {
        const x = this.screenX(i), y = this.screenY(i);
        if (x < -5 || y < -5 || x > this.width + 5 || y > this.height + 5) continue;
        const name = colour(index.has(i) ? index.density(i) : 0, dark.matches);
        if (groups.has(name)) groups.get(name).push(x, y); else groups.set(name, [x, y]);
      }
      for (const [name, places] of groups) {
        context.fillStyle = name;
        for (let k = 0; k < places.length; k += 2) context.fillRect(places[k] - size / 2, places[k + 1] - size / 2, size, size);
      }
      for (const i of [this.marked, this.under]) if (i !== undefined) this.ring(context, i, size);
    }

    ring(context, i, size) {
      context.strokeStyle = getComputedStyle(document.body).color;
      context.lineWidth = 1.5;
      context.beginPath();
      context.arc(this.screenX(i), this.screenY(i), size + 4, 0, 7);
      context.stroke();
    }

    /** The latent nearest to a place on the canvas, within reach. */
    at(px, py) {
      const x = (px - MARGIN) / this.sizeX + this.left, y = (py - MARGIN) / this.sizeY + this.top;
      const around = Math.min(CELLS, Math.ceil(REACH / Math.min(this.sizeX, this.sizeY) * CELLS)), [cx, cy] = [Math.floor(x * CELLS), Math.floor(y * CELLS)];
      let best, least = REACH * REACH;
      for (let row = Math.max(0, cy - around); row <= Math.min(CELLS - 1, cy + around); row++)
        for (let column = Math.max(0, cx - around); column <= Math.min(CELLS - 1, cx + around); column++)
          for (const i of this.grid.get(row * CELLS + column) ?? []) {
            const far = (this.screenX(i) - px) ** 2 + (this.screenY(i) - py) ** 2;
            if (far < least) [best, least] = [i, far];
          }
      return best;
    }

    zoom(factor, px = this.width / 2, py = this.height / 2) {
      const next = Math.min(400, Math.max(0.8, this.scale * factor)), grown = 1 - this.scale / next;
      this.left += (px - MARGIN) / this.sizeX * grown;
      this.top += (py - MARGIN) / this.sizeY * grown;
      this.scale = next;
      this.soon();
    }

    move(dx, dy) { this.left -= dx / this.sizeX; this.top -= dy / this.sizeY; this.soon(); }

    point(px, py) {
      const found = this.at(px, py);
      this.canvas.style.cursor = found === undefined ? "grab" : "pointer";
      if (found === this.under) return;
      this.under = found;
      this.tip.hidden = found === undefined;
      if (found !== undefined) this.name(found);
      this.soon();
    }

    name(i) {
      const { index } = this, said = index.explanations[i]?.text;
      this.tip.replaceChildren(make("b", {}, `Latent ${count(i)}`), " ", make("span", { class: "quiet" }, percent(index.density(i))),
        make("div", { class: "chips" }, ...(index.columns.tokens[i] ?? []).map(chip)), ...(said ? [make("div", {}, ...shown(said))] : []));
      const [x, y] = [this.screenX(i), this.screenY(i)];
      const left = x > this.width / 2 ? Math.max(4, x - this.tip.offsetWidth - 12) : Math.min(x + 12, this.width - this.tip.offsetWidth - 4);
      this.tip.style.left = `${Math.max(4, left)}px`;
      this.tip.style.top = `${Math.min(Math.max(4, y + 12), this.height - this.tip.offsetHeight - 4)}px`;
    }

    listen() {
      const { canvas, pointers } = this;
      const place = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
      canvas.addEventListener("wheel", event => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 400), ...place(event)); }, { passive: false });
      canvas.addEventListener("pointerdown", event => { pointers.set(event.pointerId, place(event)); canvas.setPointerCapture(event.pointerId); this.far = pointers.size > 1 ? 99 : 0; });
      canvas.addEventListener("pointermove", event => {
        const now = place(event), before = pointers.get(event.pointerId);
        if (!before) { this.point(...now); return; }
        const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
        this.far += Math.abs(dx) + Math.abs(dy);
        if (pointers.size === 2) this.pinch(event.pointerId, before, now);
        else if (this.far > 4) this.move(dx, dy);
        pointers.set(event.pointerId, now);
      });
      const up = event => {
        const was = pointers.delete(event.pointerId);
        if (event.type === "pointerup" && was && this.far <= 4) this.clicked(...place(event), event.pointerType);
      };
      for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, up);
      canvas.addEventListener("pointerleave", () => this.point(-99, -99));
      canvas.addEventListener("keydown", event => {
        const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
        if (event.key in moves) this.move(...moves[event.key]);
        else if (event.key === "+" || event.key === "=") this.zoom(1.5);
        else if (event.key === "-" || event.key === "−") this.zoom(1 / 1.5);
        else return;
        event.preventDefault();
        event.stopPropagation();
      });
    }

    /** A finger has no hover: its first touch names, the second opens. */
    clicked(px, py, kind) {
      const found = this.at(px, py), named = this.under === found;
      if (found === undefined) { this.point(px, py); return; }
      if (kind === "touch" && !named) { this.point(px, py); return; }
      location.hash = `#/latent/${found}`;
    }

    pinch(id, before, now) {
      const other = [...this.pointers].find(([key]) => key !== id)[1];
      const far = place => Math.hypot(place[0] - other[0], place[1] - other[1]);
      this.zoom(far(now) / Math.max(1, far(before)), ...other);
    }
  }

  /** The view without its points, which come once they are read. */
  function view(index) {
    const element = make("div", { class: "map-view" }, make("h1", { tabindex: "-1" }, "Map of decoder directions"),
      make("p", { class: "quiet" }, "Directions that are alike lie near one another; colour says how often a latent fires. Distances over more than a neighbourhood mean little."));
    const place = make("div", {}, make("div", { class: "map" }));
    const legend = make("div", { class: "legend quiet", "aria-hidden": "true" }, "rare", make("span", { class: "ramp" }), "dense", make("span", { class: "grey" }), "never fires");
    element.append(place, legend);
    const drawn = index.map().then(points => {
      const drawn = new Map2D(index, points);
      element.shown = drawn;
      place.replaceChildren(drawn.element);
      const zoom = make("div", { class: "zoom" }, ...[["+", 1.5, "Zoom in"], ["−", 1 / 1.5, "Zoom out"]].map(([sign, by, label]) =>
        make("button", { type: "button", "aria-label": label, on: { click: () => drawn.zoom(by) } }, sign)));
      drawn.element.append(zoom);
      return drawn;
    });
    drawn.catch(error => {
      kept = null;
      place.replaceChildren(make("p", { class: "error", role: "alert" }, `The map cannot be read: ${error.message}`));
    });
    return { element, drawn };
  }

  let kept = null;

  /** The view, kept while others are looked at: it is where it was left. */
  function show(index, state) {
    const marked = /^\d+$/.test(state.latent ?? "") && Number(state.latent) < index.width ? Number(state.latent) : undefined;
    kept ??= view(index);
    kept.drawn.then(drawn => drawn.mark(marked), () => {});
    return kept.element;
  }

  scopeworks.map2d = { show };
})();
