// The console page: what the daemon's sagas are doing, for people. Sees no more than its token may.
import { Daemon, Refusal } from "./daemon.js";
import { age, clock, el, keep, ms, span, write } from "./dom.js";
import { draw, table, toneOf, words } from "./timeline.js";

const REFRESH_MS = 2_000;
/** Rows that are live at once: a connection has 64 subscriptions, and the open saga needs one. */
const LIVE_ROWS = 50;
const ROWS_MOST = 1_000;
/** A relay writes every 10 s how far it is: later than this it is behind. */
const BEHIND_MS = 30_000;
const SETTLE_MS = 150;

const $ = (selector) => document.querySelector(selector);
const daemon = new Daemon(showLocked);

const PICKS = {
  going: { name: "In progress", query: { finished: "false" }, none: "No saga is in progress." },
  stuck: { name: "Stuck", query: { stuck: "true" }, none: "No saga is stuck." },
  ended: { name: "Ended", query: { finished: "true", newest: "true" }, none: "No saga has ended lately." },
};

let overview = { types: [], sources: [] };
/** What the list shows: a pick, or a type and a state, or what was found by id. */
let shown = { pick: "going" };
let limit = LIVE_ROWS;
let rows = [];
let more = false;
/** The saga that is open: its name, what is known of it, its watch. */
let opened = null;
let refreshing = 0;
let timer;

// ---- the token

function showLocked(error = "") {
  close();
  rows = [];
  overview = { types: [], sources: [] };
  keep($("#rows"), [], () => "", null);
  $("#locked").hidden = false;
  for (const part of ["#sagas", ".search", ".link", "#lock", "#help-open"]) $(part).hidden = true;
  $("#token-error").textContent = error;
  $("#token").value = "";
  $("#token").focus();
}

async function unlock(token) {
  const button = $("#unlock button");
  button.disabled = true;
  daemon.unlock(token.trim());
  try {
    await load();
  } catch (error) {
    // Without a grant there is no overview; single sagas may be seen all the same.
    if (!(error instanceof Refusal)) throw error;
    if (error.kind === "away") {
      daemon.lock();
      $("#token-error").textContent = `${error.message}. Try again in a moment.`;
    }
    if (error.kind !== "forbidden") return;
  } finally {
    button.disabled = false;
  }
  $("#locked").hidden = true;
  for (const part of ["#sagas", ".search", ".link", "#lock", "#help-open"]) $(part).hidden = false;
  $("#token").value = "";
  route();
  refresh();
}

// ---- what is loaded

/** The counts, and the list that is shown. */
async function load() {
  const mine = ++refreshing;
  const wanted = shown;
  const counts = await daemon.get("v1/overview");
  const list = wanted.found ? null : await daemon.get("v1/sagas", { ...queryOf(wanted), limit });
  if (mine !== refreshing) return;
  daemon.skew = ms(counts.now) - Date.now();
  overview = counts;
  if (list) {
    rows = list.sagas;
    more = list.after !== null && limit < ROWS_MOST;
  }
}

function queryOf({ pick, saga_type, state, ended }) {
  if (pick) return PICKS[pick].query;
  return { saga_type, state, newest: ended ? "true" : "" };
}

/** Loads again and again while somebody looks. */
async function refresh() {
  clearTimeout(timer);
  if (daemon.isLocked) return;
  try {
    if (!document.hidden) await load();
    tellLink("good", "live");
    notice("");
  } catch (error) {
    if (error.kind === "locked") return;
    if (error.kind === "away") {
      tellLink("bad", "away");
      notice(`${error.message}. Trying again; what is shown may be out of date.`);
    } else if (error.kind === "forbidden") {
      tellLink("good", "live");
      shown = { ...shown, forbidden: true };
    } else throw error;
  }
  render();
  timer = setTimeout(refresh, REFRESH_MS);
}

function tellLink(tone, word) {
  $(".link").dataset.tone = tone;
  write($(".link .text"), word);
}

function notice(text) {
  const line = $("body > .notice");
  line.hidden = !text;
  write(line, text);
}

// ---- types, states, sources

function render() {
  renderTypes();
  renderSources();
  renderList();
}

