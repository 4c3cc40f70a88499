// What the page may ask outboxd for, with the token that it was given. Keeps that in memory, and nowhere else.

/** Why an answer is none: `locked` (no good token), `forbidden`, `unknown`, `away`. */
export class Refusal extends Error {
  constructor(kind, detail) {
    super(detail);
    this.kind = kind;
  }
}

export class Daemon {
  #token = "";
  #client = null;
  #lock;
  /** What the daemon's clock is ahead of ours. */
  skew = 0;

  /** `lock` is called with a sentence when there is no good token any more. */
  constructor(lock) {
    this.#lock = lock;
  }

  /** Takes another token. */
  unlock(token) {
    this.lock();
    this.#token = token;
  }

  /** Forgets the token, and ends what it was used for. */
  lock() {
    this.#client?.close();
    this.#client = null;
    this.#token = "";
  }

  get isLocked() {
    return !this.#token;
  }

  /** The daemon's time. */
  now() {
    return Date.now() + this.skew;
  }

  /** Asks over HTTP: the answer's JSON. */
  async get(path, query = {}) {
    const token = this.#token;
    const url = new URL(path, document.baseURI);
    for (const [name, value] of Object.entries(query)) if (value) url.searchParams.set(name, value);
    let answer;
    try {
      answer = await fetch(url, { headers: { authorization: `Bearer ${token}` }, cache: "no-store", signal: AbortSignal.timeout(15_000) });
    } catch {
      throw new Refusal("away", "outboxd cannot be reached");
    }
    if (answer.ok) return answer.json();
    const { detail } = await answer.json().catch(() => ({}));
    if (answer.status === 401) {
      if (token === this.#token) this.#ended();
      throw new Refusal("locked", detail);
    }
    const kinds = { 403: "forbidden", 404: "unknown" };
    throw new Refusal(kinds[answer.status] ?? "away", detail ?? `outboxd answers ${answer.status}`);
  }

  /** Watches a saga live, through the same client that shops use. */
  watch(sagaType, sagaId, handlers) {
    const token = this.#token;
    this.#client ??= outboxd.connect({
      url: new URL(".", document.baseURI),
      // An expired token would be refused again and again; the page has no other one.
      token: () => (isOver(token) ? null : token),
    });
    return this.#client.watch(sagaType, sagaId, {
      ...handlers,
      onStatus: (status, error) => {
        const isBad = error?.code === 4201 || error?.code === "no_token";
        if (isBad && token && token === this.#token) this.#ended();
        handlers.onStatus?.(status, error);
      },
    });
  }

  #ended() {
    const expired = isOver(this.#token);
    this.lock();
    this.#lock(expired ? "The token has expired. Show another one." : "The token is not good here. Is it whole, and from the right issuer?");
  }
}

/** Whether a token's time is over, as far as it can be read. */
function isOver(token) {
  try {
    const { exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return exp * 1_000 < Date.now();
  } catch {
    return false;
  }
}
