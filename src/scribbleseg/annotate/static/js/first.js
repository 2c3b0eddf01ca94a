/** What every start needs, asked for before the other modules are there. */

import { get } from "./api.js";

export const project = get("/api/project");
export const columns = get("/api/images");

for (const told of [project, columns]) told.catch(() => {}); // who waits for it is told
