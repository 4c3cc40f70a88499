// Two tabs of one user, and one too many.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, openShop, rightAllAlong, shop, shows, states, until } from "./world.mjs";

test("two tabs show the same, and one goes on without the other", async (t) => {
  const next = states();
  const context = await browse(t);
  const [one, other] = [await openShop(context), await openShop(context)];
  const state = await next();
  await Promise.all([shows(one, state), shows(other, state)]);
  const third = await openShop(context);
  await until("the third to be refused", async () => (await shop(third)).log.at(-1) === "closed 4229");
  const later = await next();
  await Promise.all([shows(one, later), shows(other, later)]);
  await third.close();
  await one.close();
  await shows(other, await next());
  await rightAllAlong(other);
  assert.equal(other.ways.sockets, 1);
});
