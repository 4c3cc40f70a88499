// Elements, lists of them that keep what is in them, and times as people read them. Never takes text for markup.

/** Makes an element: `on…` are listeners, what has no property is an attribute, `null` and `false` leave it out. */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Writes a text only where it is another one, so that selections and screen readers are left in peace. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes a parent's children those of `items`, in their order. A child that is there already stays the same element, with
 * its focus; `make` gives `{ element, update(item) }`.
 */
export function keep(parent, items, key, make) {
  parent.kept ??= new Map();
  const before = parent.kept;
  parent.kept = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const child = before.get(name) ?? make(item);
    before.delete(name);
    parent.kept.set(name, child);
    child.update?.(item);
    if (child.element === place) place = place.nextElementSibling;
    else parent.insertBefore(child.element, place);
  }
  for (const { element, gone } of before.values()) {
    gone?.();
    element.remove();
  }
}

/** Milliseconds since 1970, of RFC 3339. */
export const ms = (text) => Date.parse(text);

const UNITS = [
  [86_400_000, "d", 3_600_000, "h"],
  [3_600_000, "h", 60_000, "min"],
  [60_000, "min", 1_000, "s"],
];

/** How long something took, such as `340 ms`, `2.1 s`, `3 min 5 s`, `2 d 4 h`. */
export function span(duration) {
  const time = Math.max(0, duration);
  if (time < 1_000) return `${Math.round(time)} ms`;
  if (time < 60_000) return `${(time / 1_000).toFixed(time < 10_000 ? 1 : 0)} s`;
  const [large, name, small, part] = UNITS.find(([unit]) => time >= unit);
  const rest = Math.floor((time % large) / small);
  return `${Math.floor(time / large)} ${name}${rest ? ` ${rest} ${part}` : ""}`;
}

/** The same, as short as can be: `now`, `12 s`, `3 min`. */
export function age(duration) {
  if (duration < 1_000) return "now";
  if (duration < 60_000) return `${Math.floor(duration / 1_000)} s`;
  const [large, name] = UNITS.find(([unit]) => duration >= unit);
  return `${Math.floor(duration / large)} ${name}`;
}

/** The time of day here, with the day if it is another one. */
export function clock(time, now) {
  const [at, today] = [new Date(time), new Date(now)];
  const day = at.toDateString() === today.toDateString() ? "" : `${at.toLocaleDateString(undefined, { dateStyle: "medium" })}, `;
  return day + at.toLocaleTimeString(undefined, { timeStyle: "medium" });
}
