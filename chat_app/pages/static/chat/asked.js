// One more comparison, from outside the conversation: it tests how raters judge.
import { html } from "../kit.js";
import { call } from "../call.js";
import { toast } from "../page.js";
import { Markdown } from "../markdown.js";
import { t } from "../words.js";
import { Pair } from "./pair.js";

/** The question with its two replies; `close` hides it, answered or not. */
export function Asked({ asked, actions, close }) {
  const choose = async (choice) => {
    await call("chat_answer", asked.id, choice);
    toast(t("chat.thanks"));
    close();
  };
  return html`<section class="asked card" aria-label=${t("chat.one_more")}>
    <h2>${t("chat.one_more")}</h2>
    ${asked.prompt.map(
      ([role, content], at) => html`<div key=${at}><h3 class="quiet">${t(`chat.role.${role}`)}</h3>
        <${Markdown} text=${content} /></div>`,
    )}
    <${Pair} a=${asked.a} b=${asked.b} title=${t("chat.which")} actions=${actions} choose=${choose}
      skip=${close} />
  </section>`;
}
