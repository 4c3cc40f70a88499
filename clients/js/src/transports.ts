// The three ways to outboxd: a WebSocket, server-sent events read by fetch, and long-polling. None decides whether or when to
// come back: each says how it ended, once.
import type { Saga } from "./types.js";

/** What is watched, by however many. */
export interface Subscription {
  /** Comes back in answers. */
  id: number;
  saga_type: string;
  /** None: the whole type. */
  saga_id: string | undefined;
  /** What is known of it, by saga id. */
  sagas: Map<string, Saga>;
  /** Something is missing: only a snapshot helps. */
  gap: boolean;
}

/** A frame of the daemon: its type says which fields there are. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Frame = { type: string; [field: string]: any };

/** Who wants the connection. */
export interface Host {
  base: URL;
  token: string;
  epoch(): string | undefined;
  subscriptions(): Subscription[];
  /** A frame has come. */
  take(frame: Frame): void;
  /** It is over: a close code, or an HTTP status, or 1006; and when to come back. */
  ended(code: number, reason?: string, retryAfterMs?: [number, number]): void;
}

/** A connection that is open, or about to be. */
export interface Link {
  /** Shows a subscription, anew if it was shown before. */
  subscribe(subscription: Subscription): unknown;
  unsubscribe(subscription: Subscription): unknown;
  /** Shows another token, where that can be done. */
  renew?(token: string): void;
  close(): void;
}

const LOST = 1006;
const BUSY = 4029;
const LIST_MS = 3_000;
const UNKNOWN_MS = 2_000;

/** The version from which a subscription goes on. */
const known = (it: Subscription) => (it.gap ? undefined : it.sagas.get(it.saga_id ?? "")?.version);

const name = ({ id, saga_type, saga_id }: Subscription) => ({ id, saga_type, saga_id });

export function socket(host: Host): Link {
  const url = new URL("v1/ws", host.base);
  url.protocol = url.protocol.replace("http", "ws");
  const ws = new WebSocket(url, "outboxd.push.v1");
  let ready = false;
  const send = (frame: Frame) => ws.send(JSON.stringify(frame));
  const link: Link = {
    // All that is wanted before the daemon is ready is asked for when it is.
    subscribe: (it) => ready && send({ type: "subscribe", ...name(it), epoch: host.epoch(), version: known(it) }),
    unsubscribe: (it) => ready && send({ type: "unsubscribe", ...name(it) }),
    renew: (token) => send({ type: "auth", id: 1, token }),
    close: () => ws.close(),
  };
  ws.onopen = () => link.renew?.(host.token);
  ws.onmessage = ({ data }: { data: string }) => {
    for (const line of data.split("\n")) {
      const frame: Frame = JSON.parse(line);
      host.take(frame);
      if (frame.type === "ready" && !ready) {
        ready = true;
        host.subscriptions().forEach(link.subscribe);
      }
    }
  };
  ws.onclose = ({ code, reason }) => {
    ready = false;
    host.ended(code, reason);
  };
  return link;
}

/** A stream for each type and one for each whole type, since browsers allow few connections. */
export const stream = (host: Host): Link =>
  requests(host, read, ({ saga_type, saga_id }) => JSON.stringify([saga_type, saga_id === undefined]));

export const poll = (host: Host): Link => requests(host, ask, ({ id }) => `${id}`);

/** Never none. */
type Members = [Subscription, ...Subscription[]];

/** Requests of which each is for a group of subscriptions, and begins anew whenever that changes. */
function requests(
  host: Host,
  run: (host: Host, members: Members, signal: AbortSignal) => Promise<void>,
  group: (it: Subscription) => string,
): Link {
  const running = new Map<string, AbortController>();
  const stale = new Set<string>();
  const restart = () => {
    for (const name of stale) {
      const [one, ...others] = host.subscriptions().filter((it) => group(it) === name);
      running.get(name)?.abort();
      if (!one) continue;
      const controller = new AbortController();
      const { signal } = controller;
      running.set(name, controller);
      run(host, [one, ...others], signal).catch(() => signal.aborted || host.ended(LOST));
    }
    stale.clear();
  };
  const subscribe = (it: Subscription) => {
    // Several that come together need one request.
    if (!stale.size) queueMicrotask(restart);
    stale.add(group(it));
  };
  const close = () => {
    stale.clear();
    for (const it of running.values()) it.abort();
  };
  return { subscribe, unsubscribe: subscribe, close };
}

