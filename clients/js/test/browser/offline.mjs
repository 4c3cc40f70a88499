// A network that goes and comes back.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, openShop, rightAllAlong, setRoad, shop, shows, states, until } from "./world.mjs";

test("a page that was offline is told what it missed, as soon as it is online", async (t) => {
  const next = states();
  const context = await browse(t);
  const page = await openShop(context);
  await shows(page, await next());
  await setRoad("cut");
  await context.setOffline(true);
  await until("the page to notice", async () => (await shop(page)).status === "connecting");
  for (let count = 0; count < 5; count++) await next();
  // Long enough that its back-off alone would take its time.
  const { tokens } = await shop(page);
  await until("it to try again and again", async () => (await page.evaluate("shop.tokens")) >= tokens, 1);
  await page.waitForTimeout(8_000);
  await setRoad("open");
  await context.setOffline(false);
  await shows(page, "STATE_6");
  await rightAllAlong(page);
  const { log } = await shop(page);
  assert.equal(log.filter((line) => line.startsWith("snapshot")).length, 1, "the rest came as changes");
  assert.deepEqual(log.slice(-5), [2, 3, 4, 5, 6].map((count) => `change STATE_${count}`));
  await shows(page, await next());
});
