// One saga's events as a picture: a line for the states, one for each step, in the order of time. Never asks for anything.
import { clock, el, ms, span } from "./dom.js";

const OPEN = new Set(["pending", "compensating"]);
/** Between two events at least so much room, of what the longest pause between two has. */
const LEAST = 0.08;
/** Times that would be closer, in percent of the picture, are not written. */
const LABEL_PERCENT = matchMedia("(max-width: 720px)").matches ? 24 : 16;

/** What the events make of the saga: its states and steps, each as a list of stretches of time. */
export function tell(events, saga, now) {
  const end = saga.outcome ? Math.max(...events.map(({ at }) => ms(at)), ms(saga.at)) : Math.max(now, ms(saga.at));
  const states = [];
  const steps = new Map();
  const anomalies = new Map(saga.anomalies.map(({ event_id, kind }) => [event_id, kind]));
  for (const event of events) {
    const at = ms(event.at);
    const kind = anomalies.get(event.event_id);
    // What should not be does not count, but for what came after the end.
    if (event.state && kind !== "foreign_state") {
      if (states.length) states.at(-1).to = at;
      states.push({ name: event.state, from: at, to: end, service: event.source, outcome: event.outcome });
    }
    if (event.step) {
      const step = steps.get(event.step) ?? { name: event.step, service: event.source, stretches: [] };
      steps.set(event.step, step);
      const last = step.stretches.at(-1);
      if (last?.open) last.to = at;
      step.status = event.status ?? "pending";
      const open = OPEN.has(step.status);
      // A result ends the work that was reported before it; without one nobody knows when that began.
      if (last?.open && !open) Object.assign(last, { status: step.status, open });
      else step.stretches.push({ status: step.status, from: at, to: open ? end : at, open });
    }
  }
  return { states, steps: [...steps.values()].sort((a, b) => a.stretches[0].from - b.stretches[0].from), anomalies, end };
}

/** Gives each time its place in percent: pauses are drawn shorter than they were, so that one of days leaves room for the rest. */
export function scale(times) {
  const sorted = [...new Set(times)].sort((a, b) => a - b);
  const gaps = sorted.slice(1).map((time, index) => (time - sorted[index]) ** 0.4);
  const least = Math.max(...gaps, 1) * LEAST;
  const places = [0];
  for (const gap of gaps) places.push(places.at(-1) + Math.max(gap, least));
  const whole = places.at(-1) || 1;
  const known = new Map(sorted.map((time, index) => [time, (places[index] / whole) * 100]));
  return (time) => known.get(time) ?? 0;
}

