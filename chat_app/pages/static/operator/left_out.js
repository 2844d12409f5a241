// What the operator leaves out of training: asking for the reason, the list, taking in again.
import { html, useEffect, useState } from "../kit.js";
import { call } from "../call.js";
import { attempt, toast } from "../page.js";
import { t } from "../words.js";
import { Empty, Table, Waiting, time } from "./asking.js";

/** Take something in again; `done` is called once it counts. */
export const takeIn = (kind, ids, done) =>
  attempt(async () => {
    await call("operate_take_in", kind, ids);
    toast(t("operator.take_in.done"));
    done();
  });

/** Asks for the reason, in one line, and leaves out conversations or votes. */
export function LeaveOut({ kind, ids, close, done }) {
  const [reason, setReason] = useState("");
  const go = (event) => {
    event.preventDefault();
    return attempt(async () => {
      await call("operate_leave_out", kind, ids, reason);
      toast(t("operator.leave_out.done"));
      close();
      done();
    });
  };
  return html`<form class="stack" onSubmit=${go}>
    <p>${t(`operator.leave_out.${kind}`)}</p>
    <label class="field">${t("operator.quarantine.reason")}
      <input value=${reason} required maxlength="200" dir="auto"
        onInput=${(event) => setReason(event.target.value)} />
    </label>
    <div class="row end">
      <button type="button" class="button" onClick=${close}>${t("page.cancel")}</button>
      <button type="submit" class="button primary">${t("operator.leave_out")}</button>
    </div>
  </form>`;
}

/** What is left out, the latest first. */
export function LeftOutList({ open, changed }) {
  const [pages, setPages] = useState(null);
  const [problem, setProblem] = useState("");
  const ask = async (before = null) => {
    try {
      const page = await call("operate_left_out", before);
      const rows = (old) => (before === null ? page.rows : [...old.rows, ...page.rows]);
      setPages((old) => ({ ...page, rows: rows(old) }));
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  useEffect(() => {
    ask();
  }, [changed]);
  if (!pages) return html`<${Waiting} problem=${problem} again=${() => ask()} />`;
  return html`${problem && html`<p class="bad" role="alert" dir="auto">${problem}</p>`}
    ${pages.rows.length
      ? html`<${Table} caption=${t("operator.show.left_out")} rows=${pages.rows}
          columns=${columns(open, () => ask())} />`
      : html`<${Empty}>${t("operator.left_out.none")}<//>`}
    ${pages.more &&
    html`<div><button type="button" class="button" onClick=${() => ask(pages.more)}>
      ${t("operator.more")}</button></div>`}`;
}

const kindOf = (said) => t(said === "conversation" ? "operator.conversation" : `operator.kind.${said}`);

const columns = (open, again) => [
  { id: "at", name: t("operator.when"), cell: (row) => time(row.at) },
  { id: "kind", name: t("operator.filter.kind"), cell: (row) => kindOf(row.said) },
  {
    id: "question",
    name: t("operator.question"),
    head: true,
    cell: (row) => html`<span dir="auto">${row.question || "–"}</span>`,
  },
  { id: "reason", name: t("operator.reasons"), cell: (row) => html`<bdi>${row.reason}</bdi>` },
  { id: "by", name: t("operator.by"), cell: (row) => html`<bdi>${row.by}</bdi>` },
  {
    id: "rater",
    name: t("operator.rater"),
    cell: (row) =>
      html`<a class="id" href=${`#raters/${encodeURIComponent(row.rater_id)}`}>${row.rater_id}</a>`,
  },
  {
    id: "open",
    name: t("operator.do"),
    cell: (row) => html`<span class="row">
      ${row.conversation_id &&
      html`<button type="button" class="button small"
        onClick=${() => open(row.conversation_id, row.rater_id)}>${t("operator.open")}</button>`}
      <button type="button" class="button small"
        onClick=${() => takeIn(row.kind, [row.id], again)}>${t("operator.take_in")}</button>
    </span>`,
  },
];
