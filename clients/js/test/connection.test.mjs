// When the client connects, and how: back-off, close codes, tokens, dead connections, ways around what blocks a WebSocket.
import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { noted, settle, snapshot, World } from "./fake.mjs";

let world;
afterEach(() => world.end());

/** How long until there is another socket. */
const waited = async (limit = 60_000) => {
  const count = world.sockets.length;
  for (let ms = 0; ms <= limit; ms += 10) {
    if (world.sockets.length > count) return ms;
    mock.timers.tick(10);
    await settle();
  }
  return Infinity;
};

const about = (ms, expected) => assert.ok(Math.abs(ms - expected) <= 20, `${ms} instead of ${expected}`);

test("it comes back after a random time that may be twice as long each time, up to a limit", async () => {
  world = new World();
  noted(world.client);
  await settle();
  for (const most of [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000]) {
    world.dice = 0.5;
    await world.cut();
    about(await waited(), most / 2);
  }
  world.dice = 0;
  await world.cut();
  about(await waited(), 0);
});

test("a connection that held makes the next wait short again, one that did not does not", async () => {
  world = new World();
  noted(world.client);
  await settle();
  world.dice = 1;
  for (const most of [500, 1000, 2000]) {
    await world.cut();
    about(await waited(), most);
  }
  await world.ready();
  await world.cut();
  about(await waited(), 4000);
  await world.ready();
  await world.pass(11_000);
  await world.cut();
  about(await waited(), 500);
});

test("a daemon that goes says when to come back", async () => {
  world = new World();
  const it = noted(world.client);
  await world.ready();
  world.dice = 0.5;
  await world.say({ type: "bye", code: 4001, reason: "shutdown", retry_after_ms: [4000, 10000] });
  about(await waited(), 7000 + 250);
  assert.equal(world.tokens, 2);
  assert.deepEqual(it.take(), ["connecting"]);
});

for (const code of [1000, 1006, 1012, 4001, 4008, 4029, 4099]) {
  test(`after ${code} it comes back`, async () => {
    world = new World();
    noted(world.client);
    await world.ready();
    await world.cut(code);
    about(await waited(), 0);
  });
}

for (const code of [4100, 4101, 4102]) {
  test(`after ${code} it comes back with a new token`, async () => {
    world = new World();
    const it = noted(world.client);
    await settle();
    await world.cut(code, "expired");
    about(await waited(), 0);
    await world.ready();
    assert.equal(world.socket.sent[0].token, "token 2");
    assert.deepEqual(it.take(), ["connecting"]);
  });
}

for (const code of [4200, 4201, 4213, 4229, 4299]) {
  test(`after ${code} it does not come back`, async () => {
    world = new World();
    const it = noted(world.client);
    await settle();
    await world.cut(code, "the_word");
    assert.equal(await waited(), Infinity);
    assert.deepEqual(it.take(), ["connecting", `closed ${code}`]);
    const late = noted(world.client);
    await settle();
    assert.deepEqual(late.take(), [`closed ${code}`]);
  });
}

test("a token is asked for before each connect, before it ends, and when the daemon says so", async () => {
  world = new World();
  noted(world.client);
  await world.ready({ refresh_in_s: 30 });
  await world.pass(20_000);
  await world.say({ type: "heartbeat" });
  assert.equal(world.tokens, 1);
  await world.pass(12_000);
  const tokens = () => world.socket.sent.filter((frame) => frame.type === "auth").map((frame) => frame.token);
  assert.deepEqual(tokens(), ["token 1", "token 2"]);
  await world.say({ type: "ready", id: 1, epoch: "e1", heartbeat_s: 25, refresh_in_s: 2520 });
  assert.equal(world.asked.length, 1, "its subscriptions go on");
  await world.pass(5_500);
  await world.say({ type: "expiring", in_s: 30 });
  assert.deepEqual(tokens(), ["token 1", "token 2", "token 3"]);
  await world.cut();
  await world.pass(500);
  assert.equal(world.tokens, 4);
});

test("a token that is about to expire from the first is not asked for again and again", async () => {
  world = new World();
  noted(world.client);
  const ready = { refresh_in_s: 1, heartbeat_s: 25 };
  await world.ready(ready);
  for (let second = 0; second < 60; second++) {
    await world.say({ type: "expiring", in_s: 1 });
    const last = world.socket.sent.at(-1);
    if (last.type === "auth" && !last.seen) await world.say({ type: "ready", id: 1, epoch: "e1", ...ready });
    last.seen = true;
    await world.pass(1_000);
  }
  assert.ok(world.tokens > 5 && world.tokens < 40, `${world.tokens}`);
});

