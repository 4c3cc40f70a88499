// Tokens that end while a page is looked at.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, metric, openShop, rightAllAlong, shop, shows, states, until } from "./world.mjs";

test("a token is renewed over the same connection", async (t) => {
  const next = states();
  const page = await openShop(await browse(t), { lasts: 10 });
  await shows(page, await next());
  await until("a third token", async () => (await shop(page)).tokens >= 3);
  await shows(page, await next());
  assert.equal(page.ways.sockets, 1);
  assert.ok((await shop(page)).tokens < 6, "not more often than it must");
  await rightAllAlong(page);
});

test("a token that could not be renewed ends the connection, and the next one brings it back", async (t) => {
  const next = states();
  const context = await browse(t);
  const page = await openShop(context, { lasts: 10 });
  await shows(page, await next());
  // The shop is away; the daemon is not.
  await context.route("**/token?*", (route) => route.abort());
  await until("the daemon to send it away", async () => (await shop(page)).status === "connecting");
  const state = await next();
  await context.unroute("**/token?*");
  await shows(page, state);
  assert.ok((await metric("outboxd_push_closed_total")) > 0);
  await rightAllAlong(page);
});

test("a user who is logged out sees no more", async (t) => {
  const next = states();
  const context = await browse(t);
  const page = await openShop(context, { lasts: 10 });
  await shows(page, await next());
  await context.route("**/token?*", (route) => route.fulfill({ body: "" }));
  await until("the watch to end", async () => (await shop(page)).log.at(-1) === "closed no_token");
  await rightAllAlong(page);
});
