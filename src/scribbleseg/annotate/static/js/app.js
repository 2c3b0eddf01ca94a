/** The page put together: what tells whom. */

import { put } from "./api.js";
import { columns, project as told } from "./first.js";
import { Page } from "./page.js";
import { loadWords } from "./text.js";
import { failed } from "./notice.js";
import { Store } from "./store.js";
import { Sender } from "./sender.js";

async function start() {
  await loadWords();
  const project = await told;
  const opened = Store.open(project.key ?? project.name);
  const page = new Page(project, new Sender(await opened));
  page.list.take(await columns);
  page.sender.adopt(await page.sender.store.adopt());
  const asked = Number(new URLSearchParams(location.hash.slice(1)).get("image"));
  const first = page.list.rows.find((row) => row.id === asked) ?? page.list.rows[0];
  const shown = first && page.show(first.id);
  page.begin();
  page.list.done.addEventListener("change", async () => {
    if (!page.document) return;
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
  await shown;
}

start().catch((error) => failed(error));
