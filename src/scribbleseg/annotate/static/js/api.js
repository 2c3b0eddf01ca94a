/** Talking to the server: JSON, our header on every request, errors that say where, expected, got and what to do. */

/** The server said no. `body` is what it said, `status` the number. */
export class Refused extends Error {
  constructor(status, body) {
    super(explain(body) || `HTTP ${status}`);
    this.status = status;
    this.body = body;
  }
}

/** The server could not be reached. */
export class Unreachable extends Error {}

function explain(body) {
  if (!body || typeof body !== "object" || !body.expected) return "";
  return `${body.where}: expected ${body.expected}, got ${body.got}. ${body.do ?? ""}`.trim();
}

/** Send one request; return its JSON (null for an empty answer). Raises Refused and Unreachable. */
export async function call(method, path, { body, version, timeout_ms = 20000 } = {}) {
  const answer = await reach(method, path, { body, version, timeout_ms });
  let told = null;
  try {
    told = await answer.json();
  } catch (error) {
    if (answer.ok && answer.status !== 204) throw new Unreachable(String(error));
  }
  if (!answer.ok) {
    if (answer.status >= 502 && answer.status <= 504) throw new Unreachable(`HTTP ${answer.status}`);
    throw new Refused(answer.status, told);
  }
  return told;
}

async function reach(method, path, { body, version, timeout_ms }) {
  const headers = { "X-Scribbleseg": "1" };
  const form = body instanceof FormData;
  if (body !== undefined && !form) headers["Content-Type"] = "application/json";
  if (version !== undefined) headers["If-Match"] = String(version);
  const content = body === undefined ? undefined : form ? body : JSON.stringify(body);
  try {
    return await fetch(path, { method, headers, body: content, cache: "no-cache", signal: AbortSignal.timeout(timeout_ms) });
  } catch (error) {
    throw new Unreachable(String(error));
  }
}

export const get = (path, options) => call("GET", path, options);
export const post = (path, body, options) => call("POST", path, { ...options, body });
export const put = (path, body, options) => call("PUT", path, { ...options, body });

/** Return a file of the server and its name; errors as of any other call. */
export async function file(path) {
  const answer = await reach("GET", path, { timeout_ms: 30 * 60 * 1000 });
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => null));
  const [, name = ""] = /filename="?([^";]+)/.exec(answer.headers.get("Content-Disposition") ?? "") ?? [];
  return { name, content: await answer.blob() };
}

/** Return a picture of the server, or null where it has none (404). `options` are createImageBitmap's. */
export async function picture(path, options) {
  const answer = await reach("GET", path, { timeout_ms: 60000 });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Refused(answer.status, null);
  return createImageBitmap(await answer.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none", ...options });
}