/** Draws it. The table under it says the same to those who cannot see it. */
export function draw(events, saga, now) {
  const { states, steps, anomalies, end } = tell(events, saga, now);
  const start = Math.min(ms(saga.started_at), ...events.map(({ at }) => ms(at)));
  const times = [start, end, ...events.map(({ at }) => ms(at))];
  const place = scale(times);
  const at = (element, from, to) => {
    element.style.left = `${place(from)}%`;
    if (to !== undefined) element.style.width = `${Math.max(place(to) - place(from), 0)}%`;
    return element;
  };

  const ticks = el("div", { class: "ticks" });
  // A label is beside its line, in the second half before it.
  let free = -Infinity;
  for (const time of [...new Set(times)].sort((a, b) => a - b)) {
    const here = place(time);
    const from = here > 50 ? here - LABEL_PERCENT : here;
    const isWritten = from >= free && (here <= 100 - LABEL_PERCENT || time === end);
    if (isWritten) free = from + LABEL_PERCENT;
    const label = time === start ? "0" : time === end && !saga.outcome ? "now" : `+${span(time - start)}`;
    const text = isWritten && el("span", { class: here > 50 ? "before" : "" }, label);
    ticks.append(at(el("span", { class: isWritten ? "tick written" : "tick" }, text), time));
  }

  const line = (name, service, ...marks) =>
    el("div", { class: "line" }, el("div", { class: "of" }, el("b", {}, name), el("small", {}, service)), el("div", { class: "track" }, ...marks));
  const bar = (tone, from, to, open, text, title) =>
    at(el("span", { class: `stretch ${tone}${open ? " open" : ""}`, title }, el("span", {}, text)), from, to);
  const alarm = (event) => at(el("i", { class: "alarm", title: words(anomalies.get(event.event_id)) }), ms(event.at));
  const odd = events.filter(({ event_id }) => anomalies.has(event_id));

  const lines = [
    line(
      "State",
      states[0]?.service ?? "",
      ...states.map(({ name, from, to }, index) => {
        const isLast = index === states.length - 1;
        const isEnd = isLast && !!saga.outcome;
        const tone = isLast ? toneOf(saga) : "past";
        const title = isEnd ? `${name}, ${words(saga.outcome)}: ${clock(from, now)}` : `${name}: ${span(to - from)}`;
        return bar(`state ${tone}${isEnd ? " end" : ""}`, from, to, isLast && !saga.outcome, name, title);
      }),
    ),
    ...steps.map(({ name, service, stretches }) =>
      line(
        name,
        service,
        ...stretches.map(({ status, from, to, open }) => bar(`step ${status}`, from, to, open, "", `${name}: ${words(status)}, ${span(to - from)}`)),
        ...stretches.map(({ status, from, to, open }) => at(el("i", { class: `mark ${status}`, title: `${name}: ${words(status)}` }), open ? from : to)),
      ),
    ),
    ...(saga.remaining_steps ?? [])
      .filter((name) => !steps.some((step) => step.name === name))
      .map((name) => line(name, "to come")),
    odd.length > 0 && line("Anomalies", [...new Set(odd.map(({ source }) => source))].join(", "), ...odd.map(alarm)),
  ].filter(Boolean);
  const label = `${saga.saga_id}: ${states.map(({ name }) => name).join(", then ")}. ${steps.map(({ name, status }) => `${name} ${words(status)}`).join(", ")}.`;
  return el("div", { class: saga.outcome ? "picture over" : "picture", role: "img", "aria-label": label }, ticks, ...lines);
}

/** The events, each with what it said. */
export function table(events, saga, now) {
  const start = ms(saga.started_at);
  const anomalies = new Map(saga.anomalies.map(({ event_id, kind }) => [event_id, kind]));
  const row = (event) => {
    const odd = anomalies.get(event.event_id);
    const said = [
      event.state && el("span", { class: "word" }, event.state),
      event.outcome && el("span", { class: `pill ${toneOf(event)}` }, words(event.outcome)),
      event.step && el("span", { class: "word" }, event.step),
      event.step && el("span", { class: `status ${event.status ?? "pending"}` }, words(event.status ?? "pending")),
      odd && el("span", { class: "pill late" }, words(odd)),
    ];
    return el(
      "tr",
      {},
      el("td", { class: "time", title: event.at }, `+${span(ms(event.at) - start)}`),
      el("td", { class: "who" }, event.source),
      el("td", { class: "what" }, event.event_type),
      el("td", {}, ...said.filter(Boolean).flatMap((part) => [part, " "])),
    );
  };
  const head = ["After", "Service", "Event", "It said"].map((name) => el("th", { scope: "col" }, name));
  return el(
    "table",
    {},
    el("caption", {}, `Events since ${clock(start, now)}`),
    el("thead", {}, el("tr", {}, ...head)),
    el("tbody", {}, ...events.map(row)),
  );
}

/** How a saga looks: at work, late, or how it ended. */
export function toneOf(saga) {
  if (saga.outcome) return saga.outcome === "completed" ? "good" : saga.outcome === "cancelled" ? "quiet" : "bad";
  return saga.stuck_since ? "late" : "work";
}

export const words = (name) => name.replaceAll("_", " ");
