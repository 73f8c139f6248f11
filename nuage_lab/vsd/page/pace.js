// Owns when something is asked again that events make stale: soon, never twice at once, and for a tenth of the time at most.

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

  /** Runs the work at once for the first time, then as soon as it is its turn; what is asked meanwhile is one more run. */
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
      // The simulator is away or the object is gone; whoever lists it again asks again.
    }
    this.#next = started + Math.max(LEAST_MS, SHARE * (performance.now() - started));
    if (this.#timer === "ended") return;
    this.#timer = null;
    this.#plan();
  }
}
