// The index's files: which are there, and how they are read over http and from disk.
// Over http a latent's records are asked for by Range; from disk, where a browser refuses that,
// they come in scripts of 64 latents. All else is a script in both.
"use strict";
(() => {
  const PART = 16384, SHARD = 64, BLOCK = 1024, KEPT_SHARDS = 16;
  const LARGEST_FROM_DISK = 16384;
  const FIELDS = ["tokens", "raised", "context"];
  const fromDisk = location.protocol === "file:";
  const here = new URL("./", location.href).href.split("#")[0];
  const known = new Map();

  /** What a data file calls belongs to the index in whose folder it is. */
  function called() {
    const base = document.currentScript.src.replace(/data\/[a-z]+(\/\d+)?\.js.*$/, "");
    return known.get(base);
  }

  function script(url) {
    return new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.src = url;
      element.onload = () => { element.remove(); resolve(); };
      element.onerror = () => { element.remove(); reject(new Error(`${url} cannot be read`)); };
      document.head.append(element);
    });
  }

  async function inflated(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  }

  function fromBase64(text) {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  }

  const body = async answer => new Uint8Array(await answer.arrayBuffer());

  /** Bytes of a file by Range. A host that ignores it sends the whole file, which is then kept: until
      the first answer tells, nothing else is asked for. */
  class Ranges {
    constructor(url) { Object.assign(this, { url, whole: null }); }

    async get(start, stop) {
      while (this.whole) {
        const whole = await this.whole.catch(() => undefined);
        if (whole) return whole.slice(start, stop);
        if (whole === null) return this.part(await this.ask(start, stop), start, stop);
      }
      const answer = this.ask(start, stop);
      // Bytes, or null where the host knows ranges; after an error the next one to ask finds out.
      this.whole = answer.then(one => (one.status === 206 ? null : body(one)));
      this.whole.catch(() => { this.whole = null; });
      return (await this.whole)?.slice(start, stop) ?? body(await answer);
    }

    async part(answer, start, stop) {
      const bytes = await body(answer);
      return answer.status === 206 ? bytes : bytes.slice(start, stop);
    }

    async ask(start, stop) {
      const answer = await fetch(this.url, { headers: { Range: `bytes=${start}-${stop - 1}` } });
      if (!answer.ok) throw new Error(`${this.url}: the server answers ${answer.status}`);
      return answer;
    }
  }

  /** A file of records and the file of their offsets, of which blocks are kept. */
  class Records {
    constructor(base, bin, idx) {
      this.bin = new Ranges(base + bin);
      this.idx = new Ranges(base + idx);
      this.blocks = new Map();
    }

    async offset(i) {
      const block = Math.floor(i / BLOCK);
      if (!this.blocks.has(block)) {
        const start = 8 * BLOCK * block;
        this.blocks.set(block, this.idx.get(start, start + 8 * (BLOCK + 1)));
        this.blocks.get(block).catch(() => this.blocks.delete(block));
      }
      const bytes = await this.blocks.get(block);
      return Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(8 * (i % BLOCK), true));
    }

    async get(latent) {
      // One block holds BLOCK + 1 offsets: a record's end is in the block of its start.
      const start = await this.offset(latent);
      const bytes = await this.blocks.get(Math.floor(latent / BLOCK));
      const stop = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(8 * (latent % BLOCK) + 8, true));
      const frame = await this.bin.get(start, stop);
      const length = new DataView(frame.buffer, frame.byteOffset).getUint32(0, true);
      if (frame.length !== stop - start || length !== frame.length - 4) throw new Error(`latent ${latent}'s record is damaged`);
      return inflated(frame.subarray(4));
    }
  }

  /** One index: its manifest, the columns of all latents as they come, records when asked for. */
  class Index {
    constructor(base) {
      Object.assign(this, { base, manifest: null, explanations: {}, points: null, listeners: new Set() });
      this.columns = { tokens: [], raised: [], context: [] };
      this.hay = { tokens: [], raised: [], context: [], explanation: [] };
      this.parts = 0;
      this.shards = new Map();
    }

    get width() { return this.manifest.sae.d_sae; }
    get nParts() { return Math.ceil(this.width / PART); }
    get complete() { return this.parts === this.nParts; }
    get pagesCanBeRead() { return !fromDisk || this.width <= LARGEST_FROM_DISK; }
    density(i) { return this.fired[i] / this.manifest.rows; }
    has(i) { return i < this.parts * PART && i < this.width; }

    /** Opens the manifest, then reads the columns part by part; `listeners` hear of each. */
    async open() {
      await script(`${this.base}data/manifest.js`);
      if (!this.manifest) throw new Error("data/manifest.js holds no manifest");
      this.fired = new Uint32Array(this.width);
      this.max = new Float32Array(this.width);
      const layer = Object.keys(this.manifest.files ?? {}).find(name => /^features\/layer_\d+\.bin$/.test(name));
      this.features = new Records(this.base, layer ?? `features/layer_${this.manifest.sae.site.split(".")[1]}.bin`, "data/features.idx");
      this.pages = new Records(this.base, "data/pages.bin", "data/pages.idx");
      // Explanations first: what grew when they came would move under the reader's eyes.
      this.said = script(`${this.base}data/explanations.js`).catch(() => {});
      this.readAll().catch(error => { this.failed = error.message; this.heard(); });
      return this;
    }

    async readAll() {
      for (let k = 0; k < this.nParts; k++) {
        await Promise.all([this.said, script(`${this.base}data/search/${String(k).padStart(2, "0")}.js`)]);
        this.parts = k + 1;
        this.heard();
        await new Promise(done => setTimeout(done));
        idle(() => FIELDS.forEach(field => this.haystack(field, k)));
      }
    }

    heard() { for (const fn of [...this.listeners]) fn(); }

    takePart(k, part) {
      const from = k * PART;
      this.fired.set(part.fired, from);
      this.max.set(part.max.map(value => value ?? 0), from);
      for (const field of FIELDS) {
        const column = this.columns[field];
        part[field].forEach((texts, i) => { column[from + i] = texts; });
      }
    }

    /** What is searched of a part. Made when it is first asked for: the first rows come before. */
    haystack(field, k) {
      if (!this.hay[field][k]) {
        const from = k * PART, stop = Math.min(this.width, from + PART);
        const rows = field === "explanation"
          ? Array.from({ length: stop - from }, (_, i) => [this.explanations[from + i]?.text ?? ""])
          : this.columns[field].slice(from, stop);
        this.hay[field][k] = haystack(rows);
      }
      return this.hay[field][k];
    }

    takeExplanations(all) {
      this.explanations = all;
      this.hay.explanation = [];
    }

    /** A latent's two records: {features, page}. */
    async record(latent) {
      if (!fromDisk) {
        const [features, page] = await Promise.all([this.features.get(latent), this.pages.get(latent)]);
        return { features, page };
      }
      const k = Math.floor(latent / SHARD);
      if (!this.shards.has(k)) {
        await script(`${this.base}data/shards/${String(k).padStart(4, "0")}.js`);
        for (const old of this.shards.keys()) if (this.shards.size > KEPT_SHARDS) this.shards.delete(old);
      }
      const shard = await this.shards.get(k);
      return { features: shard.features[latent % SHARD], page: shard.pages[latent % SHARD] };
    }

    async map() {
      if (!this.points) await script(`${this.base}data/map.js`);
      return this.points;
    }
  }

  const idle = fn => (window.requestIdleCallback ? requestIdleCallback(fn) : setTimeout(fn, 300));

  /** Texts of many latents as one lower-case string, and where each latent's begin. */
  function haystack(rows) {
    const starts = new Uint32Array(rows.length + 1), pieces = new Array(rows.length);
    let at = 0;
    rows.forEach((texts, i) => {
      pieces[i] = `\u0001${texts.map(plain).join("\u0001").toLowerCase()}\u0001\u0002`;
      starts[i] = at;
      at += pieces[i].length;
    });
    starts[rows.length] = at;
    return { text: pieces.join(""), starts };
  }

  /** A context may come in pieces: before its peak, the peak, after it. */
  const plain = text => (typeof text === "string" ? text : text.join(""));

  Object.assign(scopeworks, {
    /** What a server says of itself; from disk and on a static host nobody calls it. */
    served(said) { scopeworks.server = said; },
    server: { beside: [], playground: false },
    manifest(value) { called().manifest = value; },
    search(k, part) { called().takePart(k, part); },
    explanations(all) { called().takeExplanations(all); },
    map(both) {
      const [x, y] = ["x", "y"].map(axis => new Uint16Array(fromBase64(both[axis]).buffer));
      called().points = { x, y };
    },
    shard(k, text) { called().shards.set(k, inflated(fromBase64(text))); },
  });

  /** The index in a folder beside this one, by the folder's name; this page's own without one. */
  function index(folder) {
    if (folder !== undefined && (!/^[^/\\?#:]+$/.test(folder) || /^\.+$/.test(folder)))
      return Promise.reject(new Error("the other index must be the name of a folder beside this one"));
    const base = folder === undefined ? here : new URL(`../${encodeURIComponent(folder)}/`, here).href;
    if (!known.has(base)) {
      const one = new Index(base);
      known.set(base, one);
      one.opened = one.open();
      one.opened.catch(() => known.delete(base));
    }
    return known.get(base).opened;
  }

  scopeworks.data = { index, fromDisk, PART, plain, folder: decodeURIComponent(here.split("/").at(-2) ?? "") };
})();
