// Data: what people said, filtered; search; a conversation to be read; leaving out; exports.
import { html, useEffect, useState } from "../kit.js";
import { place } from "../config.js";
import { call } from "../call.js";
import { toast } from "../page.js";
import { reason } from "../judging.js";
import { Dialog } from "../parts.js";
import { number, t } from "../words.js";
import { Empty, Table, Waiting, time, useView, version } from "./asking.js";
import { LeaveOut, LeftOutList, takeIn } from "./left_out.js";

const FORMS = ["preference", "unpaired", "sft", "prompts", "events"];
const NOTHING = { kind: "", split: "", rater_id: "", since: "", until: "" };
const SHOWN = ["counted", "left_out"];

export function Data() {
  const [opened, setOpened] = useState(null);
  const [changes, setChanges] = useState(0); // of what is left out, after which lists are old
  const open = (id, rater) => setOpened({ id, rater });
  return html`<h2>${t("operator.tab.data")}</h2>
    <${Search} open=${open} />
    <${SaidList} open=${open} changes=${changes} />
    <section class="card stack" aria-labelledby="export">
      <h3 id="export">${t("operator.export")}</h3>
      <p class="quiet">${t("operator.export.text")}</p>
      <div class="row">${FORMS.map((form) => html`<a class="button" key=${form} href=${place(`/operator/export/${form}`)} download>${t(`operator.export.${form}`)}</a>`)}</div>
    </section>
    ${opened &&
    html`<${Conversation} ...${opened} close=${() => setOpened(null)}
      changed=${() => setChanges(changes + 1)} />`}`;
}

function Search({ open }) {
  const [query, setQuery] = useState("");
  const [hits, setHits] = useState(null);
  const go = async (event) => {
    event.preventDefault();
    try {
      setHits(await call("operate_search", query));
    } catch (error) {
      toast(error.message, { bad: true });
    }
  };
  return html`<section class="card stack" aria-labelledby="search">
    <h3 id="search">${t("operator.data.search")}</h3>
    <form class="row" role="search" onSubmit=${go}>
      <label class="field grow"><span class="sr">${t("operator.data.words")}</span>
        <input type="search" required placeholder=${t("operator.data.words")} value=${query} onInput=${(event) => setQuery(event.target.value)} />
      </label>
      <button type="submit" class="button">${t("operator.search")}</button>
    </form>
    ${hits?.length === 0 && html`<p role="status">${t("operator.data.no_hit")}</p>`}
    ${hits?.length > 0 && html`<p class="quiet" role="status">${t("operator.data.hits", { n: hits.length })}</p>
      <${Table} caption=${t("operator.data.search")} rows=${hits} keyOf=${(row) => row.message_id} columns=${[
        { id: "at", name: t("operator.when"), cell: (row) => time(row.created_at) },
        { id: "role", name: t("operator.role"), cell: (row) => t(`operator.role.${row.role}`) },
        { id: "text", name: t("operator.text"), head: true, cell: (row) => html`<span dir="auto">${row.snippet}</span>` },
        { id: "open", name: t("operator.do"), cell: (row) => html`<button type="button" class="button small" onClick=${() => open(row.conversation_id, row.rater_id)}>${t("operator.open")}</button>` },
      ]} />`}
  </section>`;
}

