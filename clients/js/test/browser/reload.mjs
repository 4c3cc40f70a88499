// A page that is loaded again, left and come back to.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, openShop, rightAllAlong, shop, shows, states, tell } from "./world.mjs";

test("what happens while a page is loaded again is not lost", async (t) => {
  const next = states();
  const page = await openShop(await browse(t));
  await shows(page, await next());
  assert.deepEqual((await shop(page)).log.slice(0, 2), ["connecting", "waiting"]);
  for (let round = 0; round < 3; round++) {
    const [state] = await Promise.all([next(), page.reload()]);
    await shows(page, state);
    await shows(page, await next());
    assert.equal((await shop(page)).log.filter((line) => line.startsWith("snapshot")).length, 1);
    await rightAllAlong(page);
  }
  await page.goto("about:blank");
  const state = await next();
  await page.goBack();
  await shows(page, state);
  await tell({ step: "create-ticket", status: "done", service: "kitchen" });
  await shows(page, await next());
  assert.deepEqual((await shop(page)).saga.steps.map(({ step, status }) => `${step} ${status}`), ["create-ticket done"]);
  await rightAllAlong(page);
});
