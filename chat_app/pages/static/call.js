// Calls of the server's functions, over Gradio; and a reply while it is written, as events.
import { config, place } from "./config.js";
import { has, said, t } from "./words.js";

/** What the server or the network says is wrong, as one sentence for the person. */
export class Problem extends Error {
  constructor(message, { kind = "", offline = false } = {}) {
    super(message);
    this.kind = kind; // the name of the server's error
    this.offline = offline;
  }
}

/** Call a function by its name; returns its result, or throws a `Problem`. */
export async function call(name, ...data) {
  const { data: [answer] } = await post(`run/${name}`, { data });
  return result(answer);
}

/** Follow the reply to a message: each piece as it comes, until it ends or `signal` says so. */
export async function* follow(prompt, { signal } = {}) {
  for await (const answer of events(`/follow/${encodeURIComponent(prompt)}`, signal))
    yield result(answer);
}

function result(answer) {
  if (answer && "ok" in answer) return answer.ok;
  const { problem, kind, sentence } = answer ?? {};
  throw new Problem(sentence ? said(sentence) : (problem ?? t("page.failed")), { kind });
}

async function post(path, body) {
  let response;
  try {
    response = await fetch(place(`${config.events}/${path}`), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Problem(t("page.offline"), { offline: true });
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  throw new Problem(refusal(response));
}

/** Why a call came to no function of a page: an error of HTTP, in the page's language. */
function refusal({ status, headers }) {
  if (status === 429) return t("page.wait", { n: Number(headers.get("retry-after") ?? 1) });
  return has(`page.status.${status}`) ? t(`page.status.${status}`) : t("page.failed");
}

/** The data of server-sent events until the event "end". */
async function* events(path, signal) {
  const source = new EventSource(place(path));
  const waiting = [];
  let wake = () => {};
  const put = (one) => (waiting.push(one), wake());
  source.onmessage = ({ data }) => put(JSON.parse(data));
  source.addEventListener("end", () => put(null));
  source.onerror = () => put(new Problem(t("page.offline"), { offline: true })); // ask anew instead
  signal?.addEventListener("abort", () => put(null));
  try {
    while (true) {
      while (!waiting.length) await new Promise((resolve) => (wake = resolve));
      const one = waiting.shift();
      if (one === null) return;
      if (one instanceof Problem) throw one;
      yield one;
    }
  } finally {
    source.close();
  }
}
