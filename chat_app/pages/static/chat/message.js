// One message with what can be done about it: a vote and its reasons, a better answer, another try.
import { html, useLayoutEffect, useRef, useState } from "../kit.js";
import { attempt, speak } from "../page.js";
import { Reasons, useVote } from "../judging.js";
import { copied } from "../parts.js";
import { Markdown } from "../markdown.js";
import { sentence, t } from "../words.js";
import { Icon } from "./icons.js";

const NO_REASONS = { tags: [], comment: "" };

/**
 * A button with an icon; its name is what readers hear and what the pointer shows. The second click
 * of a double click does nothing: it would take back what the first one did.
 */
function Tool({ icon, name, pressed, act, disabled }) {
  return html`<button type="button" class="button quiet icon tool" aria-label=${name} title=${name}
      aria-pressed=${pressed} disabled=${disabled}
      onClick=${(event) => event.detail < 2 && act()}><${Icon} name=${icon} /></button>`;
}

/** ‹ 2/3 ›: the other messages in the same place. */
function Siblings({ message, open }) {
  const { siblings, id } = message;
  if (siblings.length < 2) return null;
  const at = siblings.indexOf(id);
  const step = (by, sign, name) => html`<button type="button" class="button quiet small icon"
      aria-label=${t(name)} disabled=${!siblings[at + by]}
      onClick=${() => open(siblings[at + by])}>${sign}</button>`;
  return html`<span class="siblings" role="group" aria-label=${t("chat.versions")}>
    ${step(-1, "‹", "chat.earlier")}
    <span class="number">${at + 1}/${siblings.length}</span>
    ${step(1, "›", "chat.later")}
  </span>`;
}

/** A text box with two buttons: for a changed message, and for a better answer. */
function Editor({ text, draft: begun = text, name, save, close }) {
  const [draft, setDraft] = useState(begun);
  const box = useRef();
  useLayoutEffect(() => { // before anybody can type
    box.current.focus();
    box.current.setSelectionRange(draft.length, draft.length);
  }, []);
  const press = (event) => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save(draft);
  };
  return html`<div class="editor stack">
    <textarea ref=${box} class="input" rows=${Math.min(12, 2 + draft.split("\n").length)} dir="auto"
      aria-label=${name} value=${draft} onInput=${(event) => setDraft(event.target.value)}
      onKeyDown=${press}></textarea>
    <div class="row end">
      <button type="button" class="button" onClick=${close}>${t("page.cancel")}</button>
      <button type="button" class="button primary" disabled=${!draft.trim() || draft === text}
          onClick=${() => save(draft)}>${name}</button>
    </div>
  </div>`;
}

/** What the person said. */
export function Said({ message, actions, busy, unsent }) {
  const [editing, setEditing] = useState(unsent !== undefined);
  if (editing)
    return html`<article class="said wide">
      <${Editor} text=${message.content} draft=${unsent} name=${t("chat.send_changed")}
        close=${() => setEditing(false)}
        save=${(text) => (setEditing(false), actions.edit(message.id, text))} />
    </article>`;
  return html`<div class="said-row">
    <article class="said" aria-label=${t("chat.you")}><${Markdown} text=${message.content} plain /></article>
    ${message.id &&
    html`<div class="tools">
      <${Siblings} message=${message} open=${actions.open} />
      <${Tool} icon="copy" name=${t("page.copy")} act=${() => copy(message.content)} />
      <${Tool} icon="pen" name=${t("chat.edit")} disabled=${busy} act=${() => setEditing(true)} />
    </div>`}
  </div>`;
}