const total = (states, count) => states.reduce((sum, state) => sum + count(state), 0);
const endedOf = (state) => Object.values(state.outcomes).reduce((sum, count) => sum + count, 0);
const goingOf = (state) => state.sagas - endedOf(state);

function renderTypes() {
  const all = overview.types.flatMap(({ states }) => states);
  const counts = {
    stuck: total(all, (state) => state.stuck),
    going: total(all, goingOf),
    ended: total(all, endedOf),
  };
  keep($("#picks"), ["stuck", "going", "ended"], (pick) => pick, (pick) => {
    const count = el("span", { class: "count" });
    const button = el("button", { type: "button", class: `pick ${pick}`, onclick: () => show({ pick }) }, el("span", {}, PICKS[pick].name), count);
    const update = () => {
      write(count, counts[pick].toLocaleString());
      button.classList.toggle("some", counts[pick] > 0);
      current(button, shown.pick === pick);
    };
    return { element: el("li", {}, button), update };
  });

  keep($("#types"), overview.types, ({ saga_type }) => saga_type, ({ saga_type }) => {
    const list = el("ul", {});
    const element = el("section", { class: "type", "aria-label": saga_type }, el("h2", {}, saga_type), list);
    const update = ({ states }) => {
      const most = Math.max(...states.map(({ sagas }) => sagas));
      // Stuck first, then what is under way, then what has ended.
      const rank = (state) => (state.stuck ? 0 : goingOf(state) ? 1 : 2);
      const sorted = [...states].sort((a, b) => rank(a) - rank(b) || b.sagas - a.sagas || (a.state ?? "").localeCompare(b.state ?? ""));
      keep(list, sorted, ({ state }) => state ?? "", (first) => stateRow(saga_type, first, () => most));
    };
    return { element, update };
  });
}

function stateRow(saga_type, { state }, most) {
  const meter = el("span", { class: "meter" });
  const count = el("span", { class: "count" });
  const stuck = el("span", { class: "pill late" });
  const name = el("span", { class: "name" }, state ?? "no state yet");
  const button = el("button", { type: "button", class: "state" }, name, stuck, count, meter);
  let ended = false;
  button.addEventListener("click", () => show({ saga_type, state, ended }));
  const update = (it) => {
    ended = goingOf(it) === 0;
    const outcome = Object.entries(it.outcomes).sort(([, a], [, b]) => b - a)[0]?.[0];
    button.dataset.tone = toneOf({ outcome: ended ? outcome : null, stuck_since: it.stuck });
    write(count, it.sagas.toLocaleString());
    stuck.hidden = !it.stuck;
    write(stuck, `${it.stuck.toLocaleString()} stuck`);
    meter.style.width = `${(it.sagas / most()) * 100}%`;
    current(button, shown.saga_type === saga_type && shown.state === state);
  };
  return { element: el("li", {}, button), update };
}

function renderSources() {
  $("#sources").hidden = !overview.sources.length;
  keep($("#sources ul"), overview.sources, ({ source }) => source, ({ source }) => {
    const delay = el("span", { class: "delay" });
    const element = el("li", {}, el("span", { class: "dot" }), el("span", { class: "name" }, source), delay);
    const update = ({ published_until }) => {
      const late = daemon.now() - ms(published_until);
      element.dataset.tone = late > BEHIND_MS ? "late" : "good";
      element.title = `Everything that ${source} committed before ${clock(ms(published_until), daemon.now())} is in the log.`;
      write(delay, late > BEHIND_MS ? `${age(late)} behind` : late < 1_000 ? "now" : `${age(late)} ago`);
    };
    return { element, update };
  });
}

const current = (element, is) => (is ? element.setAttribute("aria-current", "true") : element.removeAttribute("aria-current"));

// ---- the list

function show(what) {
  shown = what;
  limit = LIVE_ROWS;
  rows = [];
  more = false;
  document.body.dataset.view = "list";
  $("#list").classList.add("loading");
  renderTypes();
  renderList();
  refresh();
}

function nameOfList() {
  const { pick, state, found } = shown;
  if (found) return `Found: ${found}`;
  return pick ? PICKS[pick].name : (state ?? "No state yet");
}

