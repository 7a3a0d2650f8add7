// The rating page: shows one latent after another and sends every answer as it is given.
"use strict";

const { make, chip, snippet } = scopeworks.dom; // the explorer's dom.js
const BUTTONS = ["yes", "maybe", "no"];
const at = (id) => document.getElementById(id);
const cards = new Map(); // number -> promise of a card
let order = []; // latents' numbers, in this rater's order
let entries = {}; // number -> {answer, note, flag}
let place = 0; // in the order; order.length is the end
let given = []; // numbers answered on this page, for undo
let busy = false; // an answer is on its way
let sent = Promise.resolve(true); // the last change that was sent, and all before it

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options || undefined);
  } catch {
    throw new Error("The server does not answer. What was answered before is kept; start it again with the same command.");
  }
  const value = await response.json();
  if (!response.ok) throw new Error(value.error);
  return value;
}

const entryOf = (number) => entries[number] || { answer: null, note: "", flag: false };
const isDone = (number) => entryOf(number).answer !== null;

function firstOpen(from) {
  for (let k = 0; k < order.length; k++) {
    const one = (from + k) % order.length;
    if (!isDone(order[one])) return one;
  }
  return order.length;
}

function say(text) {
  at("trouble").textContent = text;
  at("trouble").hidden = !text;
}

function drawCard(card) {
  const shown = [];
  card.groups.forEach((group, k) => {
    const name = k === 0 ? "Strongest" : k === 1 ? "Weaker" : "";
    if (name) shown.push(make("h2", {}, name));
    shown.push(...group.map((one) => snippet(one.tokens, one.shares, 1, { peak: one.peak, label: "Snippet" })));
  });
  at("snippets").replaceChildren(...shown);
  at("raised").replaceChildren(...card.raised.map(chip));
  at("raises").hidden = card.raised.length === 0;
  at("histogram").replaceChildren(
    ...card.histogram.counts.map((share) => {
      const bar = make("div");
      bar.style.height = share > 0 ? `max(1px, ${100 * share}%)` : "0";
      return bar;
    }),
  );
}

function drawEntry() {
  const number = order[place];
  const entry = entryOf(number);
  for (const name of BUTTONS) at(name).setAttribute("aria-pressed", String(entry.answer === name));
  at("flag").checked = entry.flag;
  if (document.activeElement !== at("note")) at("note").value = entry.note;
  const done = order.filter(isDone).length;
  at("bar").style.width = `${(100 * done) / Math.max(1, order.length)}%`;
  at("place").textContent = place < order.length ? `Latent ${place + 1} of ${order.length}.` : "";
  at("done").textContent = `${done} of ${order.length} rated.`;
  at("undo").disabled = given.length === 0;
  at("back").disabled = place === 0;
  at("forth").disabled = place >= order.length;
  for (const name of BUTTONS) at(name).disabled = place >= order.length;
}

function cardOf(number) {
  if (!cards.has(number)) {
    const promise = ask(`latents/${number}`);
    promise.catch(() => cards.delete(number));
    cards.set(number, promise);
  }
  return cards.get(number);
}

async function show(next) {
  at("note").blur();
  if (!(await keepNote())) return;
  place = Math.max(0, Math.min(next, order.length));
  const mine = place;
  const isEnd = place === order.length;
  at("end").hidden = !isEnd;
  at("question").hidden = isEnd;
  at("marks").hidden = isEnd;
  at("card").hidden = true;
  drawEntry();
  if (isEnd) return;
  try {
    const card = await cardOf(order[mine]);
    if (mine !== place) return;
    drawCard(card);
    at("card").hidden = false;
    window.scrollTo(0, 0);
    if (mine + 1 < order.length) cardOf(order[mine + 1]).catch(() => {});
  } catch (error) {
    say(error.message);
  }
}

// Sends a change after all earlier ones; resolves to whether the server has kept it.
function keep(change) {
  sent = sent.then(async () => {
    try {
      entries[change.item] = await ask("answers", change);
      say("");
      return true;
    } catch (error) {
      say(`Not kept: ${error.message}`);
      return false;
    } finally {
      drawEntry();
    }
  });
  return sent;
}

// Wraps `todo` so that a second quick key is ignored while the first is at work.
function once(todo) {
  return async (...given) => {
    if (busy) return;
    busy = true;
    try {
      await todo(...given);
    } finally {
      busy = false;
    }
  };
}

const answer = once(async (name) => {
  if (place >= order.length || at("card").hidden) return;
  const number = order[place];
  if ((await keepNote()) && (await keep({ item: number, answer: name }))) {
    given.push(number);
    await show(firstOpen(place + 1));
  }
});

const undo = once(async () => {
  const number = given.at(-1);
  if (number !== undefined && (await keep({ item: number, answer: null }))) {
    given.pop();
    await show(order.indexOf(number));
  }
});

// Keeps the note in the field. If that fails, the text stays in the field and the page does not move.
function keepNote() {
  const number = order[place];
  const note = at("note").value;
  if (number === undefined || note === entryOf(number).note) return sent;
  const before = entryOf(number);
  entries[number] = { ...before, note };
  return keep({ item: number, note }).then((kept) => {
    if (!kept) {
      entries[number] = before;
      at("note").value = note;
    }
    return kept;
  });
}

function flag(on) {
  if (place < order.length) keep({ item: order[place], flag: on });
}

const KEYS = {
  y: () => answer("yes"),
  m: () => answer("maybe"),
  n: () => answer("no"),
  u: undo,
  f: () => flag(!at("flag").checked),
  t: () => at("note").focus(),
  ArrowLeft: () => show(place - 1),
  ArrowRight: () => show(place + 1),
  "?": () => at("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || at("help").open) return;
  if (document.activeElement === at("note")) {
    if (event.key === "Enter" || event.key === "Escape") at("note").blur();
    return;
  }
  const todo = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (todo) {
    event.preventDefault();
    todo();
  }
});
for (const name of BUTTONS) at(name).addEventListener("click", () => answer(name));
at("undo").addEventListener("click", undo);
at("back").addEventListener("click", () => show(place - 1));
at("forth").addEventListener("click", () => show(place + 1));
at("ask").addEventListener("click", () => at("help").showModal());
at("flag").addEventListener("change", (event) => flag(event.target.checked));
at("note").addEventListener("blur", keepNote);

async function load() {
  try {
    ({ order, entries } = await ask("session"));
    return true;
  } catch (error) {
    say(error.message);
    return false;
  }
}

// Another tab may have answered in the meantime.
window.addEventListener("focus", async () => {
  if (busy || !(await sent)) return;
  if (await load()) drawEntry();
});

load().then((there) => there && show(firstOpen(0)));
