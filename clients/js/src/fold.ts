// The rule by which a client follows a saga, and what a change makes of one. Never connects, never asks for the time.
import type { Change, Saga } from "./types.js";

/** A frame that tells of a saga. */
export type News = ({ type: "snapshot" } & Saga) | ({ type: "change" } & Change);

const ANOMALIES = 20;
/** What a change says of the saga as a whole, if it does. */
const SAID = ["state", "outcome", "stuck_since", "remaining_steps", "due_compensations"] as const;

/** The saga after a frame; `old` if that is no news, `gap` if something between is missing. */
export function fold(known: Saga | undefined, news: News): Saga | "old" | "gap" {
  const ahead = !known || news.version > known.version;
  if (news.type === "snapshot") return ahead || news.version === known?.version ? snapshot(news) : "old";
  if (known?.version === (news.previous ?? undefined)) return changed(known ?? first(news), news);
  return ahead ? "gap" : "old";
}

/** Whatever else the frame says is kept: a later daemon may know more of a saga. */
function snapshot(frame: Saga & { type: string; epoch?: string }): Saga {
  const { type: _, epoch: __, ...saga } = frame;
  return saga;
}

function first({ saga_type, saga_id, version, at }: Change): Saga {
  const nothing = { state: null, outcome: null, stuck_since: null, steps: [], anomalies: [], partial: false };
  return { ...nothing, saga_type, saga_id, version, started_at: at, at };
}

function changed(saga: Saga, change: Change): Saga {
  const { version, step, status, anomaly, event_id, at } = change;
  const after: Saga = { ...saga, version };
  // All have the same form, so that text compares as time does.
  if (at > saga.at) after.at = at;
  if (at < saga.started_at) after.started_at = at;
  for (const name of SAID) if (change[name] !== undefined) Object.assign(after, { [name]: change[name] });
  if (step != null) {
    const told = { step, status: status ?? "pending", at };
    after.steps = saga.steps.some((one) => one.step === step)
      ? saga.steps.map((one) => (one.step === step ? told : one))
      : [...saga.steps, told];
  }
  if (anomaly) after.anomalies = [...saga.anomalies, { kind: anomaly, at, event_id: event_id ?? "" }].slice(-ANOMALIES);
  return after;
}