function renderList() {
  write($("#list-name"), nameOfList());
  const of = shown.saga_type ?? (shown.pick === "ended" ? "the last first" : "longest without a change first");
  write($("#list-count"), shown.forbidden ? "" : of);
  const sorted = shown.pick === "going" ? [...rows].sort((a, b) => !!b.stuck_since - !!a.stuck_since) : rows;
  keep($("#rows"), sorted, ({ saga_type, saga_id }) => JSON.stringify([saga_type, saga_id]), sagaRow);
  $("#list").classList.remove("loading");
  $("#more").hidden = !more;
  const empty = $("#list-empty");
  empty.hidden = rows.length > 0;
  if (rows.length === 0) empty.replaceChildren(...emptyList());
}

function emptyList() {
  if (shown.forbidden) {
    const form = el("form", { class: "single", onsubmit: openTyped }, el("input", { name: "saga_type", placeholder: "type", "aria-label": "Type", required: true, autocomplete: "off" }), el("input", { name: "saga_id", placeholder: "id", "aria-label": "Id", required: true, autocomplete: "off" }), el("button", { class: "main" }, "Show"));
    return [el("h2", {}, "This token has no grant for a whole type"), el("p", {}, "It may see its user's own sagas. Which one?"), form];
  }
  if (shown.found) return [el("h2", {}, "Nothing found"), el("p", {}, "No saga of any type that this token may see has this id. It may have been forgotten.")];
  if (overview.types.length === 0) {
    const example = "insert into outbox.event (…, saga_type, saga_id, saga_user, saga_state) values (…)";
    return [el("h2", {}, "No sagas yet"), el("p", {}, "One begins with the first event that names it:"), el("pre", {}, el("code", {}, example))];
  }
  return [el("h2", {}, shown.pick ? PICKS[shown.pick].none : "No saga is in this state."), el("p", {}, "This page shows them as soon as there are some.")];
}

function openTyped(event) {
  event.preventDefault();
  const { saga_type, saga_id } = Object.fromEntries(new FormData(event.target));
  go(saga_type.trim(), saga_id.trim());
}

function sagaRow({ saga_type, saga_id }) {
  const state = el("span", { class: "word" });
  const steps = el("span", { class: "steps" });
  const changed = el("span", { class: "age" });
  const stuck = el("span", { class: "pill late" });
  const type = el("span", { class: "of" }, saga_type);
  const button = el(
    "button",
    { type: "button", class: "row", onclick: () => go(saga_type, saga_id) },
    el("span", { class: "dot" }),
    el("span", { class: "id" }, saga_id, type),
    changed,
    el("span", { class: "now" }, state, stuck),
    steps,
  );
  let saga;
  const draw = () => {
    button.dataset.tone = toneOf(saga);
    type.hidden = !!shown.saga_type;
    write(state, saga.state ?? "no state yet");
    stuck.hidden = !saga.stuck_since;
    if (saga.stuck_since) write(stuck, `stuck ${age(daemon.now() - ms(saga.stuck_since))}`);
    write(changed, age(daemon.now() - ms(saga.at)));
    const counted = Object.entries(Object.groupBy?.(saga.steps, ({ status }) => status) ?? {});
    steps.setAttribute("aria-label", counted.map(([status, of]) => `${of.length} ${words(status)}`).join(", "));
    keep(steps, saga.steps, ({ step }) => step, () => {
      const element = el("i", {});
      return { element, update: ({ step, status }) => Object.assign(element, { className: status, title: `${step}: ${words(status)}` }) };
    });
    current(button, opened?.saga_type === saga_type && opened?.saga_id === saga_id);
  };
  const take = (next) => {
    if (saga && next.version < saga.version) return;
    if (saga && next.version > saga.version) flash(button);
    saga = next;
    draw();
  };
  let watch;
  const element = el("li", {}, button);
  const update = (next) => {
    take(next);
    // Those that have ended hardly change.
    const isLive = !saga.outcome && rows.indexOf(next) < LIVE_ROWS;
    if (isLive) watch ??= daemon.watch(saga_type, saga_id, { onSnapshot: take, onChange: (_, after) => take(after) });
  };
  return { element, update, gone: () => watch?.close() };
}

