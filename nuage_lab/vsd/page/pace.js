// Owns when to ask again for what events made stale: soon, never twice at once, and at most a tenth of the time.

const SOON_MS = 250;
const LEAST_MS = 1000;
const SHARE = 10;

export class Pace {
  #work;
  #timer = null;
  #next = 0;
  #isAsked = false;

  constructor(work) {
    this.#work = work;
  }

  /** Runs the work: at once the first time, later as soon as allowed. Calls during a run cause one more run. */
  ask() {
    this.#isAsked = true;
    this.#plan();
  }

  end() {
    clearTimeout(this.#timer);
    this.#timer = "ended";
  }

  #plan() {
    if (!this.#isAsked || this.#timer !== null) return;
    const wait = this.#next ? Math.max(SOON_MS, this.#next - performance.now()) : 0;
    this.#timer = setTimeout(() => this.#run(), wait);
  }

  async #run() {
    const started = performance.now();
    this.#isAsked = false;
    try {
      await this.#work();
    } catch {
      // The simulator does not answer or the object is gone; the next listing asks again.
    }
    this.#next = started + Math.max(LEAST_MS, SHARE * (performance.now() - started));
    if (this.#timer === "ended") return;
    this.#timer = null;
    this.#plan();
  }
}