function SaidList({ open, changes }) {
  const [filter, setFilter] = useState(NOTHING);
  const [shown, setShown] = useState(SHOWN[0]);
  const [leaving, setLeaving] = useState(null);
  const [pages, setPages] = useState(null);
  const [problem, setProblem] = useState("");
  const ask = async (before = null) => {
    // a day of the person's own time, from its first moment to its last
    const day = (text, more) => (text ? new Date(new Date(`${text}T00:00`).getTime() + more).toISOString() : "");
    const wanted = { ...filter, since: day(filter.since, 0), until: day(filter.until, 86_400_000) };
    try {
      const page = await call("operate_said", wanted, before);
      setPages((old) => ({ ...page, rows: before === null ? page.rows : [...old.rows, ...page.rows] }));
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  useEffect(() => {
    ask();
  }, [JSON.stringify(filter), shown, changes]);
  if (!pages) return html`<${Waiting} problem=${problem} again=${() => ask()} />`;
  const set = (name) => (event) => setFilter({ ...filter, [name]: event.target.value.trim() });
  const choose = (name, values) => html`<label class="field">${t(`operator.filter.${name}`)}
    <select value=${filter[name]} onChange=${set(name)}>
      <option value="">${t("operator.filter.all")}</option>
      ${values.map((value) => html`<option key=${value} value=${value}>${t(`operator.${name}.${value}`)}</option>`)}
    </select>
  </label>`;
  return html`<section class="stack" aria-labelledby="said">
    <h3 id="said">${t("operator.said.title")}</h3>
    <div class="filters">
      <label class="field">${t("operator.filter.show")}
        <select value=${shown} onChange=${(event) => setShown(event.target.value)}>
          ${SHOWN.map((one) => html`<option key=${one} value=${one}>${t(`operator.show.${one}`)}</option>`)}
        </select>
      </label>
      ${shown === "counted" &&
      html`${choose("kind", pages.kinds)} ${choose("split", pages.splits)}
        <label class="field">${t("operator.rater")}<input value=${filter.rater_id} onChange=${set("rater_id")} /></label>
        <label class="field">${t("operator.filter.since")}<input type="date" value=${filter.since} onChange=${set("since")} /></label>
        <label class="field">${t("operator.filter.until")}<input type="date" value=${filter.until} onChange=${set("until")} /></label>
        <button type="button" class="button bottom" onClick=${() => setFilter(NOTHING)}>${t("operator.filter.none")}</button>`}
    </div>
    ${problem && html`<p class="bad" role="alert" dir="auto">${problem}</p>`}
    <p class="quiet">${t("operator.data.exclude")}</p>
    ${shown === "left_out"
      ? html`<${LeftOutList} open=${open} changed=${changes} />`
      : html`${pages.rows.length
            ? html`<${Table} caption=${t("operator.said.title")} rows=${pages.rows}
                columns=${columns(open, setLeaving)} />`
            : html`<${Empty}>${t("operator.said.none")}<//>`}
          ${pages.more &&
          html`<div><button type="button" class="button" onClick=${() => ask(pages.more)}>
            ${t("operator.more")}</button></div>`}`}
    ${leaving &&
    html`<${Dialog} title=${t("operator.leave_out.title")} close=${() => setLeaving(null)}>
      <p class="said" dir="auto">${leaving.question || "–"}</p>
      <${LeaveOut} kind="vote" ids=${leaving.event_ids} close=${() => setLeaving(null)}
        done=${() => ask()} />
    <//>`}
  </section>`;
}

const columns = (open, leave) => [
  { id: "at", name: t("operator.when"), cell: (row) => time(row.created_at) },
  { id: "kind", name: t("operator.filter.kind"), cell: (row) => t(`operator.kind.${row.kind}`) },
  { id: "question", name: t("operator.question"), head: true, cell: (row) => html`<span dir="auto">${row.question || "–"}</span>` },
  { id: "split", name: t("operator.filter.split"), cell: (row) => t(`operator.split.${row.split}`) },
  { id: "weight", name: t("operator.weight"), cell: (row) => html`<span class="number">${number(row.weight, 2)}</span>` },
  { id: "rater", name: t("operator.rater"), cell: (row) => html`<a class="id" href=${`#raters/${encodeURIComponent(row.rater_id)}`}>${row.rater_id}</a>` },
  {
    id: "open",
    name: t("operator.do"),
    cell: (row) => html`<span class="row">
      ${row.conversation_id &&
      html`<button type="button" class="button small"
        onClick=${() => open(row.conversation_id, row.rater_id)}>${t("operator.open")}</button>`}
      <button type="button" class="button small"
        onClick=${() => leave(row)}>${t("operator.leave_out")}</button>
    </span>`,
  },
];

/** A conversation with all its branches; nothing can be said in it. */
function Conversation({ id, rater, close, changed }) {
  const [found, problem, ask] = useView("operate_conversation", id, rater);
  const [leaving, setLeaving] = useState(false);
  const done = () => (ask(), changed());
  return html`<${Dialog} title=${found?.title || t("operator.conversation")} close=${close}>
    ${found
      ? html`<p class="quiet"><code class="id">${found.rater_id}</code> · ${time(found.created_at)} · ${t("operator.read_only")}</p>
          <ol class="messages" tabindex="0" aria-label=${t("operator.conversation")}>${found.messages.map((one) => html`<${Said} key=${one.id} one=${one} />`)}</ol>`
      : html`<${Waiting} problem=${problem} again=${ask} />`}
    ${found?.left_out && html`<p class="wait">${t("operator.left_out", { reason: found.left_out })}</p>`}
    ${leaving
      ? html`<${LeaveOut} kind="conversation" ids=${[id]} close=${() => setLeaving(false)} done=${done} />`
      : html`<div class="row end">
          ${found &&
          html`<button type="button" class="button" onClick=${() =>
            found.left_out ? takeIn("conversation", [id], done) : setLeaving(true)}>
            ${t(found.left_out ? "operator.take_in" : "operator.leave_out")}</button>`}
          <button type="button" class="button primary" onClick=${close}>${t("page.close")}</button>
        </div>`}
  <//>`;
}

function Said({ one }) {
  const marks = [
    one.adapter && version(one.number, one.adapter),
    one.label && t("operator.candidate.label", { label: one.label.toUpperCase() }),
    one.chosen && t("operator.chosen"),
    one.thumb > 0 && t("operator.thumb.up"),
    one.thumb < 0 && t("operator.thumb.down"),
    ...one.tags.map(reason),
  ].filter(Boolean);
  return html`<li class=${one.role}>
    <p class="quiet">${t(`operator.role.${one.role}`)} · ${time(one.created_at)}${marks.map((mark) => html` <span class="pill" key=${mark}>${mark}</span>`)}</p>
    <p class="said" dir="auto">${one.content}</p>
    ${one.comments.map(
      (comment) => html`<p class="quiet" dir="auto" key=${comment}>
        ${t("operator.comment", { comment })}</p>`,
    )}
  </li>`;
}
