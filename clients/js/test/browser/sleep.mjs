// A laptop that is shut for two hours: timers stand still, the connection is long gone and nobody has said so.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, counted, rightAllAlong, road, setRoad, shop, shows, states, steward, until } from "./world.mjs";

test("a laptop that wakes up connects again, with a new token", async (t) => {
  const next = states();
  const page = counted(await (await browse(t)).newPage());
  await page.clock.install();
  await page.goto(`${steward}/?${new URLSearchParams({ road })}`);
  await shows(page, await next());
  assert.equal((await shop(page)).tokens, 1);
  await setRoad("asleep");
  const state = await next();
  await page.clock.fastForward("02:00:00");
  await shows(page, state);
  assert.equal((await shop(page)).tokens, 2);
  assert.equal(page.ways.sockets, 2);
  await rightAllAlong(page);
});

test("a tab that is looked at again finds out at once that its connection is dead", async (t) => {
  const page = counted(await (await browse(t)).newPage());
  await page.clock.install();
  await page.goto(`${steward}/?${new URLSearchParams({ road })}`);
  await until("the page to be live", async () => (await shop(page)).status === "live");
  await setRoad("asleep");
  // Only the clock goes on: a hidden tab's timers may not run for long.
  await page.clock.pauseAt(Date.now() + 3_600_000);
  await page.evaluate("shop.tokens = 0");
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await page.clock.resume();
  await until("the page to connect again", async () => page.ways.sockets === 2 && (await shop(page)).status === "live");
  assert.ok((await shop(page)).tokens <= 1);
});
