/** Commands that the server has not acknowledged, kept in the browser (IndexedDB) so that a reload or a crash loses none.

Each tab owns what it wrote; what a closed tab left behind is taken over by the next one that starts. */

const NAME = "scribbleseg";
const TABLE = "commands";

function asPromise(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Return an id that nobody else has; also where `crypto.randomUUID` is missing (plain http on another host). */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Hold a lock for as long as the tab lives; return whether it was free. */
function hold(name) {
  return new Promise((resolve) => {
    navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock ? new Promise(() => {}) : undefined;
    });
  });
}

export class Store {
  /** Open the store of one project. Where the browser has none, nothing is kept and `works` is false. */
  static async open(project) {
    const store = new Store();
    store.project = project;
    store.works = true;
    try {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "seq", autoIncrement: true });
      store.db = await asPromise(request);
    } catch {
      store.works = false;
    }
    await store.#nameTab();
    return store;
  }

  async #nameTab() {
    this.tab = sessionStorage.getItem("tab") ?? uuid();
    if (navigator.locks && !(await hold(`scribbleseg-tab-${this.tab}`))) {
      this.tab = uuid(); // a copy of a tab that is still open
      await hold(`scribbleseg-tab-${this.tab}`);
    }
    sessionStorage.setItem("tab", this.tab);
  }

  #table(mode) {
    return this.db.transaction(TABLE, mode, { durability: "strict" }).objectStore(TABLE);
  }

  /** Keep a command that was drawn on `version` of an image. */
  async keep(image, version, command) {
    if (!this.works) return;
    await asPromise(this.#table("readwrite").add({ project: this.project, tab: this.tab, image, version, command }));
  }

  /** Forget commands by their ids. */
  async forget(ids) {
    if (!this.works) return;
    const gone = new Set(ids);
    const table = this.#table("readwrite");
    const rows = await asPromise(table.getAll());
    for (const row of rows) if (row.project === this.project && gone.has(row.command.id)) table.delete(row.seq);
  }

  /** Return what this tab and tabs that are gone left unsent, in order, and make it this tab's. */
  async adopt() {
    if (!this.works) return [];
    const held = navigator.locks ? (await navigator.locks.query()).held : [];
    const alive = new Set(held.map((lock) => lock.name.replace("scribbleseg-tab-", "")));
    alive.delete(this.tab);
    const table = this.#table("readwrite");
    const rows = await asPromise(table.getAll());
    const mine = rows.filter((row) => row.project === this.project && !alive.has(row.tab));
    for (const row of mine) if (row.tab !== this.tab) table.put({ ...row, tab: this.tab });
    return mine;
  }
}
