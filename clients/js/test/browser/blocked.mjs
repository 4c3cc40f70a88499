// Something on the way that lets no WebSocket through, and later no events either.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, openShop, rightAllAlong, setRoad, shop, shows, states, until } from "./world.mjs";

test("without a WebSocket there are events, which the tab remembers; without events there is polling", async (t) => {
  const next = states();
  await setRoad("no-sockets");
  const context = await browse(t);
  const page = await openShop(context, { lasts: 20 });
  await shows(page, await next());
  assert.ok(page.ways.sockets >= 2 && page.ways.streams >= 1, JSON.stringify(page.ways));
  await shows(page, await next());
  assert.equal((await shop(page)).log.at(-1), "change STATE_2");

  Object.assign(page.ways, { sockets: 0, streams: 0 });
  await page.reload();
  await shows(page, await next());
  assert.deepEqual(page.ways, { sockets: 0, streams: 1, polls: 0 });

  // A stream cannot show a new token: it ends with its own, and the next one goes on.
  await until("the stream to end with its token", async () => page.ways.streams >= 2);
  await shows(page, await next());
  assert.equal((await shop(page)).log.at(-1), "change STATE_4");
  await rightAllAlong(page);

  await setRoad("no-events");
  await shows(page, await next());
  assert.ok(page.ways.polls > 0);
  await shows(page, await next());
  assert.equal((await shop(page)).log.at(-1), "snapshot STATE_6");
  await rightAllAlong(page);

  // Another network, where everything goes.
  await setRoad("open");
  page.ways.sockets = 0;
  await context.setOffline(true);
  await context.setOffline(false);
  await until("a WebSocket again", async () => page.ways.sockets === 1);
  await shows(page, await next());
  assert.equal((await shop(page)).log.at(-1), "change STATE_7");
  await rightAllAlong(page);
});
