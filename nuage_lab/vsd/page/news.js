// Owns the two long polls: events of objects (/events, as for every client) and requests of other clients (/lab/requests).
// A poll stops while the page is hidden and resumes where it was: a browser has few connections for all its tabs.

import { WAIT_MS } from "./api.js";

const RETRY_MS = [500, 1000, 2000, 3000];
const HIDDEN_MS = 10000;

const sleep = (time) => new Promise((wake) => setTimeout(wake, time));

/** Resolves when the page can be seen. */
function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((go) => document.addEventListener("visibilitychange", go, { once: true })).then(visible);
}

/** A signal that aborts when the page has been hidden for a while. */
function whileVisible(end) {
  const stop = new AbortController();
  let timer = null;
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => stop.abort(), HIDDEN_MS);
  };
  document.addEventListener("visibilitychange", look);
  const done = () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  };
  look();
  return { signal: AbortSignal.any([stop.signal, end]), done };
}

export class News {
  #api;
  #handlers;
  #end = null;

  /** `handlers` has events(list), requests(answer), anew(), lost(failure), back(), refused(failure). */
  constructor(api, handlers) {
    this.#api = api;
    this.#handlers = handlers;
  }

  start(hasRequests) {
    this.stop();
    this.#end = new AbortController();
    this.#follow(this.#end.signal, (place) => (place ? `events?uuid=${encodeURIComponent(place)}` : "events"), (answer) => {
      this.#handlers.events(answer.events ?? []);
      return answer.uuid;
    }, true);
    if (!hasRequests) return;
    this.#follow(this.#end.signal, (place) => `/lab/requests${place === null ? "" : `?after=${place}`}`, (answer) => {
      this.#handlers.requests(answer);
      return answer.seq;
    }, false);
  }

  stop() {
    this.#end?.abort();
  }

  async #follow(end, path, take, isLeading) {
    let place = null;
    while (!end.aborted) {
      await visible();
      const watched = whileVisible(end);
      try {
        const answer = await this.#api.poll(path(place), watched.signal);
        if (!end.aborted) place = take(answer);
      } catch (failure) {
        if (end.aborted) return;
        if (watched.signal.aborted) continue; // hidden for a while: go on after the last thing heard
        place = await this.#recover(failure, place, end, isLeading);
      } finally {
        watched.done();
      }
    }
  }

  /** Waits until the simulator answers; returns the place to resume from. */
  async #recover(failure, place, end, isLeading) {
    if (failure.status === 400) { // it does not know the place: what is shown may be old
      if (isLeading) setTimeout(() => this.#handlers.anew()); // the next poll goes out first
      return null;
    }
    for (let attempt = 0; !end.aborted; attempt += 1) {
      if (failure.status !== 401) {
        if (isLeading) this.#handlers.lost(failure);
        await sleep(RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)]);
      } else if (attempt) {
        this.#handlers.refused(failure);
        break;
      }
      try {
        if (!end.aborted) await this.#api.ping();
        if (isLeading && !end.aborted) this.#handlers.back();
        break;
      } catch (problem) {
        failure = problem;
      }
    }
    return place;
  }
}
