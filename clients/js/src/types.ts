// What an application sees. Never more than types.

/** How a step is doing. */
export type StepStatus =
  | "pending"
  | "done"
  | "failed"
  | "compensating"
  | "compensated"
  | "compensation_failed"
  | "skipped";

/** How a saga ended. */
export type Outcome = "completed" | "rejected" | "failed" | "cancelled" | "timed_out";

/** Where a step stands. */
export interface Step {
  step: string;
  status: StepStatus;
  /** When that was reported, RFC 3339. */
  at: string;
}

/** A step that has to be undone, and by what. */
export interface Compensation {
  step: string;
  compensation: string;
}

/** Something that should not have happened; it never stops a saga. */
export interface Anomaly {
  kind: string;
  at: string;
  event_id: string;
}

/** A saga as it stands: a new object after each change. Fields of a later daemon are there as they came. */
export interface Saga {
  saga_type: string;
  saga_id: string;
  /** Rises with each change, with holes. */
  version: number;
  /** The home service's word for where the saga stands; null until it has said one. */
  state: string | null;
  /** Not null: the saga has ended. */
  outcome: Outcome | null;
  started_at: string;
  /** When it changed last. */
  at: string;
  steps: Step[];
  /** With a definition: its version, the steps that are still to come, and those that have to be undone. */
  definition?: number;
  remaining_steps?: string[];
  due_compensations?: Compensation[];
  /** Not null: it has been in its state for longer than it may. */
  stuck_since: string | null;
  /** The last 20. */
  anomalies: Anomaly[];
  /** The log's beginning is gone: what happened before is not known. */
  partial: boolean;
}

/** What one event changed. */
export interface Change {
  saga_type: string;
  saga_id: string;
  version: number;
  previous: number | null;
  /** Only if the home service said one. */
  state?: string;
  previous_state?: string | null;
  outcome?: Outcome;
  /** Only if a participant reported on one. */
  step?: string;
  status?: StepStatus;
  remaining_steps?: string[];
  due_compensations?: Compensation[];
  stuck_since?: string | null;
  /** Absent if only time has passed. */
  event_type?: string;
  event_id?: string;
  at: string;
  after_end?: boolean;
  anomaly?: string;
}

/**
 * How a watch is doing.
 *
 * - `connecting`: not connected now; what was shown before may be out of date. The client comes back by itself.
 * - `waiting`: connected, but there is no such saga for this user yet. It is shown once there is.
 * - `live`: what was shown is what is.
 * - `closed`: over, by {@link Watch.close} or with an {@link OutboxdError}.
 */
export type Status = "connecting" | "waiting" | "live" | "closed";

/** Why a watch is over though nobody closed it. */
export interface OutboxdError extends Error {
  /** A close code from 4200 to 4299, or the word of an `error` frame, such as `forbidden`. */
  code: number | string;
}

/** What a watch calls. An error in one of them is written to the console and changes nothing. */
export interface Handlers {
  /** The whole saga: at first, and whenever changes could not tell the way from what was shown before. */
  onSnapshot?: (saga: Saga) => unknown;
  /** One change, and the saga after it. */
  onChange?: (change: Change, saga: Saga) => unknown;
  onStatus?: (status: Status, error?: OutboxdError) => unknown;
}

/**
 * One saga, or all of a type, being watched.
 *
 * `for await (const saga of watch)` gives the saga as it stands now and after changes; a loop that is slower than the
 * changes is given the newest. Leaving the loop closes the watch; an error that closes the watch is thrown.
 */
export interface Watch extends AsyncIterable<Saga> {
  close(): void;
}

/** What {@link connect} needs. */
export interface Options {
  /** Where outboxd serves, such as `https://push.shop.example`; a path is a prefix. */
  url: string | URL;
  /**
   * Gives a token that is good now; asked before each connect, and before the last one ends. What it throws is tried
   * again later. Nothing instead of a token ends all watches.
   */
  token: () => string | null | undefined | Promise<string | null | undefined>;
}

/** One connection for any number of watches; there is none before the first. */
export interface Client {
  /** Watches one saga. */
  watch(sagaType: string, sagaId: string, handlers?: Handlers): Watch;
  /** Watches all sagas of a type, which needs a grant. */
  watch(sagaType: string, sagaId?: null, handlers?: Handlers): Watch;
  /** Ends all watches and the connection. */
  close(): void;
}
