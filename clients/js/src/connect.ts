// One connection for any number of watches: when to connect and by which way, what to make of an end, and who hears what.
import { fold, type News } from "./fold.js";
import { poll, socket, stream, type Frame, type Link, type Subscription } from "./transports.js";
import type { Change, Client, Handlers, Options, OutboxdError, Saga, Status, Watch } from "./types.js";

/** From the best to what always works. */
const WAYS = [socket, stream, poll];
/** A connection that is not ready by then will not be. */
const OPENING_MS = 10_000;
/** The daemon says something every heartbeat; that may come late. */
const SLACK_MS = 10_000;
/** A connection that held for so long was a good one. */
const GOOD_MS = 10_000;
const BACKOFF_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const TICK_MS = 2_000;
/** A token is not asked for again sooner, whether it could be had or not. */
const CALM_MS = 5_000;

/** One call of `watch`. */
interface Watcher {
  handlers: Handlers;
  /** Loops over it; called without a saga at its end. */
  readers: Set<(saga?: Saga) => void>;
  closed?: boolean;
  error?: OutboxdError | undefined;
}

interface Watched extends Subscription {
  status: Status;
  watchers: Set<Watcher>;
  /** Of a whole type: what has been seen since it was asked for. */
  seen: Set<string>;
}

/** Prepares a connection to outboxd; it is made with the first watch. */
export function connect({ url, token }: Options): Client {
  const base = new URL(url, globalThis.location?.href);
  base.protocol = base.protocol.replace("ws", "http");
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  const memory = `outboxd ${base}`;
  const watched = new Map<string, Watched>();
  const first = typeof WebSocket === "undefined" ? 1 : 0;

  let over: { error?: OutboxdError | undefined } | undefined;
  let link: Link | undefined;
  /** Whatever belongs to an earlier one is void. */
  let turn = 0;
  let idle = true;
  let ticker: ReturnType<typeof setInterval> | undefined;
  let waiting: ReturnType<typeof setTimeout> | undefined;
  let lastId = 1;
  let epoch: string | undefined;
  let heartbeatMs = 0;
  /** When it is dead if nothing has come. */
  let dueAt = Infinity;
  /** When to show a new token, and when at the earliest. */
  let renewAt = Infinity;
  let calmAt = 0;
  /** When it was ready; 0: not yet. */
  let readyAt = 0;
  /** Attempts since a good connection. */
  let attempts = 0;
  /** Those of another way than a WebSocket that failed since one was ready. */
  let failures = 0;
  /** Tokens that were refused over HTTP, one after another. */
  let refusals = 0;
  /** The WebSocket failed while the daemon could be asked. */
  let suspicious = false;
  const life = new AbortController();
  const storage = tabStorage();
  let best = Math.max(first, Number(storage?.getItem(memory)));
  let way = best;

  async function open(): Promise<void> {
    drop();
    const mine = turn;
    dueAt = renewAt = Infinity;
    readyAt = 0;
    idle = false;
    ticker ??= setInterval(check, TICK_MS);
    const shown = await ask(mine);
    if (shown === undefined) {
      if (mine === turn) retry();
      return;
    }
    if (!shown) return;
    dueAt = Date.now() + OPENING_MS;
    const host = {
      base,
      token: shown,
      epoch: () => epoch,
      subscriptions: () => [...watched.values()],
      take: (frame: Frame) => mine === turn && take(frame),
      ended: (...how: [number, string?, [number, number]?]) => mine === turn && ended(...how),
    };
    try {
      link = WAYS[way]!(host);
      host.subscriptions().forEach(link.subscribe);
    } catch {
      // Such as a page over https that may not open a ws:// address.
      ended(1006);
    }
  }

  /** A token; `undefined`: not now, `""`: there is no use for one any more. */
  async function ask(mine: number): Promise<string | undefined> {
    let shown;
    try {
      shown = await token();
    } catch (error) {
      console.error(error);
      return undefined;
    }
    if (mine !== turn) return "";
    if (!shown) close(failure("no_token", "no token"));
    return shown || "";
  }

  async function renew(): Promise<void> {
    renewAt = Infinity;
    if (!link?.renew) return;
    const mine = turn;
    const shown = await ask(mine);
    if (mine !== turn) return;
    if (shown) link.renew(shown);
    else renewAt = Date.now() + CALM_MS;
  }

  /** Leaves the connection, and whatever was about to make one. */
  function drop(): void {
    turn++;
    clearTimeout(waiting);
    waiting = undefined;
    link?.close();
    link = undefined;
    for (const it of watched.values()) {
      it.seen.clear();
      tell(it, "connecting");
    }
  }

  async function ended(code: number, reason?: string, retryAfterMs?: [number, number] | null): Promise<void> {
    if (code === 401) code = refusals++ ? 4201 : 4101;
    if (code >= 4200 && code < 4300) return close(failure(code, reason));
    const wasReady = readyAt;
    drop();
    const mine = turn;
    if (wasReady && Date.now() - wasReady > GOOD_MS) attempts = 0;
    if (!wasReady && code < 4000) await detour(code === 0);
    if (mine === turn) retry(retryAfterMs);
  }

  /** It never was ready, and the daemon did not say why: perhaps something on the way lets only other kinds through. */
  async function detour(silent: boolean): Promise<void> {
    if (way) {
      // A daemon that is away refuses; a proxy that keeps events to itself is silent.
      way = Math.max(first, silent ? (way + 1) % WAYS.length : ++failures % 3 ? best : 0);
      return;
    }
    const signal = AbortSignal.timeout(OPENING_MS);
    const answer = await fetch(new URL("v1/ws", base), { signal }).catch(() => undefined);
    const isUp = !!answer && answer.status < 500;
    // Once may be a daemon that has just come back.
    if (isUp && (suspicious || silent)) way = 1;
    suspicious = isUp && !way;
  }

  /** Comes back after a random time: within the window that the daemon named, and longer each time. */
  function retry(window?: [number, number] | null): void {
    const [from, to] = window ?? [0, 0];
    const backoff = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** attempts++);
    waiting = setTimeout(open, from + Math.random() * (to - from) + Math.random() * backoff);
  }

  function close(error?: OutboxdError): void {
    if (over) return;
    over = { error };
    for (const it of watched.values()) fail(it, error);
    drop();
    clearInterval(ticker);
    life.abort();
  }

  /** By timestamps: timers stand still while a machine sleeps or a page is hidden. */
  function check(): void {
    const now = Date.now();
    if (!watched.size) {
      drop();
      clearInterval(ticker);
      ticker = undefined;
      idle = true;
    } else if (now > dueAt) {
      ended(0);
    } else if (now > renewAt) {
      renew();
    }
  }

  const reopen = () => idle || open();
  const on = (target: EventTarget | undefined, name: string, listener: (event: Event) => unknown) =>
    target?.addEventListener?.(name, listener, { signal: life.signal });
  on(globalThis.document, "visibilitychange", () => document.hidden || (waiting ? open() : check()));
  on(globalThis, "pageshow", (event) => (event as PageTransitionEvent).persisted && reopen());
  on(globalThis, "online", () => {
    // Another network: what the last one let through says nothing.
    best = way = first;
    reopen();
  });

  function take(frame: Frame): void {
    const now = Date.now();
    switch (frame.type) {
      case "ready":
        ready(frame, now);
        break;
      case "subscribed":
        subscribed(byId(frame), frame.mode);
        break;
      case "snapshot":
      case "change":
        for (const id of [frame.saga_id, undefined]) {
          const it = watched.get(key(frame.saga_type, id));
          if (it) hear(it, frame as News);
        }
        break;
      case "expiring":
        // A token that is about to expire from the first is not asked for again and again.
        renewAt = Math.min(renewAt, calmAt);
        if (now > renewAt) renew();
        break;
      case "error": {
        const it = frame.saga_type ? watched.get(key(frame.saga_type, frame.saga_id)) : byId(frame);
        if (it) fail(it, failure(frame.code, frame.message));
        break;
      }
      case "bye":
        // It says more than the close that would follow.
        ended(frame.code, frame.reason, frame.retry_after_ms);
        break;
    }
    dueAt = now + heartbeatMs + SLACK_MS;
  }

  function byId({ id }: Frame): Watched | undefined {
    return [...watched.values()].find((it) => it.id === id);
  }

  function ready(frame: Frame, now: number): void {
    if (frame.epoch && frame.epoch !== epoch) {
      epoch = frame.epoch;
      for (const it of watched.values()) it.sagas.clear();
    }
    heartbeatMs = (frame.heartbeat_s ?? 25) * 1000;
    renewAt = frame.refresh_in_s ? now + frame.refresh_in_s * 1000 : Infinity;
    calmAt = now + CALM_MS;
    readyAt ||= now;
    failures = refusals = 0;
    suspicious = false;
    best = way;
    storage?.setItem(memory, `${way}`);
  }

  function subscribed(it: Watched | undefined, mode: string): void {
    if (!it) return;
    if (mode === "waiting") tell(it, mode);
    if (mode === "live") {
      it.gap = false;
      for (const id of it.saga_id === undefined ? it.sagas.keys() : []) if (!it.seen.has(id)) it.sagas.delete(id);
    }
    if (mode === "resumed" || mode === "live") tell(it, "live");
  }

  function hear(it: Watched, news: News): void {
    const id = news.saga_id;
    const saga = fold(it.sagas.get(id), news);
    it.seen.add(id);
    if (saga === "gap") {
      if (!it.gap) {
        it.gap = true;
        link?.subscribe(it);
      }
      return;
    }
    if (saga !== "old") {
      it.sagas.set(id, saga);
      for (const watcher of it.watchers) show(watcher, saga, news.type === "change" ? news : undefined);
    }
    if (it.saga_id !== undefined && news.type === "snapshot") {
      it.gap = false;
      tell(it, "live");
    }
  }

  function show({ handlers, readers }: Watcher, saga: Saga, change?: Change): void {
    call(() => (change ? handlers.onChange?.(change, saga) : handlers.onSnapshot?.(saga)));
    for (const reader of readers) reader(saga);
  }

  function tell(it: Watched, status: Status): void {
    if (it.status === status) return;
    it.status = status;
    for (const { handlers } of it.watchers) call(() => handlers.onStatus?.(status));
  }

  /** Ends a subscription for everybody. */
  function fail(it: Watched, error?: OutboxdError): void {
    for (const watcher of it.watchers) leave(it, watcher, error);
  }

  /** Ends it for one; with the last it ends. */
  function leave(it: Watched, watcher: Watcher, error?: OutboxdError): void {
    if (watcher.closed) return;
    watcher.closed = true;
    watcher.error = error;
    it.watchers.delete(watcher);
    const name = key(it.saga_type, it.saga_id);
    if (!it.watchers.size && watched.get(name) === it) {
      watched.delete(name);
      link?.unsubscribe(it);
    }
    call(() => watcher.handlers.onStatus?.("closed", error));
    for (const reader of watcher.readers) reader();
  }

  function watch(saga_type: string, sagaId?: string | null, handlers: Handlers = {}): Watch {
    const saga_id = sagaId ?? undefined;
    const name = key(saga_type, saga_id);
    const known = watched.get(name);
    const it: Watched = known ?? {
      id: ++lastId,
      saga_type,
      saga_id,
      sagas: new Map(),
      gap: false,
      status: "connecting",
      watchers: new Set(),
      seen: new Set(),
    };
    const watcher: Watcher = { handlers, readers: new Set() };
    it.watchers.add(watcher);
    // Not before the caller has what this gives.
    queueMicrotask(() => {
      if (over) leave(it, watcher, over.error);
      if (watcher.closed) return;
      for (const saga of it.sagas.values()) show(watcher, saga);
      call(() => handlers.onStatus?.(it.status));
    });
    if (!known && !over) {
      watched.set(name, it);
      if (idle) open();
      else link?.subscribe(it);
    }
    const closeThis = () => leave(it, watcher);
    return {
      close: closeThis,
      async *[Symbol.asyncIterator]() {
        let wake = () => {};
        const pending = new Map(it.sagas);
        const reader = (saga?: Saga) => {
          if (saga) pending.set(saga.saga_id, saga);
          wake();
        };
        watcher.readers.add(reader);
        try {
          for (;;) {
            for (const [id, saga] of pending) {
              pending.delete(id);
              yield saga;
            }
            if (watcher.error) throw watcher.error;
            if (watcher.closed) return;
            await new Promise<void>((resolve) => (wake = resolve));
          }
        } finally {
          watcher.readers.delete(reader);
          closeThis();
        }
      },
    };
  }

  return { watch, close: () => close() };
}

const failure = (code: number | string, message?: string): OutboxdError => Object.assign(new Error(message), { code });

/** A page may be forbidden to keep anything. */
function tabStorage(): Storage | undefined {
  try {
    return sessionStorage;
  } catch {
    return undefined;
  }
}

/** Of a saga, or of a whole type, for which there is no id. */
function key(saga_type: string, saga_id?: string | null): string {
  return JSON.stringify([saga_type, saga_id]);
}

/** An error of the application is its own, also one that comes later. */
async function call(callback: () => unknown): Promise<void> {
  try {
    await callback();
  } catch (error) {
    console.error(error);
  }
}
