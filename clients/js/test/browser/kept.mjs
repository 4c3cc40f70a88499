// The same proxy, and a daemon whose heartbeat is faster than it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, metric, openShop, rightAllAlong, setRoad, shop, shows, states, until } from "./world.mjs";

test("a connection with a heartbeat is not cut", async (t) => {
  const next = states();
  await setRoad("impatient");
  const page = await openShop(await browse(t));
  await shows(page, await next());
  const frames = await metric("outboxd_push_frames_sent_total");
  await until("eight heartbeats", async () => (await metric("outboxd_push_frames_sent_total")) >= frames + 8);
  await shows(page, await next());
  assert.equal(page.ways.sockets, 1);
  assert.equal((await shop(page)).tokens, 1);
  await rightAllAlong(page);
});
