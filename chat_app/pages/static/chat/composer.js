// The box for a message. Its draft stays in this browser until it is sent.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../kit.js";
import { call } from "../call.js";
import { config } from "../config.js";
import { number, t } from "../words.js";
import { Icon } from "./icons.js";

const ASK_MS = 400;

const key = (conversation) => `draft:${config.root}:${conversation ?? "new"}`;
const storage = (act) => {
  try {
    return act(localStorage);
  } catch {
    return null; // a browser may keep nothing
  }
};

/** Forget the draft of a conversation: it was sent. */
export const forgetDraft = (conversation) => storage((kept) => kept.removeItem(key(conversation)));

/** The box; `stop` is there while a reply is written. When `locked` there is a choice to make first. */
export function Composer({ conversation, send, stop, busy, locked }) {
  const [text, setText] = useState(() => storage((kept) => kept.getItem(key(conversation))) ?? "");
  const box = useRef();
  const most = useFits(text);
  const over = text.length - most;

  useLayoutEffect(() => { // before anybody can type
    if (!locked && !matchMedia("(pointer: coarse)").matches) box.current?.focus({ preventScroll: true });
  }, [locked]);
  useLayoutEffect(() => {
    if (!box.current) return;
    box.current.style.blockSize = "auto";
    box.current.style.blockSize = `${Math.min(box.current.scrollHeight + 2, 0.4 * innerHeight)}px`;
  }, [text]);

  const typed = (value) => {
    setText(value);
    storage((kept) => (value ? kept.setItem(key(conversation), value) : forgetDraft(conversation)));
  };
  const submit = async (event) => {
    event?.preventDefault();
    const said = box.current.value; // the state may be a key behind
    if (busy || locked || over > 0 || !said.trim()) return;
    setText("");
    if (!(await send(said))) typed(said);
  };
  const press = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  };

  return html`<form class="composer" onSubmit=${submit}>
    <textarea ref=${box} class="input" rows="1" dir="auto" aria-label=${t("chat.message")}
      aria-invalid=${over > 0} placeholder=${t(locked ? "chat.choose_first" : "chat.placeholder")} value=${text}
      onInput=${(event) => typed(event.target.value)} onKeyDown=${press}></textarea>
    ${stop
      ? html`<button type="button" class="button icon" onClick=${stop} aria-label=${t("chat.stop")}
          title=${t("chat.stop")}><${Icon} name="stop" /></button>`
      : html`<button type="submit" class="button primary icon" disabled=${busy || locked || over > 0 || !text.trim()}
          aria-label=${t("chat.send")} title=${t("chat.send")}><${Icon} name="send" /></button>`}
    ${over > 0 &&
    html`<p class="bad" role="alert">${t("chat.too_long", {
      most: number(most),
      over: number(over),
    })}</p>`}
  </form>`;
}

/** How many characters of a text the model can read. The server knows; few are surely right. */
function useFits(text) {
  const [most, setMost] = useState(config.message_chars);
  const present = useRef();
  present.current = text;
  useEffect(() => {
    if (text.length <= config.sure_chars) return undefined;
    const soon = setTimeout(async () => {
      const fits = await call("chat_fits", text).catch(() => null); // sending will tell
      if (present.current === text) setMost(fits ?? config.message_chars);
    }, ASK_MS);
    return () => clearTimeout(soon);
  }, [text]);
  return text.length <= config.sure_chars ? config.message_chars : most;
}
