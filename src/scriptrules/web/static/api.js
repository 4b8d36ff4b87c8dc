// The public HTTP API, and nothing else: whatever the page shows or does, a script can.

export class Problem extends Error {
  constructor(status, title, detail, code) {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.code = code;
  }
}

const FROM_HERE = { "x-scriptrules": "page" }; // no page of another site can send it with a session

export const url = (path) => new URL(path, document.baseURI).href;

async function ask(method, path, body, signal) {
  let answer;
  try {
    answer = await fetch(url(path), {
      method,
      signal,
      credentials: "same-origin",
      headers: {
        ...(method === "GET" ? {} : FROM_HERE),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "No server answers", "No server answers. What is shown is what was known last.");
  }
  const text = await answer.text();
  let content = null;
  try {
    content = text ? JSON.parse(text) : null;
  } catch {
    throw new Problem(answer.status, "No JSON", `The server answered ${answer.status} with something that is no JSON.`);
  }
  if (!answer.ok) {
    throw new Problem(answer.status, content?.title ?? answer.statusText, content?.detail, content?.code);
  }
  return content;
}

export const get = (path, signal) => ask("GET", path, undefined, signal);
export const post = (path, body = {}) => ask("POST", path, body);
export const put = (path, body) => ask("PUT", path, body);
export const remove = (path) => ask("DELETE", path);

export function query(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

// Lines of JSON as they arrive, until the answer ends or `signal` says so.
export async function lines(path, signal, take) {
  const answer = await fetch(url(path), { signal, credentials: "same-origin" });
  if (!answer.ok) throw new Problem(answer.status, answer.statusText, "");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) take(JSON.parse(part));
  }
}

export const who = () => localStorage.getItem("scriptrules.who") || "";

// A verb, once: a request that is sent again because no answer came changes nothing more.
export async function verb(path, body = {}) {
  const request = { ...body, request_id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` };
  if (who()) request.who = who();
  try {
    return await post(path, request);
  } catch (problem) {
    if (problem.status !== 0) throw problem;
    await new Promise((resolve) => setTimeout(resolve, 1500));
    return post(path, request);
  }
}
