// The server's HTTP API, as far as the pages use it.

import { signal } from "@preact/signals";

/** What the server says when it refuses. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
  ) {
    super(message);
  }
}

const KEPT = "roundhouse.key";

/** The API key, where the server has one; kept while this tab is open. */
export const key = signal(sessionStorage.getItem(KEPT) ?? "");

/** The server wants a key, or another one. */
export const locked = signal(false);

/** Takes a key from a person. */
export function unlock(value: string) {
  sessionStorage.setItem(KEPT, value);
  key.value = value;
  locked.value = false;
}

/** Asks the server. Rejects with an ApiError, or a TypeError where it cannot be reached. */
export async function ask(path: string, init: { body?: unknown; signal?: AbortSignal; id?: string } = {}): Promise<Response> {
  const headers: Record<string, string> = {};
  if (key.value) headers["Authorization"] = "Bearer " + key.value;
  if (init.id) headers["X-Request-Id"] = init.id;
  if (init.body !== undefined) headers["Content-Type"] = "application/json";
  const reply = await fetch(path, {
    method: init.body === undefined ? "GET" : "POST",
    headers,
    body: init.body === undefined ? null : JSON.stringify(init.body),
    signal: init.signal ?? null,
  });
  if (reply.ok) return reply;
  if (reply.status === 401) locked.value = true;
  throw await refusal(reply);
}

async function refusal(reply: Response): Promise<ApiError> {
  try {
    const { error } = (await reply.json()) as { error: { message: string; code: string } };
    return new ApiError(String(error.message), reply.status, String(error.code));
  } catch {
    return new ApiError("the server answers " + reply.status, reply.status, "");
  }
}

/** The JSON of an answer. */
export async function get<T>(path: string): Promise<T> {
  return (await (await ask(path)).json()) as T;
}

/** A parameter that a script declares. */
export interface Param {
  type: string;
  default?: unknown;
  description?: string;
  minimum?: number;
  maximum?: number;
  enum?: unknown[];
}

/** What a script says of itself. */
export interface Script {
  name: string;
  library?: boolean;
  params?: { [name: string]: Param };
  problems?: string[];
  no_script?: boolean;
}

/** Reads server-sent events until the answer ends: each has one JSON, "[DONE]" ends them. */
export async function* events(reply: Response): AsyncGenerator<unknown> {
  if (!reply.body) return;
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
        const data = rest
          .slice(0, end)
          .split("\n")
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart())
          .join("\n");
        rest = rest.slice(end + 2);
        if (data === "[DONE]") return;
        if (data) yield JSON.parse(data);
      }
      if (rest.length > MAX_EVENT) throw new Error("an event of the server is larger than " + MAX_EVENT + " characters");
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have ended
  }
}

const MAX_EVENT = 1 << 22;
