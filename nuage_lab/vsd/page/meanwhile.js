// Owns what events added and removed while a list was being read: the list may be older than they are.

export class Meanwhile {
  #lists = 0; // being read; there may be two at once
  #came = new Set();
  #gone = new Set();

  begin() {
    this.#lists += 1;
  }

  came(id) {
    if (!this.#lists) return;
    this.#came.add(id);
    this.#gone.delete(id);
  }

  went(id) {
    if (!this.#lists) return;
    this.#gone.add(id);
    this.#came.delete(id);
  }

  /** Ends a list: returns which of its objects still exist, and which others to keep. */
  end(listed) {
    const [came, gone] = [new Set(this.#came), new Set(this.#gone)];
    this.#lists -= 1;
    if (!this.#lists) {
      this.#came.clear();
      this.#gone.clear();
    }
    return { there: listed.filter((one) => !gone.has(one.ID)), stays: (id) => came.has(id) };
  }
}
