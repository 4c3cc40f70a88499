// A proxy that cuts connections which are silent for two seconds, and a daemon that speaks less often.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, openShop, rightAllAlong, setRoad, shop, shows, states, until } from "./world.mjs";

test("a connection that is cut again and again misses nothing", async (t) => {
  const next = states();
  await setRoad("impatient");
  const page = await openShop(await browse(t));
  await shows(page, await next());
  await until("it to be cut three times", async () => {
    await next();
    const { sockets } = page.ways;
    await until("another connection", async () => page.ways.sockets > sockets);
    return page.ways.sockets > 3 || page.ways;
  });
  await shows(page, await next());
  await rightAllAlong(page);
  assert.equal((await shop(page)).log.filter((line) => line.startsWith("snapshot")).length, 1);
  assert.equal(page.ways.streams + page.ways.polls, 0);
});
