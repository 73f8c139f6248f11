// Owns the calls: the session, how a request is written, and how many run at a time. Nothing else uses fetch.
// The API key is in this tab's session storage, so that a reload needs no password. The password is in memory only, to renew the key.

const ROOT = "/nuage/api/v6/";
const STORED = "vsd-session";
const AT_ONCE = 3; // a browser has six connections to one server, and two wait for news
const CALL_MS = 30000;
export const WAIT_MS = 130000; // the limit of vsd §14 for a long poll

/** A failed request; `status` 0 means that no answer came. */
export class Failure extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

const bytes = (text) => String.fromCharCode(...new TextEncoder().encode(text)); // a header carries UTF-8 as bytes

function description(status, body) {
  const text = body?.errors?.[0]?.descriptions?.[0]?.description;
  return text ?? (status ? `The simulator answers ${status}.` : "The simulator does not answer.");
}

export class Api {
  #session = JSON.parse(sessionStorage.getItem(STORED) ?? "null");
  #password = null;
  #renewal = null;
  #running = 0;
  #waiting = [];
  #end = new AbortController();

  get session() {
    return this.#session;
  }

  async login(user, password, organization) {
    const wanted = { user, organization, key: password };
    const me = (await this.#send("GET", `${ROOT}me`, {}, wanted, this.#end.signal)).body[0];
    this.#password = password;
    this.#session = { user, organization, key: me.APIKey, role: me.role, enterprise: me.enterpriseName };
    sessionStorage.setItem(STORED, JSON.stringify(this.#session));
  }

  logout() {
    this.#end.abort();
    this.#end = new AbortController();
    this.#password = null;
    this.#session = null;
    sessionStorage.removeItem(STORED);
  }

  /** One page of a collection: {items, count}. */
  async list(path, { filter, plain, page, size, order } = {}) {
    const headers = {};
    if (filter !== undefined) headers["X-Nuage-Filter"] = bytes(filter);
    if (plain) headers["X-Nuage-FilterType"] = "plain";
    if (page !== undefined) headers["X-Nuage-Page"] = String(page);
    if (size !== undefined) headers["X-Nuage-PageSize"] = String(size);
    if (order !== undefined) headers["X-Nuage-OrderBy"] = order;
    const answer = await this.#queued(ROOT + path, headers);
    const items = answer.body ?? [];
    return { items, count: Number(answer.headers.get("X-Nuage-Count") ?? items.length) };
  }

  /** How many objects a collection has. */
  async count(path, filter) {
    return (await this.list(path, { filter, page: 0, size: 1 })).count;
  }

  /** One object, or null if it is gone. */
  async get(path) {
    try {
      return (await this.#queued(ROOT + path, {})).body[0];
    } catch (failure) {
      if (failure.status === 404) return null;
      throw failure;
    }
  }

  /** A long poll; it does not wait in the queue of the other requests. */
  async poll(path, signal) {
    return (await this.#renewed(path.startsWith("/") ? path : ROOT + path, {}, signal, WAIT_MS)).body;
  }

  /** Asks for the own user, which the simulator answers at once; does not wait in the queue. */
  async ping() {
    await this.#renewed(`${ROOT}me`, {});
  }

  async #queued(path, headers) {
    if (this.#running >= AT_ONCE) await new Promise((go) => this.#waiting.push(go));
    this.#running += 1;
    try {
      return await this.#renewed(path, headers);
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }

  async #renewed(path, headers, signal, limit) {
    const used = this.#session;
    const stop = signal ? AbortSignal.any([signal, this.#end.signal]) : this.#end.signal;
    try {
      return await this.#send("GET", path, headers, used, stop, limit);
    } catch (failure) {
      if (failure.status !== 401 || this.#password === null) throw failure;
      if (this.#session?.key === used?.key) await this.#renew();
      return this.#send("GET", path, headers, this.#session, stop, limit);
    }
  }

  #renew() {
    const { user, organization } = this.#session;
    this.#renewal ??= this.login(user, this.#password, organization).finally(() => (this.#renewal = null));
    return this.#renewal;
  }

  async #send(method, path, headers, session, signal, limit = CALL_MS) {
    if (!session) throw new Failure(401, "You are not logged in.");
    let answer, text;
    try {
      answer = await fetch(path, {
        method,
        credentials: "omit", // no cookie, and no password dialogue of the browser's own
        cache: "no-store",
        signal: AbortSignal.any([signal, AbortSignal.timeout(limit)]),
        headers: {
          ...headers,
          "Content-Type": "application/json",
          "Authorization": `XREST ${btoa(bytes(`${session.user}:${session.key}`))}`,
          "X-Nuage-Organization": bytes(session.organization),
          "X-Nuage-ClientType": "page",
        },
      });
      text = await answer.text();
    } catch (problem) {
      if (signal.aborted) throw problem;
      throw new Failure(0, description(0));
    }
    let body = null;
    try {
      body = text ? JSON.parse(text) : null;
    } catch {
      if (answer.ok) throw new Failure(0, "The simulator's answer cannot be read.");
    }
    if (!answer.ok) throw new Failure(answer.status, description(answer.status, body));
    return { body, headers: answer.headers };
  }
}

/** Quotes a text as a value of a filter; returns null for a text with both kinds of quotes, or a backslash. */
export function quoted(text) {
  if (text.includes("\\")) return null;
  if (!text.includes('"')) return `"${text}"`;
  return text.includes("'") ? null : `'${text}'`;
}