async function read(host: Host, members: Members, signal: AbortSignal): Promise<void> {
  const [one, another] = members;
  const query = new URLSearchParams({ saga_type: one.saga_type });
  for (const { saga_id } of members) if (saga_id !== undefined) query.append("saga_id", saga_id);
  // The version is of one saga: among several nobody knows whose it is.
  const version = another ? undefined : known(one);
  const last = version && `${host.epoch()}:${version}`;
  const response = await get(host, one, `v1/stream?${query}`, signal, last);
  const reader = response?.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return host.ended(LOST);
    text += decoder.decode(value, { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) {
      if (signal.aborted) return;
      if (!line.startsWith("data:")) continue;
      const frame: Frame = JSON.parse(line.slice(5));
      // Nobody had to ask.
      host.take(frame.type === "subscribed" && !another ? { ...frame, id: one.id } : frame);
    }
  }
}

async function ask(host: Host, [it]: Members, signal: AbortSignal): Promise<void> {
  const { id, saga_type, saga_id } = it;
  // The first answer comes at once: it shows that this way works.
  let wait = 0;
  while (!signal.aborted) {
    const whole = saga_id === undefined;
    let mode = "live";
    for (let after: string | null = ""; after !== null; ) {
      const version = known(it);
      const query: Record<string, string> = whole
        ? { saga_type, after, limit: "1000" }
        : version === undefined
          ? {}
          : { epoch: host.epoch() ?? "", version: `${version}`, wait: `${wait}` };
      const path = whole ? "" : `/${encodeURIComponent(saga_type)}/${encodeURIComponent(saga_id)}`;
      const response = await get(host, it, `v1/sagas${path}?${new URLSearchParams(query)}`, signal);
      if (!response) return;
      const found = response.status === 200 ? await response.json() : undefined;
      if (signal.aborted) return;
      host.take({ type: "ready", epoch: found?.epoch });
      const sagas: (Saga & Frame)[] = whole ? found.sagas : found ? [found] : [];
      for (const saga of sagas) if (it.sagas.get(saga.saga_id)?.version !== saga.version) host.take(saga);
      if (response.status === 404) mode = "waiting";
      after = whole ? found.after : null;
    }
    host.take({ type: "subscribed", id, mode });
    // Browsers allow few connections: with many sagas none may keep one for long.
    wait = host.subscriptions().length > 4 ? 1 : 25;
    if (whole || mode === "waiting") await new Promise((resolve) => setTimeout(resolve, whole ? LIST_MS : UNKNOWN_MS));
  }
}

/** Asks; none if the answer has been passed on as what it means. */
async function get(
  host: Host,
  { id }: Subscription,
  path: string,
  signal: AbortSignal,
  last?: string | 0,
): Promise<Response | undefined> {
  const headers: Record<string, string> = { authorization: `Bearer ${host.token}` };
  if (last) headers["last-event-id"] = last;
  const response = await fetch(new URL(path, host.base), { headers, signal });
  const { ok, status } = response;
  if (ok || status === 404) return response;
  if (signal.aborted) return;
  const message: string | undefined = (await response.json().catch(() => 0)).detail;
  if (status === 403) {
    host.take({ type: "error", id, code: "forbidden", message });
  } else {
    const wait = Number(response.headers.get("retry-after")) * 1000;
    host.ended(status === 400 ? 4200 : status === 401 ? status : BUSY, message, [wait, wait * 2]);
  }
  return undefined;
}