test("a token that cannot be had is tried again, and no token ends it", async () => {
  const answers = [new Error("offline"), new Error("still"), "good", new Error("offline again"), "better", null];
  const token = async () => {
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  world = new World({ token });
  const it = noted(world.client);
  await world.pass(2_000);
  await world.ready();
  assert.deepEqual(world.errors.map((error) => error.message), ["offline", "still"]);
  assert.equal(world.socket.sent[0].token, "good");
  await world.pass(5_500);
  await world.say({ type: "expiring", in_s: 30 });
  await world.pass(8_000);
  assert.equal(world.socket.sent.at(-1).token, "better");
  await world.say({ type: "expiring", in_s: 30 });
  await world.pass(8_000);
  assert.equal(it.take().at(-1), "closed no_token");
  assert.equal(await waited(), Infinity);
});

test("a connection is dead when nothing came for a heartbeat and ten seconds, also to a machine that slept", async () => {
  world = new World();
  const it = noted(world.client);
  await world.ready({ heartbeat_s: 25 });
  await world.pass(30_000);
  await world.say({ type: "heartbeat" });
  await world.pass(34_000);
  assert.equal(world.sockets.length, 1);
  await world.pass(4_000);
  assert.equal(world.sockets.length, 2);
  await world.ready();
  await world.say({ type: "subscribed", id: 2, mode: "resumed" });
  it.take();
  // Timers stood still; the first to run finds another time.
  mock.timers.setTime(Date.now() + 3_600_000);
  await world.pass(2_500);
  assert.equal(world.sockets.length, 3);
  assert.equal(world.tokens, 3);
  assert.deepEqual(it.take(), ["connecting"]);
});

test("what an earlier connection still says is void", async () => {
  world = new World();
  const it = noted(world.client);
  await world.ready();
  const earlier = world.socket;
  await world.cut();
  await world.pass(500);
  await world.ready();
  it.take();
  earlier.onmessage({ data: JSON.stringify(snapshot(7)) });
  earlier.onclose({ code: 4201, reason: "" });
  await settle();
  assert.deepEqual(it.take(), []);
  await world.say(snapshot(1));
  assert.deepEqual(it.take(), ["snapshot 1 PENDING", "live"]);
});

const problem = (status, headers = {}) => new Response(JSON.stringify({ detail: `problem ${status}` }), { status, headers });

/** A stream of events that stays open. */
const events = (...frames) => {
  const text = frames.map((frame) => `event: ${frame.type}\ndata: ${JSON.stringify(frame)}\n\n`).join("");
  const bytes = new TextEncoder().encode(text);
  const body = new ReadableStream({
    start(controller) {
      // In two pieces, cut anywhere.
      controller.enqueue(bytes.slice(0, 50));
      controller.enqueue(bytes.slice(50));
    },
  });
  return new Response(body, { status: 200 });
};

test("a WebSocket that fails twice while the daemon answers makes way for events, and that is remembered", async () => {
  world = new World();
  world.answer = (url) => (url.pathname.endsWith("/v1/ws") ? problem(400) : events({ type: "ready", id: null, epoch: "e1" }, { type: "subscribed", id: null, mode: "snapshot" }, snapshot(1, { state: "VIA EVENTS – ü" })));
  const it = noted(world.client);
  await settle();
  await world.cut();
  await world.pass(500);
  assert.equal(world.sockets.length, 2, "once may be a daemon that has just come back");
  await world.cut();
  await world.pass(500);
  assert.deepEqual(it.take(), ["connecting", "snapshot 1 VIA EVENTS – ü", "live"]);
  assert.equal(world.fetched.at(-1), "https://push.example/base/v1/stream?saga_type=create-order&saga_id=o-42");
  assert.deepEqual(Object.values(sessionStorage.kept), ["1"]);
});

test("a WebSocket that fails while the daemon is away is tried again", async () => {
  world = new World();
  noted(world.client);
  await settle();
  for (const status of [0, 503, 400, 0, 400, 503]) {
    if (status) world.answer = () => problem(status);
    else world.answer = () => Promise.reject(new TypeError("nobody listens"));
    await world.cut();
    await world.pass(500);
  }
  assert.equal(world.sockets.length, 7);
  assert.ok(world.fetched.every((url) => url.endsWith("/v1/ws")));
});

test("a stream goes on from the version of its saga, and several sagas of a type share one", async () => {
  world = new World({ sockets: false });
  const asked = [];
  world.answer = (url, { headers, signal }) => {
    asked.push({ search: url.search, last: headers["last-event-id"], headers, signal });
    return events({ type: "ready", id: null, epoch: "e1" }, { type: "subscribed", id: null, mode: "snapshot" }, snapshot(7));
  };
  const it = noted(world.client);
  await world.pass(100);
  assert.deepEqual(it.take(), ["connecting", "snapshot 7 PENDING", "live"]);
  assert.equal(asked[0].last, undefined);
  assert.equal(asked[0].headers.authorization, "Bearer token 1");
  const another = noted(world.client, "o-43");
  await world.pass(100);
  assert.equal(asked[1].search, "?saga_type=create-order&saga_id=o-42&saga_id=o-43");
  assert.equal(asked[1].last, undefined, "the id does not say of which saga it is");
  assert.ok(asked[0].signal.aborted);
  another.watch.close();
  await world.pass(100);
  assert.equal(asked[2].last, "e1:7");
});

for (const [name, way] of [["a stream", "1"], ["polling", "2"]]) {
  test(`${name}: HTTP's refusals mean what close codes do`, async () => {
    world = new World({ sockets: false, url: "https://push.example" });
    sessionStorage.kept["outboxd https://push.example/"] = way;
    world.end();
    const answers = [problem(503, { "retry-after": "5" }), problem(401)];
    world = new World({ sockets: false, url: "https://push.example" });
    const at = [];
    world.answer = () => {
      at.push(Date.now());
      return answers.shift() ?? problem(401);
    };
    world.dice = 0.5;
    const it = noted(world.client);
    await world.pass(60_000);
    // 503: between 5 and 10 s, and half of the first 0.5 s of back-off; 401: a new token, and that one is wrong, too.
    assert.ok(Math.abs(at[1] - at[0] - 7_750) <= 500, `${at[1] - at[0]}`);
    assert.equal(at.length, 3);
    assert.equal(world.tokens, 3);
    assert.deepEqual(it.take(), ["connecting", "closed 4201"]);
  });
}

test("a stream that is silent makes way for polling", async () => {
  world = new World({ sockets: false });
  let versions = [3, 5];
  const waits = [];
  world.answer = (url, { signal }) => {
    if (url.pathname.endsWith("/v1/stream")) return new Response(new ReadableStream(), { status: 200 });
    waits.push([url.searchParams.get("version"), url.searchParams.get("wait")]);
    const version = versions.shift();
    if (version) return Response.json({ ...snapshot(version), epoch: "e1" });
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
  };
  const it = noted(world.client);
  await world.pass(20_000);
  assert.deepEqual(it.take(), ["connecting", "snapshot 3 PENDING", "live", "snapshot 5 PENDING"]);
  assert.deepEqual(waits, [[null, null], ["3", "25"], ["5", "25"]]);
  assert.deepEqual(Object.values(sessionStorage.kept), ["2"]);
  // Another connection finds out at once whether this way still works.
  world.answer = (url, { signal }) => {
    waits.push([url.searchParams.get("version"), url.searchParams.get("wait")]);
    if (waits.length === 4) throw new TypeError("cut");
    if (waits.length === 5) return new Response(null, { status: 204 });
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
  };
  await world.pass(120_000);
  assert.deepEqual(waits.slice(3, 6).map(([, wait]) => wait), ["0", "0", "25"]);
});

test("polling waits for a saga that is unknown, and ends for a type without a grant", async () => {
  world = new World({ sockets: false });
  world.answer = (url) => {
    if (url.pathname.endsWith("/v1/stream")) return new Response(new ReadableStream(), { status: 200 });
    return problem(url.pathname.endsWith("/v1/sagas") ? 403 : 404);
  };
  const it = noted(world.client);
  await world.pass(20_000);
  assert.deepEqual(it.take(), ["connecting", "waiting"]);
  const whole = noted(world.client, null);
  await world.pass(1_000);
  assert.deepEqual(whole.take(), ["connecting", "closed forbidden"]);
  world.answer = () => Response.json({ ...snapshot(1), epoch: "e1" });
  await world.pass(3_000);
  assert.deepEqual(it.take().slice(0, 2), ["snapshot 1 PENDING", "live"]);
});
