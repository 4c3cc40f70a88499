// A daemon that ends, as in a deployment, and one that is killed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, browse, openShop, rightAllAlong, shop, shows, states, until } from "./world.mjs";

for (const end of ["end", "kill"]) {
  test(`a page goes on after a daemon's ${end}`, async (t) => {
    const next = states();
    const page = await openShop(await browse(t));
    await shows(page, await next());
    await ask("/daemon", { do: end });
    await until("the page to notice", async () => (await shop(page)).status === "connecting");
    const state = await next();
    await ask("/daemon", { do: "start" });
    await shows(page, state);
    await shows(page, await next());
    await rightAllAlong(page);
    // A daemon that is away is no reason to try another way.
    assert.equal(page.ways.streams + page.ways.polls, 0);
  });
}
