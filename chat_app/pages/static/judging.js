// Judging, as the chat and Compare do it: choices, agreeing first, keys, and the reasons after it.
import { html, useLayoutEffect, useRef, useState } from "./kit.js";
import { attempt, speak } from "./page.js";
import { Chip, shortcut } from "./parts.js";
import { has, t } from "./words.js";

const CHOICES = ["a", "b", "tie", "both_bad"];
const COMMENT_CHARS = 2000;
const BURST_MS = 400; // a key so soon after another is a letter of a text, and no vote

/** The buttons to choose between two replies, or neither. */
export function Choices({ choose, skip, busy }) {
  return html`<div class="row choices">
    ${CHOICES.map(
      (choice, at) => html`<button type="button" class="button" key=${choice} disabled=${busy}
          aria-keyshortcuts=${at + 1} onClick=${() => choose(choice)}>
        ${t(`page.choice.${choice}`)} <kbd aria-hidden="true">${at + 1}</kbd></button>`,
    )}
    <${Skip} skip=${skip} />
  </div>`;
}

export function Skip({ skip }) {
  return html`<button type="button" class="button quiet" aria-keyshortcuts="S" onClick=${skip}>
    ${t("page.skip_it")} <kbd aria-hidden="true">S</kbd></button>`;
}

/** What a key says beside `Choices`; returns whether it meant something. */
export function chosenBy(key, { choose, skip }) {
  const at = "1234".indexOf(key);
  if (at >= 0) choose(CHOICES[at]);
  else if (key === "s") skip();
  else return false;
  return true;
}

/**
 * Let keys act while nothing is being typed; `press(key)` says whether a key meant something, and
 * nothing acts without it. With `letter` a text may begin at any time: it gets each key that means
 * nothing, and each within a burst, which is never a vote.
 */
export function useKeys(press, letter = null) {
  const now = useRef();
  now.current = { press, letter };
  const touched = useRef(performance.now()); // when a key was last pressed, or this was shown
  useLayoutEffect(() => { // as soon as it is shown: people who vote a lot press at once
    const act = (event) => {
      const burst = event.timeStamp - touched.current < BURST_MS;
      touched.current = event.timeStamp;
      const { press: means, letter: write } = now.current;
      if (!means || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      if (event.target.closest?.("input, textarea, select, [contenteditable], dialog")) return;
      if (event.key === "Enter" && event.target.closest?.("a, button")) return;
      if (!(write && burst) && means(shortcut(event))) event.preventDefault();
      else write?.(event.key);
    };
    document.addEventListener("keydown", act);
    return () => document.removeEventListener("keydown", act);
  }, []);
}

/**
 * Votes of a person who has not agreed that votes train the model wait until they do.
 *
 * `save(one, agree)` stores a vote, and agrees first if `agree` says so; it returns false if it
 * could not be stored without that. Returns `vote`, which saves one or lets it wait; whether one is
 * being saved, `busy`; and the question `asks`, while one waits.
 */
export function useVote(consented, save) {
  const [waits, setWaits] = useState(null); // {one}
  const [busy, setBusy] = useState(false);
  const send = async (one, agree) => {
    setBusy(true);
    const saved = await attempt(() => save(one, agree));
    setBusy(false);
    if (saved !== undefined) setWaits(saved ? null : { one });
  };
  const asks = waits &&
    html`<div class="notice row" role="alert">
      <span class="grow">${t("page.will_train")}</span>
      <button type="button" class="button primary small" disabled=${busy}
          onClick=${() => send(waits.one, true)}>${t("page.agree")}</button>
      <button type="button" class="button small" onClick=${() => setWaits(null)}>
        ${t("page.not_now")}</button>
    </div>`;
  return { vote: (one) => (consented ? send(one, false) : setWaits({ one })), busy, asks };
}

/** The name of a reason; one that no word is known for is shown as it is stored. */
export const reason = (tag) => (has(`page.reason.${tag}`) ? t(`page.reason.${tag}`) : tag);

/**
 * Reasons as chips, each saved at a tap; the comment is saved when the box is left.
 *
 * `given` has the `tags` and the `comment` so far, `offered` all tags; `save(tags, comment)` stores
 * both.
 */
export function Reasons({ given, offered, save }) {
  const [comment, setComment] = useState(given.comment);
  const [tags, setTags] = useState(given.tags);
  const [saved, setSaved] = useState(false);
  const stored = useRef(given.comment);
  const saving = useRef(Promise.resolve());
  const soon = (...said) => {
    stored.current = said[1];
    setSaved(false);
    const act = async () => (await save(...said), setSaved(true), speak(t("page.saved")));
    saving.current = saving.current.then(() => attempt(act)); // in order
  };
  const toggle = (tag) => {
    const next = tags.includes(tag) ? tags.filter((one) => one !== tag) : [...tags, tag];
    setTags(next);
    soon(next, comment.trim());
  };
  const leave = () => comment.trim() !== stored.current && soon(tags, comment.trim());
  return html`<div class="reasons row" role="group" aria-label=${t("page.why")}>
    <span class="quiet">${t("page.why")}</span>
    ${offered.map(
      (tag) => html`<${Chip} key=${tag} on=${tags.includes(tag)} toggle=${() => toggle(tag)}>
        ${reason(tag)}<//>`,
    )}
    <input class="input grow" dir="auto" maxlength=${COMMENT_CHARS} value=${comment}
      aria-label=${t("page.comment")} placeholder=${t("page.comment")}
      onInput=${(event) => setComment(event.target.value)} onBlur=${leave}
      onKeyDown=${(event) => event.key === "Enter" && event.target.blur()} />
    ${saved && html`<span class="quiet" aria-hidden="true">${t("page.saved")}</span>`}
  </div>`;
}

/** An order of labels in groups, best first, such as "A > B = C"; readers hear its words. */
export function Ordered({ groups }) {
  const sign = (same) => html`<span aria-hidden="true">${same ? " = " : " > "}</span>
    <span class="sr">${t(same ? "page.same" : "page.better")}</span>`;
  return groups.flatMap((group, place) =>
    group.map(
      (label, at) => html`${place + at > 0 && sign(at > 0)}<b>${label.toUpperCase()}</b>`,
    ),
  );
}