function flash(element) {
  element.classList.remove("changed");
  // Read, so that the class begins anew.
  void element.offsetWidth;
  element.classList.add("changed");
}

async function find(id) {
  show({ found: id });
  const types = overview.types.map(({ saga_type }) => saga_type);
  const looked = types.map((type) => daemon.get(`v1/sagas/${encodeURIComponent(type)}/${encodeURIComponent(id)}`).catch(() => null));
  const found = (await Promise.all(looked)).filter(Boolean);
  if (shown.found !== id) return;
  rows = found;
  renderList();
  if (found.length === 1) go(found[0].saga_type, id);
}

// ---- one saga

const go = (saga_type, saga_id) => (location.hash = `#/${encodeURIComponent(saga_type)}/${encodeURIComponent(saga_id)}`);

/** Opens what the address names. */
function route() {
  if (daemon.isLocked) return;
  const [, type, id] = /^#\/([^/]+)\/(.+)$/.exec(location.hash) ?? [];
  if (!type) close();
  else open(decodeURIComponent(type), decodeURIComponent(id));
}

function close() {
  const wasOpen = opened;
  opened?.watch?.close();
  clearTimeout(opened?.loading);
  opened = null;
  if (document.body.dataset.view === "saga") document.body.dataset.view = "list";
  const rest = el("div", { class: "empty" }, el("h2", {}, "One saga's time line"), el("p", {}, "Choose a saga to see its states, its steps, and who did what when."));
  $("#saga").replaceChildren(rest);
  if (wasOpen && !daemon.isLocked) {
    renderList();
    rowOf(wasOpen)?.focus();
  }
}

const rowOf = ({ saga_type, saga_id }) => $("#rows").kept?.get(JSON.stringify([saga_type, saga_id]))?.element.firstElementChild;

function open(saga_type, saga_id) {
  opened?.watch?.close();
  const mine = { saga_type, saga_id, saga: null, events: null, status: "connecting", trouble: "" };
  opened = mine;
  document.body.dataset.view = "saga";
  const take = (saga) => {
    mine.saga = saga;
    renderSaga();
    clearTimeout(mine.loading);
    mine.loading = setTimeout(() => loadEvents(mine), SETTLE_MS);
  };
  mine.watch = daemon.watch(saga_type, saga_id, {
    onSnapshot: take,
    onChange: (_, saga) => take(saga),
    onStatus: (status) => {
      mine.status = status;
      if (mine === opened) renderSaga();
    },
  });
  renderSaga();
  renderList();
  $("#saga").focus({ preventScroll: true });
}

/** What the log says of it; a later version asks again. */
async function loadEvents(mine) {
  const { saga_type, saga_id } = mine;
  try {
    const told = await daemon.get(`v1/sagas/${encodeURIComponent(saga_type)}/${encodeURIComponent(saga_id)}/events`);
    Object.assign(mine, { events: told.events, whole: told.whole, trouble: "" });
  } catch (error) {
    mine.trouble = error.kind === "forbidden" ? "The events of a saga need a grant for its type; here is what its snapshot says." : "Its events could not be read from the log now.";
  }
  if (mine === opened) renderSaga();
}

/** What can be drawn of a snapshot alone. */
function eventsOf(saga) {
  const steps = saga.steps.map(({ step, status, at }) => ({ step, status, at, source: "" }));
  const state = saga.state ? [{ state: saga.state, at: saga.started_at, source: "" }] : [];
  return [...state, ...steps];
}

