// My votes and my data: two tabs; the address says which (`#data`).
import { html, mount, useEffect, useState } from "../kit.js";
import { config } from "../config.js";
import { Page } from "../page.js";
import { Tabs } from "../parts.js";
import { t } from "../words.js";
import { Data } from "./data.js";
import { Votes } from "./votes.js";

const PANELS = { votes: Votes, data: Data };
const asked = () => (location.hash === "#data" ? "data" : "votes");

function Mine() {
  const [tab, setTab] = useState(asked());
  useEffect(() => {
    const changed = () => setTab(asked());
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  const choose = (id) => {
    setTab(id);
    const address = location.pathname + location.search;
    history.replaceState(null, "", id === "data" ? `${address}#data` : address);
  };
  const tabs = Object.keys(PANELS).map((id) => ({ id, name: t(`votes.tab.${id}`) }));
  return html`<${Page} here="votes">
    <main class="page mine" id="main" tabindex="-1">
      <h1>${t(`votes.tab.${tab}`)}</h1>
      <${Tabs} tabs=${tabs} chosen=${tab} choose=${choose} label=${t("votes.tabs")} />
      ${tabs.map(
        ({ id }) => html`<section key=${id} role="tabpanel" id=${`panel-${id}`} class="stack panel"
            aria-labelledby=${`tab-${id}`} hidden=${id !== tab}>
          ${id === tab && html`<${PANELS[id]} />`}
        </section>`,
      )}
    </main>
  <//>`;
}

document.title = `${t("votes.title")} · ${config.brand.name}`;
mount(Mine);
