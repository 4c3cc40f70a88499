// The rule by which a client follows a saga, and what it makes of changes.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { change, noted, settle, snapshot, World } from "./fake.mjs";

let world;
afterEach(() => world.end());

/** A world whose client watches one saga and has its first snapshot. */
const watching = async (version = 10) => {
  world = new World();
  const it = noted(world.client);
  await world.ready();
  await world.say({ type: "subscribed", id: 2, mode: "snapshot" }, snapshot(version));
  assert.deepEqual(it.take(), ["connecting", `snapshot ${version} PENDING`, "live"]);
  return it;
};

test("a change that follows is applied, and an old one ignored", async () => {
  const it = await watching();
  await world.say(change(12, 10, { state: "APPROVED", outcome: "completed" }), change(12, 10), change(9, 8));
  assert.deepEqual(it.take(), ["change 12 APPROVED"]);
});

test("a snapshot is taken unless its version is lower", async () => {
  const it = await watching();
  await world.say(snapshot(9, { state: "OLD" }), snapshot(10, { state: "SAME" }), snapshot(11, { state: "NEW" }));
  assert.deepEqual(it.take(), ["snapshot 10 SAME", "snapshot 11 NEW"]);
});

test("a gap is asked about once, without a version, and never shown", async () => {
  const it = await watching();
  world.socket.sent = [];
  await world.say(change(14, 12, { state: "X" }), change(15, 14, { state: "Y" }));
  assert.deepEqual(it.take(), []);
  assert.equal(world.asked.length, 1);
  assert.equal(world.asked[0].type, "subscribe");
  assert.equal(world.asked[0].version, undefined);
  // An instance that is behind: its snapshot would lead back.
  await world.say(snapshot(9, { state: "OLD" }));
  assert.deepEqual(it.take(), []);
  await world.say(snapshot(15, { state: "Y" }), change(16, 15, { state: "Z" }));
  assert.deepEqual(it.take(), ["snapshot 15 Y", "change 16 Z"]);
});

test("a gap that the end of the connection leaves open is asked about without a version again", async () => {
  const it = await watching();
  await world.say(change(14, 12));
  await world.cut();
  await world.pass(500);
  await world.ready();
  assert.equal(world.asked[0].version, undefined);
  await world.say(snapshot(14));
  assert.deepEqual(it.take(), ["connecting", "snapshot 14 PENDING", "live"]);
});

test("a change without a previous one begins a saga that was unknown, and is a gap for one that was not", async () => {
  world = new World();
  const it = noted(world.client);
  await world.ready();
  await world.say({ type: "subscribed", id: 2, mode: "waiting" });
  await world.say(change(0, null, { state: "BEGUN" }));
  assert.deepEqual(it.take(), ["connecting", "waiting", "change 0 BEGUN"]);
  world.socket.sent = [];
  await world.say(change(5, null, { state: "AGAIN" }));
  assert.deepEqual(it.take(), []);
  assert.equal(world.asked.length, 1);
});

test("another epoch makes versions void", async () => {
  const it = await watching(100);
  await world.cut();
  await world.pass(500);
  await world.ready({ epoch: "e2" });
  assert.equal(world.asked[0].version, undefined);
  await world.say({ type: "subscribed", id: 2, mode: "snapshot" }, snapshot(3, { state: "ELSEWHERE" }));
  assert.deepEqual(it.take(), ["connecting", "snapshot 3 ELSEWHERE", "live"]);
});

test("after a reconnect it goes on from its version", async () => {
  const it = await watching();
  await world.cut();
  await world.pass(500);
  await world.ready();
  assert.deepEqual(world.asked, [
    { type: "subscribe", id: 2, saga_type: "create-order", saga_id: "o-42", epoch: "e1", version: 10 },
  ]);
  await world.say({ type: "subscribed", id: 2, mode: "resumed" }, change(11, 10, { state: "APPROVED" }));
  assert.deepEqual(it.take(), ["connecting", "live", "change 11 APPROVED"]);
});

test("what a change says is what becomes of the saga", async () => {
  world = new World();
  let saga;
  const note = (...told) => (saga = told.at(-1));
  world.client.watch("create-order", "o-42", { onSnapshot: note, onChange: note });
  await world.ready();
  await world.say(snapshot(1, { steps: [{ step: "a", status: "pending", at: "2026-11-21T09:00:00.000000Z" }], later: 7 }));
  assert.equal(saga.type, undefined);
  assert.equal(saga.later, 7, "what a later daemon says is kept");
  const before = saga;
  const at = "2026-11-21T10:00:01.000000Z";
  await world.say(change(2, 1, { step: "a", status: "done" }), change(3, 2, { step: "b", at: "2026-11-21T09:59:59.000000Z" }));
  assert.equal(before.steps[0].status, "pending", "what was shown does not change");
  assert.deepEqual(saga.steps, [
    { step: "a", status: "done", at },
    { step: "b", status: "pending", at: "2026-11-21T09:59:59.000000Z" },
  ]);
  assert.equal(saga.started_at, "2026-11-21T09:59:59.000000Z");
  assert.equal(saga.at, at);
  await world.say(change(4, 3, { stuck_since: at, remaining_steps: ["c"], event_type: undefined }));
  assert.deepEqual(saga.remaining_steps, ["c"]);
  assert.equal(saga.stuck_since, at);
  assert.equal(saga.state, "PENDING");
  await world.say(change(5, 4, { stuck_since: null, state: "DONE", previous_state: "PENDING", outcome: "completed" }));
  assert.deepEqual([saga.stuck_since, saga.state, saga.outcome], [null, "DONE", "completed"]);
  for (let version = 6; version < 30; version++) await world.say(change(version, version - 1, { anomaly: "after_end" }));
  assert.equal(saga.anomalies.length, 20);
  assert.deepEqual(saga.anomalies.at(-1), { kind: "after_end", at, event_id: "event 29" });
});

test("a whole type is live when all are in, and forgets with the daemon", async () => {
  world = new World();
  const seen = [];
  const note = (...told) => seen.push(`${told.at(-1).saga_id} ${told.at(-1).version}`);
  const statuses = [];
  world.client.watch("create-order", null, { onSnapshot: note, onChange: note, onStatus: (status) => statuses.push(status) });
  await world.ready();
  assert.equal(world.asked[0].saga_id, undefined);
  await world.say(snapshot(1, { saga_id: "a" }), snapshot(2, { saga_id: "b" }));
  assert.deepEqual(statuses, ["connecting"]);
  await world.say({ type: "subscribed", id: 2, mode: "live" }, change(3, 1, { saga_id: "a" }));
  assert.deepEqual(statuses, ["connecting", "live"]);
  await world.cut();
  await world.pass(500);
  await world.ready();
  // b is gone meanwhile, and begins anew later.
  await world.say(snapshot(3, { saga_id: "a" }), { type: "subscribed", id: 2, mode: "live" }, change(9, null, { saga_id: "b" }));
  assert.deepEqual(seen, ["a 1", "b 2", "a 3", "a 3", "b 9"]);
});

test("frames and lines that nobody knows change nothing", async () => {
  const it = await watching();
  await world.say({ type: "news_of_a_later_daemon" }, { type: "heartbeat" }, snapshot(99, { saga_id: "somebody else's" }));
  await settle();
  assert.deepEqual(it.take(), []);
});