function renderSaga() {
  const { saga_type, saga_id, saga, status, events, whole, trouble } = opened;
  const back = el("button", { class: "back", type: "button", onclick: () => (location.hash = "#") }, "All sagas");
  const name = el("div", { class: "head" }, el("p", { class: "of" }, saga_type), el("h1", {}, saga_id));
  if (!saga) {
    const waiting = [el("h2", {}, "No such saga"), el("p", {}, "There is none with this type and id, it has been forgotten, or this token may not see it. It is shown here if it comes.")];
    const what = status === "waiting" ? waiting : [el("p", {}, "Connecting…")];
    return $("#saga").replaceChildren(back, name, el("div", { class: "empty" }, ...what));
  }
  const now = daemon.now();
  const from = ms(saga.started_at);
  const took = saga.outcome ? `took ${span(ms(saga.at) - from)}` : `for ${span(Math.floor((now - from) / 1_000) * 1_000)}`;
  const facts = el(
    "p",
    { class: "facts", role: "status" },
    el("span", { class: `pill ${toneOf(saga)}` }, saga.state ?? "no state yet"),
    saga.outcome && el("span", { class: "outcome" }, words(saga.outcome)),
    el("span", {}, took),
    el("span", {}, `since ${clock(from, now)}`),
    status !== "live" && el("span", { class: "pill quiet" }, status === "connecting" ? "connecting…" : status),
  );
  const notes = [
    saga.stuck_since && el("p", { class: "note late" }, `Stuck: it should have left ${saga.state} at ${clock(ms(saga.stuck_since), now)}, ${span(Math.floor((now - ms(saga.stuck_since)) / 1_000) * 1_000)} ago.`),
    saga.due_compensations?.length > 0 && el("p", { class: "note" }, `To be undone: ${saga.due_compensations.map(({ step, compensation }) => `${step} by ${compensation}`).join(", ")}.`),
    saga.anomalies.length > 0 && el("p", { class: "note late" }, `Should not have happened: ${[...new Set(saga.anomalies.map(({ kind }) => words(kind)))].join(", ")}.`),
    (saga.partial || whole === false) && el("p", { class: "note" }, "The log's beginning is gone: what happened before is not shown."),
    trouble && el("p", { class: "note" }, trouble),
  ];
  const told = events?.length ? events : eventsOf(saga);
  const parts = [back, name, facts, ...notes.filter(Boolean), draw(told, saga, now), events?.length && el("div", { class: "events" }, table(events, saga, now))];
  $("#saga").replaceChildren(...parts.filter(Boolean));
}

// ---- what people do

$("#unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  unlock($("#token").value);
});
$("#lock").addEventListener("click", () => {
  daemon.lock();
  showLocked();
});
$(".brand").addEventListener("click", () => daemon.isLocked || show({ pick: "going" }));
$(".search").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = $("#search").value.trim();
  if (id) find(id);
});
$("#more").addEventListener("click", () => {
  limit = Math.min(limit + 100, ROWS_MOST);
  refresh();
});
$("#list .back").addEventListener("click", () => (document.body.dataset.view = "types"));
$("#help-open").addEventListener("click", () => $("#help").showModal());
$("#help-close").addEventListener("click", () => $("#help").close());
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => document.hidden || refresh());

addEventListener("keydown", (event) => {
  if (daemon.isLocked || event.ctrlKey || event.metaKey || event.altKey || $("#help").open) return;
  const isTyping = event.target.matches("input, textarea");
  if (event.key === "Escape") {
    if (isTyping) event.target.blur();
    else if (opened) location.hash = "#";
    return;
  }
  if (isTyping) return;
  const buttons = [...$("#rows").querySelectorAll(".row")];
  const at = buttons.indexOf(document.activeElement.closest?.(".row"));
  const steps = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };
  if (event.key === "/") $("#search").focus();
  else if (event.key === "?") $("#help").showModal();
  else if (event.key in steps && (at >= 0 || event.key.length === 1)) buttons[Math.max(0, Math.min(at + steps[event.key], buttons.length - 1))]?.focus();
  else return;
  event.preventDefault();
});

// Ages go on also when nothing happens.
setInterval(() => {
  if (daemon.isLocked || document.hidden) return;
  renderSources();
  if (opened?.saga && !opened.saga.outcome && !$("#saga").contains(getSelection().anchorNode)) renderSaga();
}, 1_000);

// For demonstrations: a token behind the #, which browsers send to nobody, and which is taken out of the address at once.
const given = /^#token=([\w.-]+)$/.exec(location.hash)?.[1];
if (given) history.replaceState(null, "", location.pathname);
showLocked();
if (given) unlock(given);
