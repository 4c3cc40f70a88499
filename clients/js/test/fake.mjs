// A WebSocket, a fetch and a clock that do what a test says. The client under test is the built one.
import { mock } from "node:test";
import { connect } from "../dist/index.js";

/** Lets everything that is due now happen: promises, not timers. */
export const settle = async () => {
  for (let turn = 0; turn < 30; turn++) await null;
};

class FakeSocket {
  static all = [];
  sent = [];
  readyState = 0;

  constructor(url, protocol) {
    Object.assign(this, { url: `${url}`, protocol });
    FakeSocket.all.push(this);
  }

  send(text) {
    if (this.readyState === 0) throw new Error("not open");
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
    this.closed = true;
  }
}

/** What a test has in its hands. */
export class World {
  tokens = 0;
  now = 1_000_000;
  /** Gives the answer to a fetch, or throws. */
  answer = () => {
    throw new TypeError("nobody listens");
  };
  fetched = [];

  constructor({ sockets = true, url = "https://push.example/base", token } = {}) {
    mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: this.now });
    FakeSocket.all = [];
    globalThis.WebSocket = sockets ? FakeSocket : undefined;
    globalThis.sessionStorage = { kept: {}, getItem: (name) => globalThis.sessionStorage.kept[name] ?? null, setItem: (name, value) => (globalThis.sessionStorage.kept[name] = value) };
    mock.method(Math, "random", () => this.dice);
    mock.method(console, "error", (error) => this.errors.push(error));
    mock.method(globalThis, "fetch", async (target, options = {}) => {
      this.fetched.push(`${target}`);
      return this.answer(new URL(target), options);
    });
    this.dice = 0;
    this.errors = [];
    this.client = connect({ url, token: token ?? (() => `token ${++this.tokens}`) });
  }

  /** Ends everything, also after a test that failed. */
  end() {
    this.client.close();
    mock.timers.reset();
    mock.restoreAll();
  }

  get sockets() {
    return FakeSocket.all;
  }

  get socket() {
    return FakeSocket.all.at(-1);
  }

  async pass(ms) {
    // In small steps, since what a timer does may begin another one.
    for (let left = ms; left > 0; left -= 500) {
      mock.timers.tick(Math.min(500, left));
      await settle();
    }
    await settle();
  }

  /** The socket opens, and the daemon takes the token. */
  async ready(fields = {}) {
    await settle();
    this.socket.readyState = 1;
    this.socket.onopen();
    await this.say({ type: "ready", id: 1, epoch: "e1", heartbeat_s: 25, refresh_in_s: 2520, ...fields });
  }

  /** The daemon says something: all in one message. */
  async say(...frames) {
    this.socket.onmessage({ data: frames.map((frame) => JSON.stringify(frame)).join("\n") });
    await settle();
  }

  async cut(code = 1006, reason = "") {
    this.socket.readyState = 3;
    this.socket.onclose({ code, reason });
    await settle();
  }

  /** What was sent over the newest socket, but tokens. */
  get asked() {
    return this.socket.sent.filter((frame) => frame.type !== "auth");
  }
}

export const snapshot = (version, fields = {}) => ({
  type: "snapshot",
  saga_type: "create-order",
  saga_id: "o-42",
  version,
  state: "PENDING",
  outcome: null,
  started_at: "2026-11-21T10:00:00.000000Z",
  at: "2026-11-21T10:00:00.000000Z",
  steps: [],
  stuck_since: null,
  anomalies: [],
  partial: false,
  ...fields,
});

export const change = (version, previous, fields = {}) => ({
  type: "change",
  saga_type: "create-order",
  saga_id: "o-42",
  version,
  previous,
  event_type: "E",
  event_id: `event ${version}`,
  at: "2026-11-21T10:00:01.000000Z",
  ...fields,
});

/** A watch that notes what it is told, in words. */
export const noted = (client, saga_id = "o-42", saga_type = "create-order") => {
  const notes = [];
  const watch = client.watch(saga_type, saga_id, {
    onSnapshot: (saga) => notes.push(`snapshot ${saga.version} ${saga.state}`),
    onChange: (news, saga) => notes.push(`change ${news.version} ${saga.state}`),
    onStatus: (status, error) => notes.push(error ? `${status} ${error.code}` : status),
  });
  return { notes, watch, take: () => notes.splice(0) };
};
