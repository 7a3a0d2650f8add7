// Which view the address asks for, the keys, and the page's head.
"use strict";
(() => {
  const { make, count, number, legible } = scopeworks.dom;
  const main = document.getElementById("main");
  const places = new Map();
  let index = null, list = null, shown = null;

  function parsed() {
    const [, path = "", query = ""] = location.hash.match(/^#\/?([^?]*)(?:\?(.*))?$/) ?? [];
    const [view, ...rest] = path.split("/");
    return { view: view || "search", rest, state: Object.fromEntries(new URLSearchParams(query)) };
  }

  const VIEWS = {
    search: state => (list ??= new scopeworks.list.List(index)).show(state),
    latent: (state, [text]) => {
      const latent = /^\d{1,9}$/.test(text ?? "") ? Number(text) : -1;
      if (latent < 0 || latent >= index.width) return lost(`There is no latent ${text}: this SAE has 0 to ${count(index.width - 1)}.`);
      return scopeworks.latent.show(index, latent);
    },
    map: state => scopeworks.map2d.show(index, state),
    compare: state => scopeworks.compare.show(index, state),
    playground: state => scopeworks.playground.show(index, state),
  };

  const TITLES = { search: "Latents", latent: "Latent", map: "Map", compare: "Compare", playground: "Playground" };

  function lost(text) { return make("div", {}, make("h1", { tabindex: "-1" }, "Not found"), make("p", {}, text, " ", make("a", { href: "#/search" }, "All latents"))); }

  function route() {
    const { view, rest, state } = parsed();
    if (shown !== null) places.set(shown, window.scrollY);
    // An address that was gone back to is shown where it was left; a link goes to the top.
    const seen = history.state?.seen;
    if (!seen) history.replaceState({ seen: true }, "");
    const known = Object.hasOwn(VIEWS, view);
    const element = known ? VIEWS[view](state, rest) : lost("There is no such page.");
    const first = shown === null, before = shown?.split("?")[0];
    shown = location.hash;
    if (main.firstChild !== element) main.replaceChildren(element);
    document.title = `${TITLES[view] ?? "Not found"}${view === "latent" ? ` ${rest[0]}` : ""} · ${legible(index.manifest.sae.name)}`;
    for (const one of document.querySelectorAll("[data-view]")) {
      if (one.dataset.view === view) one.setAttribute("aria-current", "page"); else one.removeAttribute("aria-current");
    }
    if (first || before === shown.split("?")[0]) return;
    element.querySelector("h1[tabindex]")?.focus({ preventScroll: true });
    window.scrollTo(0, seen ? places.get(shown) ?? 0 : 0);
  }

  function head() {
    const { sae, rows, n_alive: alive } = index.manifest;
    document.getElementById("sae-name").textContent = legible(sae.name);
    const site = sae.target_site && sae.target_site !== sae.site ? `${sae.site} → ${sae.target_site}` : sae.site;
    const facts = [site, `${count(sae.d_sae)} latents, ${count(alive)} alive`, sae.l0 ? `L0 ${number(sae.l0)}` : null, `${count(rows)} tokens`, index.manifest.model];
    document.getElementById("sae-facts").textContent = facts.filter(Boolean).join(" · ");
  }

  const isField = element => element instanceof HTMLElement && element.matches("input, select, textarea");

  /** Arrow keys in a snippet go from one token at which it fires to the next. */
  function stepInSnippet(event) {
    const inside = event.target.closest?.(".snippet[tabindex]");
    if (!inside || !["ArrowLeft", "ArrowRight"].includes(event.key)) return false;
    const marks = [...inside.querySelectorAll("mark")], at = marks.indexOf(document.activeElement);
    const by = event.key === "ArrowRight" ? 1 : -1;
    marks[at < 0 ? 0 : Math.min(marks.length - 1, Math.max(0, at + by))]?.focus();
    return true;
  }

  function stepRow(by) {
    if (parsed().view === "search") { list.step(by); return true; }
    if (parsed().view !== "latent") return false;
    document.querySelector(by > 0 ? ".steps [rel=next]" : ".steps [rel=prev]")?.click();
    return true;
  }

  const KEYS = {
    "/": () => { if (parsed().view !== "search") location.hash = "#/search"; setTimeout(() => { list.query.focus(); list.query.select(); }); return true; },
    "?": () => { document.getElementById("help").showModal(); return true; },
    j: () => stepRow(1), k: () => stepRow(-1),
    ArrowDown: () => parsed().view === "search" && stepRow(1), ArrowUp: () => parsed().view === "search" && stepRow(-1),
    l: () => { location.hash = "#/search"; return true; }, m: () => { location.hash = "#/map"; return true; }, c: () => { location.hash = "#/compare"; return true; },
  };

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open) return;
    if (isField(event.target)) {
      if (event.key === "Escape") event.target.blur();
      if (event.target.id === "q" && event.key === "ArrowDown") { list.step(0); event.preventDefault(); }
      return;
    }
    if (stepInSnippet(event) || (Object.hasOwn(KEYS, event.key) && KEYS[event.key]())) event.preventDefault();
  }

  /** The token that has the focus says its value, as the one under the pointer does. */
  function speak(event) {
    const mark = event.target.closest?.("mark[title]");
    scopeworks.dom.note(mark ? mark.title : "");
  }

  function listen() {
    window.addEventListener("hashchange", route);
    document.addEventListener("keydown", key);
    document.addEventListener("focusin", speak);
    document.addEventListener("focusout", () => scopeworks.dom.note(""));
    document.getElementById("help-button").addEventListener("click", () => document.getElementById("help").showModal());
  }

  scopeworks.data.index().then(async opened => {
    await opened.said;
    index = opened;
    head();
    listen();
    route();
  }).catch(error => {
    main.replaceChildren(make("div", { role: "alert" }, make("h1", {}, "No index can be read"), make("p", { class: "error" }, error.message),
      make("p", {}, "A folder is complete once `scopeworks latents index` has ended; the same command again continues it.")));
  });
})();
