// Two SAEs beside one another: a latent of this one, and those of another that write most alike.
"use strict";
(() => {
  const { make, count } = scopeworks.dom;

  const address = (name, latent, other) =>
    `#/compare?${new URLSearchParams({ with: name, latent: String(latent), ...(other === undefined ? {} : { other: String(other) }) })}`;

  const listed = index => index.manifest.others ?? [];
  const beside = () => scopeworks.server.beside.filter(one => one.folder !== scopeworks.data.folder);

  /** Other SAEs that can be chosen: served beside this one, or named in the manifest. */
  function choices(index) {
    const found = new Map(beside().map(one => [one.folder, one.name]));
    for (const { name, fingerprint } of listed(index))
      if (!found.has(name) && !beside().some(one => one.fingerprint === fingerprint)) found.set(name, name);
    return found;
  }

  /** The folder of what was asked for: that of the listed SAE's tensors before one of the same name. */
  function folderOf(index, name) {
    const wanted = listed(index).find(one => one.name === name)?.fingerprint;
    const of = test => beside().find(test)?.folder;
    return of(one => wanted && one.fingerprint === wanted) ?? of(one => one.folder === name) ?? of(one => one.name === name) ?? name;
  }

  function form(index, state) {
    const found = choices(index);
    const other = make("input", { name: "with", required: true, list: "others", value: state.with ?? [...found.keys()][0] ?? "", placeholder: "folder beside this one", autocomplete: "off", spellcheck: "false" });
    const latent = make("input", { name: "latent", type: "number", min: 0, max: index.width - 1, required: true, inputmode: "numeric", value: state.latent ?? 0 });
    const submit = event => { event.preventDefault(); location.hash = address(other.value.trim(), latent.value); };
    return make("form", { class: "filters", on: { submit } },
      make("label", { class: "query" }, make("span", {}, "Other SAE"), other), make("datalist", { id: "others" }, ...[...found].map(([folder, name]) => make("option", { value: folder }, name))),
      make("label", {}, make("span", {}, "Latent of this one"), latent), make("button", {}, "Compare"));
  }

  /** The other SAE's nearest latents by this one's record, or the one that was asked for. */
  function nearest(page, name, wanted) {
    const known = page.others?.[name] ?? [];
    return wanted === undefined || known.some(([i]) => i === wanted) ? known : [[wanted, null], ...known];
  }

  async function right(index, state, latent, page) {
    const folder = folderOf(index, state.with);
    const other = await scopeworks.data.index(folder).catch(error => ({ error }));
    const asked = listed(index).find(one => one.name === state.with);
    const its = other.error ? asked : listed(index).find(one => one.fingerprint === other.manifest.sae.fingerprint);
    const wanted = /^\d+$/.test(state.other ?? "") ? Number(state.other) : undefined;
    const found = nearest(page, (asked ?? its)?.name, wanted);
    if (other.error) return missing(state.with, found, "Its index is not beside this one");
    if (asked && asked !== its) return missing(state.with, found, "The index of this name beside this one is another SAE's");
    const shown = found.filter(([i]) => i < other.width);
    if (!shown.length) return [make("p", {}, "This index does not say which of its latents are nearest: make it with `--compare`."), ...await chooser(index, other, state, latent)];
    const cards = await Promise.all(shown.map(([i, cosine]) => scopeworks.latent.card(other, i, title(folder, i, cosine))));
    return [make("h2", {}, other.manifest.sae.name), make("p", { class: "quiet" }, `${count(other.width)} latents at ${other.manifest.sae.site}`), ...cards];
  }

  const title = (folder, i, cosine) => make("span", {},
    make("a", { href: `../${encodeURIComponent(folder)}/index.html#/latent/${i}` }, `Latent ${count(i)}`), cosine === null ? "" : ` · cosine ${scopeworks.latent.share(cosine)}`);

  function chooser(index, other, state, latent) {
    const input = make("input", { type: "number", min: 0, max: other.width - 1, inputmode: "numeric", "aria-label": "Latent of the other SAE" });
    const submit = event => { event.preventDefault(); location.hash = address(state.with, latent, input.value); };
    return [make("form", { class: "filters", on: { submit } }, make("label", {}, make("span", {}, `Latent of ${other.manifest.sae.name}`), input), make("button", {}, "Show"))];
  }

  function missing(name, found, why) {
    return [make("h2", {}, name), make("p", {}, `${why}, so only numbers are known. \`scopeworks latents serve DIR OTHER\` serves both.`),
      make("ul", { class: "related" }, ...found.map(([i, cosine]) => make("li", {}, `latent ${count(i)}`, make("span", { class: "n" }, scopeworks.latent.share(cosine)))))];
  }

  async function both(index, state, latent) {
    const here = await scopeworks.latent.card(index, latent, make("a", { href: `#/latent/${latent}` }, `Latent ${count(latent)}`));
    const page = index.pagesCanBeRead ? (await index.record(latent)).page : {};
    return [make("div", {}, make("h2", {}, index.manifest.sae.name), make("p", { class: "quiet" }, `${count(index.width)} latents at ${index.manifest.sae.site}`), here),
      make("div", {}, ...await right(index, state, latent, page))];
  }

  /** The view. */
  function show(index, state) {
    const place = make("div", { class: "sides" });
    const element = make("div", { class: "compare" }, make("h1", { tabindex: "-1" }, "Compare two SAEs"), form(index, state), place);
    if (!state.with) {
      place.replaceChildren(make("p", { class: "quiet" }, choices(index).size ? "Choose the other SAE and a latent of this one." : "Serve two indexes together, or put their folders side by side, and their latents are shown beside one another."));
      return element;
    }
    const latent = Math.min(index.width - 1, Math.max(0, Math.floor(Number(state.latent)) || 0));
    place.setAttribute("aria-busy", "true");
    both(index, state, latent).then(columns => place.replaceChildren(...columns),
      error => place.replaceChildren(make("p", { class: "error", role: "alert" }, `They cannot be read: ${error.message}`)))
      .finally(() => place.removeAttribute("aria-busy"));
    return element;
  }

  scopeworks.compare = { show, address };
})();
