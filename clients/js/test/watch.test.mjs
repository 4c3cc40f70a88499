// Watches: callbacks, loops, how they share a connection, and how they end.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { change, noted, settle, snapshot, World } from "./fake.mjs";

let world;
afterEach(() => world.end());

test("all watches share one socket, and those of one saga one subscription", async () => {
  world = new World();
  assert.equal(world.sockets.length, 0, "nobody watches yet");
  const [a, b, other] = [noted(world.client), noted(world.client), noted(world.client, "o-43")];
  await world.ready();
  assert.equal(world.socket.url, "wss://push.example/base/v1/ws");
  assert.equal(world.socket.protocol, "outboxd.push.v1");
  assert.deepEqual(world.socket.sent[0], { type: "auth", id: 1, token: "token 1" });
  assert.deepEqual(world.asked.map((frame) => frame.saga_id), ["o-42", "o-43"]);
  await world.say(snapshot(1));
  assert.deepEqual(a.take(), ["connecting", "snapshot 1 PENDING", "live"]);
  assert.deepEqual(b.take(), ["connecting", "snapshot 1 PENDING", "live"]);
  assert.deepEqual(other.take(), ["connecting"]);
  const late = noted(world.client);
  await settle();
  assert.deepEqual(late.take(), ["snapshot 1 PENDING", "live"], "shown what is known, at once");
  assert.equal(world.asked.length, 2);
  for (const { watch } of [a, b]) watch.close();
  assert.equal(world.asked.length, 2);
  late.watch.close();
  assert.deepEqual(world.asked.at(-1), { type: "unsubscribe", id: 2, saga_type: "create-order", saga_id: "o-42" });
  assert.deepEqual(a.take(), ["closed"]);
  await world.say(snapshot(2));
  assert.deepEqual(a.take(), []);
  assert.equal(world.sockets.length, 1);
});

test("without a watch there is no connection, and the next watch brings it back", async () => {
  world = new World();
  const it = noted(world.client);
  await world.ready();
  it.watch.close();
  await world.pass(2_000);
  assert.ok(world.socket.closed);
  await world.pass(60_000);
  assert.equal(world.sockets.length, 1);
  noted(world.client);
  await settle();
  assert.equal(world.sockets.length, 2);
});

test("an error in a callback is the application's own", async () => {
  world = new World();
  const seen = [];
  world.client.watch("create-order", "o-42", {
    onSnapshot: () => {
      throw new Error("at once");
    },
    onChange: async (_, saga) => {
      seen.push(saga.version);
      throw new Error("later");
    },
    onStatus: () => Promise.reject(new Error("status")),
  });
  await world.ready();
  await world.say(snapshot(1), change(2, 1), change(3, 2));
  assert.deepEqual(seen, [2, 3]);
  assert.deepEqual([...new Set(world.errors.map((error) => error.message))].sort(), ["at once", "later", "status"]);
});

test("a loop gets the newest of what it has not seen, and ends its watch when it is left", async () => {
  world = new World();
  const seen = [];
  const watch = world.client.watch("create-order", "o-42");
  const loop = (async () => {
    for await (const saga of watch) {
      seen.push(saga.version);
      if (saga.outcome) break;
      await settle();
    }
  })();
  await world.ready();
  await world.say(snapshot(1));
  await world.say(change(2, 1), change(3, 2), change(4, 3));
  await world.say(change(5, 4, { outcome: "completed" }));
  await loop;
  assert.deepEqual([seen[0], seen.at(-1)], [1, 5]);
  assert.deepEqual([...seen].sort(), seen);
  assert.equal(world.asked.at(-1).type, "unsubscribe");
});

test("a slow loop is not told of what lies between", async () => {
  world = new World();
  const loop = world.client.watch("create-order", "o-42")[Symbol.asyncIterator]();
  const first = loop.next();
  await world.ready();
  await world.say(snapshot(1), change(2, 1), change(3, 2));
  assert.equal((await first).value.version, 3);
  await world.say(change(4, 3), change(5, 4));
  assert.equal((await loop.next()).value.version, 5);
});

test("a loop over a closed watch ends, and over a refused one throws", async () => {
  world = new World();
  const closed = world.client.watch("create-order", "o-1");
  closed.close();
  for await (const _ of closed) assert.fail("nothing was shown");
  const refused = world.client.watch("create-order");
  await world.ready();
  const failed = assert.rejects(
    async () => {
      for await (const _ of refused) assert.fail("nothing was shown");
    },
    { code: "forbidden", message: "no grant" },
  );
  await world.say({ type: "error", id: 3, code: "forbidden", message: "no grant", retry: false });
  await failed;
});

test("a subscription that lost its right ends, and the others go on", async () => {
  world = new World();
  const [lost, kept] = [noted(world.client), noted(world.client, "o-43")];
  await world.ready();
  await world.say(snapshot(1), snapshot(2, { saga_id: "o-43" }));
  await world.say({ type: "error", id: null, code: "forbidden", message: "…", retry: false, saga_type: "create-order", saga_id: "o-42" });
  await world.say(change(3, 2, { saga_id: "o-43", state: "ON" }));
  assert.equal(lost.take().at(-1), "closed forbidden");
  assert.equal(kept.take().at(-1), "change 3 ON");
  assert.equal(world.sockets.length, 1);
});

test("after the client is closed nothing happens any more", async () => {
  world = new World();
  const it = noted(world.client);
  await world.ready();
  world.client.close();
  assert.ok(world.socket.closed);
  const late = noted(world.client);
  await world.pass(60_000);
  assert.deepEqual(it.take(), ["connecting", "closed"]);
  assert.deepEqual(late.take(), ["closed"]);
  assert.equal(world.sockets.length, 1);
});