/** What the model replied, and what the person says about it. */
export function Reply({ message, actions, opening, note, receipts, last }) {
  const [open, setOpen] = useState(""); // "up", "down" or "better": what is open below the reply
  const { id, content, thumb, better, before } = message;
  const cut = message.finish_reason === "cancelled" || message.finish_reason === "error";

  const { vote, asks } = useVote(actions.consented, async (act, agree) => {
    if (agree) await actions.agree();
    await act();
    speak(t("page.saved"));
    return true;
  });
  const thumbed = (value) => {
    if (thumb?.value === value) {
      setOpen("");
      return attempt(() => actions.thumb(id, 0)); // taking a vote back needs no consent
    }
    return vote(async () => {
      await actions.thumb(id, value);
      setOpen(value > 0 ? "up" : "down");
    });
  };
  const receipt = (one) => html`<p class="quiet receipt" key=${one.id}>${sentence(one.receipt)}
    ${one.can_undo &&
    html`<button type="button" class="button quiet small" onClick=${() => actions.undo(one)}>
      ${t("page.undo")}</button>`}</p>`;
  const saved = (text) => vote(async () => (await actions.rewrite(id, text), setOpen("")));

  return html`<article class="reply" aria-label=${t("chat.reply")}>
    <${Markdown} text=${content} />
    ${cut && html`<p class="quiet">${t(`chat.${message.finish_reason}`)}</p>`}
    ${message.finish_reason === "length" && html`<p class="quiet">${t("chat.length")}</p>`}
    ${id &&
    html`<div class=${`tools ${last ? "shown" : ""}`}>
      ${!cut &&
      html`<${Tool} icon="up" name=${t("chat.up")} pressed=${thumb?.value === 1} act=${() => thumbed(1)} />
        <${Tool} icon="down" name=${t("chat.down")} pressed=${thumb?.value === -1} act=${() => thumbed(-1)} />
        <${Tool} icon="better" name=${t("chat.improve")} pressed=${open === "better"}
          act=${() => setOpen(open === "better" ? "" : "better")} />`}
      <${Tool} icon="copy" name=${t("page.copy")} act=${() => copy(content)} />
      <${Tool} icon="again" name=${t("page.try_again")} act=${() => actions.again(id)} />
      <${Siblings} message=${message} open=${actions.open} />
    </div>
    ${receipts.filter(({ kind }) => kind !== "demonstration").map(receipt)}`}
    ${note &&
    html`<div class="notice row"><span class="grow">${note.text}</span>
      ${note.choice === "both_bad" &&
      html`<button type="button" class="button small" onClick=${() => actions.again(id)}>
          ${t("page.try_again")}</button>
        <button type="button" class="button small" onClick=${() => setOpen("better")}>
          ${t("chat.write_it")}</button>`}
    </div>`}
    ${note &&
    html`<${Reasons} key=${note.pair} given=${NO_REASONS} offered=${opening.reasons[note.choice]}
      save=${(tags, comment) => actions.explain(note.pair, tags, comment)} />`}
    ${asks}
    ${thumb && (open === "up" || open === "down") &&
    html`<${Reasons} key=${thumb.value} given=${thumb} offered=${opening.reasons[thumb.value]}
      save=${(tags, comment) => actions.thumb(id, thumb.value, tags, comment)} />`}
    ${open === "better" &&
    html`<${Editor} text=${better ?? content} name=${t("chat.save_better")} save=${saved}
      close=${() => setOpen("")} />`}
    ${better && open !== "better" &&
    html`<div class="better"><h2>${t("chat.my_version")}</h2><${Markdown} text=${better} />
      <div class="row">
        <button type="button" class="button small" onClick=${() => setOpen("better")}>
          ${t("chat.change")}</button>
        ${receipts.filter(({ kind }) => kind === "demonstration").map(receipt)}
      </div></div>`}
    ${before && last && html`<${Before} text=${before} compare=${(said) => vote(() => actions.compare(id, said))} />`}
  </article>`;
}

/** After a new try: is it better than the reply before? */
function Before({ text, compare }) {
  return html`<div class="notice">
    <div class="row"><span class="grow">${t("chat.better_than_before")}</span>
      ${["better", "same", "worse"].map(
        (said) => html`<button type="button" class="button small" key=${said} onClick=${() => compare(said)}>
          ${t(`chat.than_before.${said}`)}</button>`,
      )}
    </div>
    <details><summary>${t("chat.before")}</summary><${Markdown} text=${text} /></details>
  </div>`;
}

async function copy(text) {
  await attempt(() => copied(text));
  speak(t("page.copied"));
}
