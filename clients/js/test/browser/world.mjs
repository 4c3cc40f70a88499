// A browser, and the world around it that the test in Rust holds: services, a daemon, a road between browser and daemon.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const steward = process.env.OUTBOXD_STEWARD;
export const road = process.env.OUTBOXD_ROAD;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PATIENCE_MS = 90_000;

/** Asks the test for something, and waits until it is done. */
export const ask = async (path, query = {}) => {
  const answer = await fetch(`${steward}${path}?${new URLSearchParams(query)}`);
  assert.ok(answer.ok, `${path}: ${answer.status}`);
  return answer.text();
};
export const tell = (fields) => ask("/tell", fields);
export const setRoad = (mode) => ask("/road", { mode });
export const token = (fields) => ask("/token", fields);
export const metric = async (name) => Number(await ask("/metrics", { name }));

/** Waits until something holds; fails with what was seen last. */
export const until = async (what, look, patience = PATIENCE_MS) => {
  const end = Date.now() + patience;
  for (;;) {
    const seen = await look();
    if (seen === true) return;
    if (Date.now() > end) assert.fail(`waited in vain for ${what}: ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

/** A browser that asks nobody but us. */
export const browse = async (t, options = {}) => {
  const home = mkdtempSync(join(tmpdir(), "outboxd-browser-"));
  const context = await chromium.launchPersistentContext(home, {
    executablePath: CHROMIUM,
    headless: true,
    // Its sandbox needs rights that a container may not have; the only pages are ours.
    chromiumSandbox: false,
    args: ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ...options,
  });
  t.after(async () => {
    await context.close();
    rmSync(home, { recursive: true, force: true });
  });
  return context;
};

/** Counts what a page connects to the daemon by. */
export const counted = (page) => {
  page.ways = { sockets: 0, streams: 0, polls: 0 };
  page.on("websocket", () => page.ways.sockets++);
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (pathname === "/v1/stream") page.ways.streams++;
    if (pathname.startsWith("/v1/sagas")) page.ways.polls++;
  });
  return page;
};

/** Opens the shop's page of an order. */
export const openShop = async (context, query = {}) => {
  const page = counted(await context.newPage());
  await page.goto(`${steward}/?${new URLSearchParams({ road, ...query })}`);
  return page;
};

export const shop = (page) => page.evaluate("shop");

/** Waits until the page shows a state, and the client says that it is so. */
export const shows = (page, state, status = "live") =>
  until(`the page to show ${state}`, async () => {
    const it = await shop(page);
    return (it.saga?.state === state && it.status === status && (await page.textContent("#state")) === state) || it;
  });

/** Nothing was missing, doubled or out of order, and the page had no error. */
export const rightAllAlong = async (page) => assert.deepEqual((await shop(page)).faults, []);

/** Tells of a state after the others, each different. */
export const states = () => {
  let count = 0;
  return async () => {
    const state = `STATE_${++count}`;
    await tell({ state });
    return state;
  };
};
