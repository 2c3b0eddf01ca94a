/** The page put together: what tells whom. */

import { get, put } from "./api.js";
import { Page } from "./page.js";
import { loadWords } from "./text.js";
import { failed } from "./notice.js";
import { Store } from "./store.js";
import { Sender } from "./sender.js";

async function start() {
  await loadWords();
  const project = await get("/api/project");
  const store = await Store.open(project.key ?? project.name);
  const sender = new Sender(store);
  const page = new Page(project, sender);
  sender.adopt(await store.adopt());
  await page.list.load();
  const asked = Number(new URLSearchParams(location.hash.slice(1)).get("image"));
  const first = page.list.rows.find((row) => row.id === asked) ?? page.list.rows[0];
  if (first) await page.show(first.id);
  page.begin();
  page.list.done.addEventListener("change", async () => {
    const { id } = page.document;
    const { checked: done } = page.list.done;
    try {
      await put(`/api/images/${id}/done`, { done });
      if (page.document.id === id) page.document.done = done;
      page.list.update(id, { done });
    } catch (error) {
      page.list.done.checked = !done;
      failed(error);
    }
  });
}

start().catch((error) => failed(error));
