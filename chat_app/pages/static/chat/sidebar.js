// The person's conversations: search, today, this week, older; rename, pin, delete with undo.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../kit.js";
import { call } from "../call.js";
import { attempt, toast } from "../page.js";
import { daysAgo, t } from "../words.js";
import { Icon } from "./icons.js";

const SEARCH_MS = 250;
const LISTED = 100; // conversations at once

/** The button that opens the conversations on a phone. */
export function Menu({ open }) {
  return html`<button type="button" class="button quiet icon menu" aria-label=${t("chat.conversations")}
      onClick=${open}><${Icon} name="menu" /></button>`;
}

/** Beside the conversation where there is room; else a drawer, which a choice or Escape closes. */
export function Sidebar(props) {
  const { drawer, close } = props;
  const dialog = useRef();
  useLayoutEffect(() => {
    if (drawer && !dialog.current.open) dialog.current.showModal();
    if (!drawer && dialog.current?.open) dialog.current.close();
  }, [drawer]);
  const outside = (event) => event.target === dialog.current && close();
  return html`<aside class="sidebar" aria-label=${t("chat.conversations")}><${List} ...${props} /></aside>
    <dialog class="drawer" ref=${dialog} aria-label=${t("chat.conversations")} onClose=${close}
        onClick=${outside}>
      ${drawer && html`<${List} ...${props} /><button type="button" class="button" onClick=${close}>
        ${t("page.close")}</button>`}
    </dialog>`;
}

function List({ listed, chosen, open, refresh, more, restore }) {
  const [query, setQuery] = useState("");
  const [most, setMost] = useState(LISTED); // hits that are shown
  const [found, setFound] = useState(null);
  useEffect(() => {
    if (!query.trim()) return setFound(null);
    const soon = setTimeout(
      () => attempt(async () => setFound(await call("chat_conversations", query, most))),
      SEARCH_MS,
    );
    return () => clearTimeout(soon);
  }, [query, most, listed]);

  const shown = found ?? listed;
  const remove = (one) =>
    attempt(async () => {
      await call("chat_delete", one.id);
      await refresh();
      if (one.id === chosen) open(null);
      const undo = () => attempt(async () => (await call("chat_restore", one.id), await refresh()));
      toast(t("chat.deleted", { title: one.title }), { undo });
    });
  const act = (name, ...data) => attempt(async () => (await call(name, ...data), await refresh()));
  const typed = (event) => (setQuery(event.target.value), setMost(LISTED));
  return html`<div class="stack list">
    <button type="button" class="button" onClick=${() => open(null)}>
      <${Icon} name="plus" /> ${t("chat.new")}</button>
    <input class="input" type="search" dir="auto" aria-label=${t("chat.search")}
      placeholder=${t("chat.search")} value=${query} onInput=${typed} />
    <nav aria-label=${t("chat.conversations")}>
      ${!shown.conversations.length &&
      html`<p class="quiet">${t(query ? "chat.none_found" : "chat.none")}</p>`}
      ${groups(shown.conversations).map(
        ([name, ones]) => html`<section key=${name}><h2>${t(`chat.group.${name}`)}</h2>
          <ul>${ones.map(
            (one) => html`<${Row} key=${one.id} one=${one} here=${one.id === chosen}
              passage=${shown.passages[one.id]} open=${(where) => open(one.id, where)}
              remove=${() => remove(one)} pin=${() => act("chat_pin", one.id, !one.pinned)}
              rename=${(title) => act("chat_rename", one.id, title)} />`,
          )}</ul></section>`,
      )}
      ${shown.more &&
      html`<button type="button" class="button small quiet"
          onClick=${() => (found ? setMost(most + LISTED) : more())}>${t("chat.more")}</button>`}
    </nav>
    ${listed.deleted && html`<${Deleted} listed=${listed} restore=${restore} />`}
  </div>`;
}

/** What was deleted and can be restored; a quiet line, until somebody opens it. */
function Deleted({ listed, restore }) {
  const [shown, setShown] = useState(false);
  const [deleted, setDeleted] = useState(null);
  useEffect(() => {
    if (shown) attempt(async () => setDeleted(await call("chat_deleted")));
  }, [shown, listed]);
  return html`<details class="deleted" onToggle=${(event) => setShown(event.target.open)}>
    <summary>${t("chat.recently_deleted")}</summary>
    <ul>${(deleted ?? []).map(
      (one) => html`<li key=${one.id}><span class="title" dir="auto">${one.title || t("chat.untitled")}</span>
        <button type="button" class="button small quiet" onClick=${() => restore(one)}
            aria-label=${t("chat.restore_one", { title: one.title })}>${t("chat.restore")}</button></li>`,
    )}</ul>
  </details>`;
}

function Row({ one, here, passage, open, remove, pin, rename }) {
  const [renaming, setRenaming] = useState(false);
  const [title, setTitle] = useState(one.title);
  const box = useRef();
  useLayoutEffect(() => box.current?.focus(), [renaming]);
  const done = (event) => {
    event.preventDefault();
    setRenaming(false);
    if (title.trim() && title !== one.title) rename(title.trim());
  };
  if (renaming)
    return html`<li><form onSubmit=${done}><input class="input" value=${title} dir="auto"
        aria-label=${t("chat.rename")} ref=${box} onBlur=${done}
        onInput=${(event) => setTitle(event.target.value)}
        onKeyDown=${(event) => event.key === "Escape" && setRenaming(false)} /></form></li>`;
  const tool = (icon, name, act, pressed) => html`<button type="button" class="button quiet small icon"
      aria-label=${`${name}: ${one.title}`} title=${name} aria-pressed=${pressed}
      onClick=${act}><${Icon} name=${icon} /></button>`;
  return html`<li class=${here ? "here" : ""}>
    <button type="button" class="title" dir="auto" aria-current=${here ? "true" : undefined}
        onClick=${() => open({ through: passage?.message_id ?? null })}>
      <span class="name">${one.title || t("chat.untitled")}</span>
      ${passage && html`<span class="passage" dir="auto">${passage.pieces.map(piece)}</span>`}
    </button>
    <span class="tools">
      ${tool("pin", t(one.pinned ? "chat.unpin" : "chat.pin"), pin, one.pinned)}
      ${tool("pen", t("chat.rename"), () => setRenaming(true))}
      ${tool("bin", t("chat.delete"), remove)}
    </span>
  </li>`;
}

/** A piece of what was found; the words that were looked for are marked. */
const piece = ([text, marked]) => (marked ? html`<mark>${text}</mark>` : text);

/** Conversations by when they were last used; pinned ones first. */
function groups(conversations) {
  const of = (one) => {
    if (one.pinned) return "pinned";
    const days = daysAgo(new Date(one.updated_at ?? one.created_at));
    return days < 1 ? "today" : days < 7 ? "week" : "older";
  };
  return ["pinned", "today", "week", "older"]
    .map((name) => [name, conversations.filter((one) => of(one) === name)])
    .filter(([, ones]) => ones.length);
}
